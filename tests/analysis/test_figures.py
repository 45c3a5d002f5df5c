import itertools
import json

import matplotlib
import numpy as np
import pytest
from PIL import Image

from dgjax.algorithms.overlap import hard_masks, overlap_report
from dgjax.analysis import figures

DOMAINS = ("art_painting", "cartoon-like", "photo")
RNG = np.random.default_rng(0)


def probabilities(domains=3, layers=(("layer4", 64), ("fc", 3000))):
  return {name: RNG.uniform(size=(domains, units)) for name, units in layers}


def matrix(domains=DOMAINS):
  accuracy = RNG.uniform(size=(len(domains) + 1, len(domains) + 1)).tolist()
  return {"masks": [*domains, "combined"], "domains": [*domains, "sketch"], "accuracy": accuracy, "split": "val"}


def texts(figure):
  figure.draw_without_rendering()
  return {text.get_text() for text in figure.findobj(matplotlib.text.Text)}


def inside(figure):
  """Whether every visible text lies within the figure, and tick labels of an axis do not overlap each other."""
  figure.draw_without_rendering()
  canvas = figure.bbox
  for axes in figure.axes:
    for axis in (axes.xaxis, axes.yaxis):
      low, high = sorted(axis.get_view_interval())
      boxes = [tick.label1.get_window_extent() for tick in axis.get_major_ticks()
               if low <= tick.get_loc() <= high and tick.label1.get_visible()]
      assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
      assert all(box.x0 >= -1 and box.x1 <= canvas.x1 + 1 for box in boxes)
  return True


def test_units_are_sorted_by_the_pattern_of_their_domains():
  probs = np.array([[.1, .9, .7, .9, .2, .8], [.1, .9, .2, .8, .7, .3]])
  order = figures.order_units(hard_masks(probs), probs)
  # Shared (falling probability), on for the first only, for the second only, off.
  np.testing.assert_array_equal(order, [1, 3, 5, 2, 4, 0])


def test_masks_name_layers_domains_and_shares():
  probs = {"fc": np.array([[.9, .9, .1, .1], [.9, .1, .1, .1]])}
  found = texts(figures.masks(probs, ("clean", "inverted")))
  assert "fc, 4 units: 25% shared, 25% domain-specific, 50% off; mean IoU 0.50" in found
  assert {"clean", "inverted"} <= found


def test_no_masks_no_figure():
  with pytest.raises(ValueError, match="no masked layer"):
    figures.masks({}, DOMAINS)


def test_overlap_bars_are_the_report():
  report = overlap_report(probabilities(), DOMAINS)
  figure = figures.overlap_bars(report, DOMAINS)
  groups = ("art_painting-cartoon-like", "art_painting-photo", "cartoon-like-photo", "mean")
  expected = [report[f"iou/{layer}/{group}"] for layer in ("layer4", "fc", "all") for group in groups]
  assert [bar.get_height() for bar in figure.axes[0].patches] == pytest.approx(expected)
  assert "art_painting-\ncartoon-like" in texts(figure)


def test_mask_matrix_frames_own_domains_and_marks_the_target():
  values = matrix()
  figure = figures.mask_matrix(values)
  found = texts(figure)
  assert {f"{100 * a:.1f}" for row in values["accuracy"] for a in row} <= found
  assert {"sketch\n(target)", "combined", "sources: val split; target: test split"} <= found
  frames = [p for p in figure.axes[0].patches if isinstance(p, matplotlib.patches.Rectangle)]
  assert [round(p.get_x() + 0.44) for p in frames] == [round(p.get_y() + 0.44) for p in frames] == [0, 1, 2]


def test_curves_take_the_lines_that_hold_a_report():
  probs = probabilities()
  lines = [{"step": step, **overlap_report(probs, DOMAINS)} for step in (10, 20)]
  figure = figures.overlap_curves([{"step": 1, "train/loss": 2.0}, *lines, {"step": 20, "val/photo/accuracy": 0.5}])
  left = figure.axes[0]
  assert [line.get_label() for line in left.lines] == ["layer4", "fc", "all layers"]
  assert list(left.lines[0].get_xdata()) == [10, 20]
  assert list(left.lines[0].get_ydata()) == pytest.approx([lines[0]["iou/layer4/mean"]] * 2)


@pytest.mark.parametrize("figure", [
    lambda: figures.masks(probabilities(), DOMAINS),
    lambda: figures.masks(probabilities(5), ("infograph", "painting", "quickdraw", "real", "sketch")),
    lambda: figures.masks(probabilities(1, [("fc", 1)]), DOMAINS[:1]),
    lambda: figures.overlap_bars(overlap_report(probabilities(2, [("fc", 9)]), DOMAINS[:2]), DOMAINS[:2]),
    lambda: figures.overlap_bars(overlap_report(probabilities(), DOMAINS), DOMAINS),
    lambda: figures.mask_matrix(matrix()),
    lambda: figures.mask_matrix(matrix(DOMAINS[:1])),
    lambda: figures.overlap_curves([]),
    lambda: figures.overlap_curves([{"step": 1, **overlap_report(probabilities(1), DOMAINS[:1])}]),
])
def test_every_figure_is_written_and_its_labels_fit(figure, tmp_path):
  drawn = figure()
  assert inside(drawn)
  path = figures.save(drawn, tmp_path / "new" / "figure.png")
  with Image.open(path) as image:
    assert image.format == "PNG" and min(image.size) > 100


def test_save_all_draws_what_a_run_left(tmp_path):
  probs = probabilities()
  report = overlap_report(probs, DOMAINS)
  results = {"sources": list(DOMAINS), "overlap": report, "mask_matrix": matrix()}
  (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 5, **report}) + "\n")
  np.savez(tmp_path / "masks.npz", **probs)
  names = [path.name for path in figures.save_all(tmp_path, results)]
  assert names == ["masks.png", "overlap.png", "overlap_curves.png", "mask_matrix.png"]
  assert all((tmp_path / "figures" / name).stat().st_size > 1000 for name in names)


def test_save_all_of_a_method_without_masks_draws_nothing(tmp_path):
  assert figures.save_all(tmp_path, {"sources": ["a", "b"]}) == []
  assert not list(tmp_path.iterdir())


def test_images_in_the_plane_are_coloured_by_domain():
  domains = [*["sketch"] * 5, *["photo"] * 7]
  figure = figures.domains_in_plane({"low": RNG.normal(size=(12, 2)), "high": RNG.normal(size=(12, 2))}, domains)
  assert {"low", "high", "sketch", "photo"} <= texts(figure) and inside(figure)
  for axes in figure.axes:
    assert [len(points.get_offsets()) for points in axes.collections] == [5, 7]
  with pytest.raises(ValueError, match=r"panel 'low': positions of shape \(3, 2\) for 12 images"):
    figures.domains_in_plane({"low": np.zeros((3, 2))}, domains)
  with pytest.raises(ValueError, match="no panel"):
    figures.domains_in_plane({}, [])

import itertools
import json

import matplotlib
import numpy as np
import pytest
from PIL import Image

from dgjax.algorithms.overlap import hard_masks, overlap_report
from dgjax.analysis import curves, figures, mask_figures, plane, samples, sources, style

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


def test_bands_are_standard_errors_around_means():
  values = np.array([[0.1, 0.5], [0.2, 0.7], [0.6, 0.6]])
  figure = curves.bands({"dmg": ([5, 10], values), "a single seed": ([5, 10], values[:1])}, "accuracy")
  (axes,) = figure.axes
  np.testing.assert_allclose(axes.lines[0].get_ydata(), values.mean(0))
  (band,) = axes.collections  # one seed has none
  heights = band.get_paths()[0].vertices[:, 1]
  mean, error = values.mean(0), values.std(0, ddof=1) / np.sqrt(3)
  np.testing.assert_allclose([heights.min(), heights.max()], [(mean - error).min(), (mean + error).max()])
  assert inside(figure) and {"dmg", "a single seed", "step"} <= texts(figure)
  assert curves.bands({"dmg": ([1, 2], [[9.0, 0.1]])}, "loss", percent=False).axes[0].get_yscale() == "log"


def test_a_sweep_has_its_values_in_order_and_standard_errors():
  names = {f"algorithm.overlap_weight={i}, a long name": {1.0: [3.0, 5.0], 0.0: [2.0]} for i in range(9)}
  figure = curves.sweep({**names, "half": {1e-5: [1.0]}}, "algorithm.overlap_weight", "accuracy (%)")
  line, _, (bars,) = figure.axes[0].containers[0]
  assert line.get_xdata().tolist() == [0, 2] and line.get_ydata().tolist() == [2, 4]
  np.testing.assert_allclose([segment[:, 1] for segment in bars.get_segments()], [[2, 2], [3, 5]])
  assert inside(figure) and {"0", "1e-05", "1", "half"} <= texts(figure)


def test_units_are_sorted_by_the_pattern_of_their_domains():
  probs = np.array([[.1, .9, .7, .9, .2, .8], [.1, .9, .2, .8, .7, .3]])
  order = mask_figures.order_units(hard_masks(probs), probs)
  # Shared (falling probability), on for the first only, for the second only, off.
  np.testing.assert_array_equal(order, [1, 3, 5, 2, 4, 0])


def test_masks_name_layers_domains_and_shares():
  probs = {"fc": np.array([[.9, .9, .1, .1], [.9, .1, .1, .1]])}
  found = texts(mask_figures.masks(probs, ("clean", "inverted")))
  assert "fc, 4 units: 25% shared, 25% domain-specific, 50% off; mean IoU 0.50" in found
  assert {"clean", "inverted"} <= found


def test_no_masks_no_figure():
  with pytest.raises(ValueError, match="no masked layer"):
    mask_figures.masks({}, DOMAINS)


def test_overlap_bars_are_the_report():
  report = overlap_report(probabilities(), DOMAINS)
  figure = mask_figures.overlap_bars(report, DOMAINS)
  groups = ("art_painting-cartoon-like", "art_painting-photo", "cartoon-like-photo", "mean")
  expected = [report[f"iou/{layer}/{group}"] for layer in ("layer4", "fc", "all") for group in groups]
  assert [bar.get_height() for bar in figure.axes[0].patches] == pytest.approx(expected)
  assert "art_painting-\ncartoon-like" in texts(figure)


def test_mask_matrix_frames_own_domains_and_marks_the_target():
  values = matrix()
  figure = mask_figures.mask_matrix(values)
  found = texts(figure)
  assert {f"{100 * a:.1f}" for row in values["accuracy"] for a in row} <= found
  assert {"sketch\n(target)", "combined", "sources: val split; target: test split"} <= found
  frames = [p for p in figure.axes[0].patches if isinstance(p, matplotlib.patches.Rectangle)]
  assert [round(p.get_x() + 0.44) for p in frames] == [round(p.get_y() + 0.44) for p in frames] == [0, 1, 2]


def test_curves_take_the_lines_that_hold_a_report():
  probs = probabilities()
  lines = [{"step": step, **overlap_report(probs, DOMAINS)} for step in (10, 20)]
  others = {"step": 1, "train/loss": 2.0}, {"step": 20, "val/photo/accuracy": 0.5}
  figure = mask_figures.overlap_curves([others[0], *lines, others[1]])
  left = figure.axes[0]
  assert [line.get_label() for line in left.lines] == ["layer4", "fc", "all layers"]
  assert list(left.lines[0].get_xdata()) == [10, 20]
  assert list(left.lines[0].get_ydata()) == pytest.approx([lines[0]["iou/layer4/mean"]] * 2)


@pytest.mark.parametrize("figure", [
    lambda: mask_figures.masks(probabilities(), DOMAINS),
    lambda: mask_figures.masks(probabilities(5), ("infograph", "painting", "quickdraw", "real", "sketch")),
    lambda: mask_figures.masks(probabilities(1, [("fc", 1)]), DOMAINS[:1]),
    lambda: mask_figures.overlap_bars(overlap_report(probabilities(2, [("fc", 9)]), DOMAINS[:2]), DOMAINS[:2]),
    lambda: mask_figures.overlap_bars(overlap_report(probabilities(), DOMAINS), DOMAINS),
    lambda: mask_figures.mask_matrix(matrix()),
    lambda: mask_figures.mask_matrix(matrix(DOMAINS[:1])),
    lambda: mask_figures.overlap_curves([]),
    lambda: mask_figures.overlap_curves([{"step": 1, **overlap_report(probabilities(1), DOMAINS[:1])}]),
])
def test_every_figure_is_written_and_its_labels_fit(figure, tmp_path):
  drawn = figure()
  assert inside(drawn)
  path = style.save(drawn, tmp_path / "new" / "figure.png")
  with Image.open(path) as image:
    assert image.format == "PNG" and min(image.size) > 100
  assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_save_all_draws_what_a_run_left(tmp_path):
  probs = probabilities()
  report = overlap_report(probs, DOMAINS)
  results = {"sources": list(DOMAINS), "overlap": report, "mask_matrix": matrix()}
  lines = [{"step": 1, "train/loss": 2.0}, {"step": 5, **report}]
  (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
  np.savez(tmp_path / "masks.npz", **probs)
  names = [path.name for path in figures.save_all(tmp_path, results)]
  assert names == ["curves.png", "masks.png", "overlap.png", "overlap_curves.png", "mask_matrix.png"]
  assert all((tmp_path / "figures" / name).stat().st_size > 1000 for name in names)


def test_save_all_of_a_method_without_masks_draws_nothing(tmp_path):
  assert figures.save_all(tmp_path, {"sources": ["a", "b"]}) == []
  assert not list(tmp_path.iterdir())


def test_images_in_the_plane_are_coloured_by_name():
  domains, classes = [*["sketch"] * 5, *["photo"] * 7], ["dog", "cat"] * 6
  points = RNG.normal(size=(12, 2))
  figure = plane.points_in_plane({"by domain": (points, domains), "by class": (points, classes)},
                                   order=["cat", "dog"])
  assert {"by domain", "by class"} <= texts(figure) and inside(figure)
  found = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
  assert found == [["sketch", "photo"], ["cat", "dog"]]
  drawn = [[len(points.get_offsets()) for points in axes.collections if len(points.get_offsets())]
           for axes in figure.axes]
  assert drawn == [[5, 7], [6, 6]]
  with pytest.raises(ValueError, match=r"panel 'low': positions of shape \(3, 2\) for 12 names"):
    plane.points_in_plane({"low": (np.zeros((3, 2)), domains)})
  with pytest.raises(ValueError, match="no panel"):
    plane.points_in_plane({})


def test_wrong_ones_are_crosses_and_many_names_have_colours_of_their_own():
  names = [str(i // 2) for i in range(24)]
  right = np.arange(24) % 2 == 0
  figure = plane.points_in_plane({"by class": (RNG.normal(size=(24, 2)), names)}, right)
  groups = [points for points in figure.axes[0].collections if len(points.get_offsets())]
  assert len(groups) == 24 and inside(figure)
  assert len({tuple(points.get_facecolor()[0]) for points in groups}) == 12
  assert "circle: classified rightly, cross: wrongly" in texts(figure) | {figure.get_suptitle()}


def test_curves_hold_every_loss_and_every_domain():
  train = [{"step": step, "train/loss": 1 / step, "train/masks_overlap": 0.5, "train/accuracy": 0.1}
           for step in range(1, 101)]
  scores = [{"step": step, "val/photo/accuracy": 0.5, "val/sketch/accuracy": 0.6, "test/cartoon/accuracy": 0.4}
            for step in (50, 100)]
  figure = curves.curves([*train, *scores])
  left, right = ([line.get_label() for line in axes.lines if not line.get_label().startswith("_")]
                 for axes in figure.axes)
  assert left == ["masks overlap", "loss"]
  assert right == ["accuracy in training", "photo, validation", "sketch, validation", "cartoon, target"]
  assert inside(figure)


def test_smoothing_is_a_mean_over_what_is_there():
  values = np.array([1.0, 5.0, 3.0, 7.0, 9.0])
  np.testing.assert_allclose(curves.smooth(values, share=0.5), [3.0, 3.0, 5.0, 19 / 3, 8.0])
  np.testing.assert_array_equal(curves.smooth(values), values)


def test_bars_of_domains_and_of_their_mean():
  figure = sources.domain_bars({"oracle": {"a": 0.9, "b": 0.7}, "joint": {"a": 0.8}})
  heights = [bar.get_height() for bar in figure.axes[0].patches]
  assert heights[:3] == pytest.approx([90, 70, 80]) and heights[3] == pytest.approx(80)
  assert np.isnan(heights[4:]).all() and {"oracle", "joint", "mean"} <= texts(figure)


def test_rows_of_images():
  figure = samples.image_rows({"a": np.zeros((3, 4, 4, 3)), "b": np.ones((2, 4, 4, 1))}, ["one", "two", "three"])
  assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 1, 1, 0]
  assert {"one", "two", "three", "a", "b"} <= texts(figure)

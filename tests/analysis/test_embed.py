import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import run_of

from dgjax import console
from dgjax.analysis import embed, moved, samples
from dgjax.errors import UserError
from dgjax.models import dynamic, small

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def crossgrad():
  run = run_of("crossgrad")
  return run, embed.sample(run, count=80)


def test_a_sample_has_as_many_images_of_each_domain_as_the_data_set_has_them(crossgrad):
  run, images = crossgrad
  assert [images.domains.count(name) for name in (*run.sources, run.target)] == [20] * 4
  again = embed.sample(run, [run.sources[1]], count=20)
  np.testing.assert_array_equal(again.images, images.of(run.sources[1]).images)
  assert set(again.indices.tolist()) == {1} and again.domains == (run.sources[1],) * 20
  source = run.dataset.open(run.sources[1], "test")
  stored = [run.normalise({"image": source[i]["image"][None]})["image"] for i in range(len(source))]
  labels = {np.asarray(image).tobytes(): source[i]["label"] for i, image in enumerate(stored)}
  assert [labels[image[None].tobytes()] for image in again.images] == again.labels.tolist()
  with pytest.raises(UserError, match="no domain 'plane'.*did you mean 'plain'"):
    embed.sample(run, ["plane"])


def test_vectors_are_what_a_stage_sees(crossgrad):
  run, images = crossgrad
  for part, name, stage in (("embedding", "network", "fc"), ("pool", "network", "pool"), ("g", "domain_network", "fc")):
    want = run.algorithm.evaluate(run.state, jnp.asarray(images.images), stop=stage, name=name)
    np.testing.assert_allclose(embed.vectors(run, images, part), want.reshape(80, -1), rtol=1e-4, atol=1e-6)
  with pytest.raises(UserError, match="no stage 'pol'.*did you mean 'pool'"):
    embed.vectors(run, images, "pol")
  with pytest.raises(UserError, match="this run is of aggregate"):
    embed.vectors(run_of("aggregate"), images, "g")


def test_right_is_the_runs_own_prediction(crossgrad):
  run, images = crossgrad
  logits = run.algorithm.predict(run.state, jnp.asarray(images.images))
  np.testing.assert_array_equal(embed.right(run, images), np.asarray(logits).argmax(1) == images.labels)


def test_images_move_up_the_domain_loss_by_no_more_than_the_clip_allows(crossgrad):
  run, images = crossgrad
  seen = images.of(run.sources[0])
  after = embed.moved(run, seen)
  assert after.domains == (f"{run.sources[0]}, moved",) * 20
  change = after.images - seen.images
  hparams = run.state.hparams
  assert 0 < np.abs(change).max() <= float(hparams["clip"] * hparams["epsilon"]) + 1e-5

  def loss(x):
    logits = run.algorithm.evaluate(run.state, jnp.asarray(x), name="domain_network")
    return -jax.nn.log_softmax(logits)[np.arange(len(x)), seen.indices].mean()

  assert loss(after.images) > loss(seen.images)
  # An image's move does not depend on those beside it.
  np.testing.assert_allclose(moved.move(run, seen.images[:3], seen.labels[:3], seen.indices[:3]), after.images[:3],
                             rtol=1e-4, atol=1e-5)
  with pytest.raises(UserError, match="away from a source domain"):
    embed.moved(run, images.of(run.target))
  with pytest.raises(UserError, match="only CrossGrad and LabelGrad move images"):
    embed.moved(run_of("aggregate"), seen)


def test_coefficients_of_a_dynamic_network_and_of_its_halves():
  network = small.smallnet(10, widths=(4, 4, 4), block_conv=dynamic.constructor("subspace", k=3))
  run = run_of("aggregate", network)
  images = embed.sample(run, count=8)
  whole = embed.vectors(run, images, "coefficients")
  assert whole.shape == (8, 9)
  halves = [embed.vectors(run, images, f"coefficients/{half}") for half in ("low", "high")]
  np.testing.assert_array_equal(np.concatenate(halves, axis=1), whole)
  with pytest.raises(UserError, match="coefficients/low or coefficients/high"):
    embed.vectors(run, images, "coefficients/middle")


@pytest.mark.parametrize("how", embed.HOW)
def test_groups_stay_groups_in_the_plane(how):
  points = np.concatenate([RNG.normal(centre, 0.1, size=(12, 70)) for centre in (0, 3)])
  plane = embed.plane(points, how)
  assert plane.shape == (24, 2) and plane.dtype == np.float32
  np.testing.assert_array_equal(plane, embed.plane(points, how))
  a, b = plane[:12], plane[12:]
  assert np.linalg.norm(a.mean(0) - b.mean(0)) > 2 * max(a.std(), b.std())
  assert embed.plane(points[:2], how).shape == (2, 2)
  assert not embed.plane(np.full((5, 70), 0.3), how).any()  # all at one place


def test_what_cannot_be_placed_is_said():
  with pytest.raises(UserError, match="at least 2"):
    embed.plane(np.zeros((1, 3)))
  with pytest.raises(UserError, match="no way 'tsen'.*did you mean 'tsne'"):
    embed.plane(np.zeros((3, 3)), "tsen")


def test_a_panel_for_each_part_and_colour(crossgrad):
  run, images = crossgrad
  figure = embed.draw(run, images, ("g", "embedding"), ("domain", "correct"), "pca")
  assert [axes.get_title() for axes in figure.axes] == ["PCA of g, by domain", "PCA of embedding, by domain"]
  figure = embed.draw(run, images, ("g",), ("correct",), "pca")
  assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] in (["right", "wrong"], ["wrong"])
  with pytest.raises(UserError, match="--by: no 'clas'.*did you mean 'class'"):
    embed.draw(run, images, by=("clas",))


def test_samples_are_one_of_each_class_as_pixels(crossgrad):
  run, _ = crossgrad
  rows = samples.rows(run, "test", change=True)
  assert list(rows) == [*(row for name in run.sources for row in (name, f"{name}, moved")), f"{run.target} (target)"]
  assert all(images.shape == (10, 16, 16, 3) and 0 <= images.min() < images.max() <= 1 for images in rows.values())
  chosen = samples.one_of_each(embed.sample(run, [run.sources[0]], "test", samples.LOOKED_AT))
  assert chosen.labels.tolist() == list(range(10))


def test_mistakes_are_one_line(tmp_path, capsys):
  for module in (embed, samples):
    assert console.run(module.main, [str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and err.count("\n") == 1

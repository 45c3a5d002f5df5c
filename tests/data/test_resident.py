import itertools

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from PIL import Image

from dgjax import data
from dgjax.data import augment, pipeline, resident, transforms
from dgjax.data.dataset import Source

KEYS = dict(batch_size=6, seed=0, image_size=8, augment="none")
gather = jax.jit(resident.gather)


@pytest.fixture(scope="module")
def everywhere():
  return NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec())


@pytest.fixture(scope="module")
def here():
  return jax.sharding.SingleDeviceSharding(jax.devices()[0])


def build(dataset, streams, evaluations, sharding, name="none", **keys):
  plan = resident.Plan(dataset, [source for stream in streams for source in stream.sources],
                       [batches.source for batches in evaluations], 8, name)
  return plan.build(sharding, 2, **keys)


def assert_same(got, wanted):
  for (path, a), (other, b) in zip(*map(jax.tree_util.tree_leaves_with_path, (got, wanted)), strict=True):
    assert path == other and a.dtype == b.dtype, (path, other, a.dtype, b.dtype)
    np.testing.assert_array_equal(a, b)


def without_keys(batch):
  return {name: value if not isinstance(value, dict) else without_keys(value)
          for name, value in batch.items() if name != "key"}


def assert_streams_agree(stream, store, steps=14, chunk=7):
  """The batches gathered from the device are those streamed, in chunks of several steps."""
  streamed, index = stream.iterator(), stream.indices(store)
  for step in range(0, steps, chunk):
    several = index(step, chunk)
    for number, wanted in enumerate(itertools.islice(streamed, chunk)):
      found = gather(store.arrays, jax.tree.map(lambda x: x[number], several))  # noqa: B023
      assert_same(without_keys(found), without_keys(wanted))


@pytest.mark.parametrize("mixing", pipeline.MIXINGS)
def test_batches_are_the_streams(uneven, here, mixing):
  stream = pipeline.train(uneven, uneven.domains, mixing=mixing, **KEYS)
  store, _ = build(uneven, [stream], [], here)
  assert_streams_agree(stream, store)


def test_batches_for_adaptation_are_the_streams_and_have_no_labels(uneven, everywhere):
  keys = KEYS | {"process_index": 1, "process_count": 2}
  stream = pipeline.with_target(pipeline.train(uneven, ("clay", "ink"), **keys),
                                pipeline.unlabelled(uneven, "wool", **keys | {"batch_size": 4}))
  store, _ = build(uneven, [stream], [], everywhere)
  assert_streams_agree(stream, store)
  index = stream.indices(store)(0, 1)
  assert index["target"].keys() == {"row", "key"}
  assert gather(store.arrays, jax.tree.map(lambda x: x[0], index))["target"].keys() == {"image", "key"}


@pytest.mark.parametrize("name", ["writers", "speech"])
def test_groups_and_arrays(request, here, name):
  dataset = request.getfixturevalue(name)
  stream = pipeline.train(dataset, ("seen",), **KEYS)
  store, _ = build(dataset, [stream], [], here)
  assert_streams_agree(stream, store)


@pytest.mark.parametrize("centre_crop", [False, True])
def test_evaluation_is_the_streams(uneven, here, centre_crop):
  dataset = data.Dataset(**{**vars(uneven), "centre_crop": centre_crop})
  batches = pipeline.evaluate(dataset, "wool", "train", batch_size=4, image_size=8, domain_index=2)
  training, store = build(dataset, [pipeline.train(dataset, ("clay",), **KEYS)], [batches], here)
  assert (training is store) != centre_crop
  index = batches.indices(store)
  assert {name: value.shape for name, value in index.items()} == dict.fromkeys(("row", "domain", "mask"), (4, 4))
  for number, wanted in enumerate(batches):
    assert_same(gather(store.arrays, {name: value[number] for name, value in index.items()}), wanted)


def test_runs_with_splits_of_their_own_share_a_store(tmp_path, config, draw, here, monkeypatch):
  root = draw(tmp_path / "images", lambda domain, name: 10)
  settings = config("folder", dir=str(root), val_fraction=0.3, test_fraction=0.2)
  datasets = [data.load(settings, seed) for seed in (0, 1)]
  streams = [pipeline.train(dataset, ("clay", "ink"), **KEYS | {"seed": seed}) for seed, dataset in enumerate(datasets)]
  assert (streams[0].sources[0].indices != streams[1].sources[0].indices).any()
  read, original = [], Source.image
  monkeypatch.setattr(Source, "image", lambda self, index, *rest: (
    read.append((self.domain, int(self.indices[index]))), original(self, index, *rest))[1])
  store, _ = build(datasets[0], streams, [], here)
  assert len(read) == len(set(read)) == store.nothing  # each example once
  monkeypatch.undo()
  for stream in streams:
    assert_streams_agree(stream, store)


def test_images_to_be_cropped_on_the_device(tmp_path, config, here):
  """Solid halves, left dark and right bright, in two sizes."""
  sizes = {"a": (20, 30), "b": (9, 5)}
  for name, (width, height) in sizes.items():
    (tmp_path / "one" / name).mkdir(parents=True)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 2 :] = 200
    Image.fromarray(pixels).save(tmp_path / "one" / name / "0.png")
  dataset = data.load(config("folder", dir=str(tmp_path), val_fraction=0.0, test_fraction=0.0), 0)
  for name, side, sides in (("paper", 9, sizes), ("office", 9, {"a": (9, 9), "b": (9, 9)}),
                            ("domainnet", 9, {"a": (9, 9), "b": (9, 9)}), ("shorter", 9, sizes), ("visda", 8, None)):
    stream = pipeline.train(dataset, ("one",), **KEYS | {"augment": name})
    store, _ = build(dataset, [stream], [], here, name)
    assert store.arrays["image"].shape == (2, side, side, 3)
    label = {"a": 0, "b": 1}
    if sides is None:
      assert "sides" not in store.arrays
    else:
      found = dict(zip(store.arrays["label"].tolist(), store.arrays["sides"].tolist(), strict=True))
      assert found == {label[key]: list(value) for key, value in sides.items()}
    batch = gather(store.arrays, jax.tree.map(lambda x: x[0], stream.indices(store)(0, 1)))
    shape = jax.eval_shape(augment.on_device(name, 8), batch)
    assert shape["image"].shape == (6, 8, 8, 3) and shape.keys() == {"image", "label", "domain"}
  small = pipeline.train(dataset, ("one",), **KEYS | {"augment": "paper", "image_size": 40})
  plan = resident.Plan(dataset, small.sources, [], 40, "paper")
  assert plan.build(here, 1)[0].arrays["image"].shape[1] == 30  # the longest side there is


def test_what_fits(uneven, monkeypatch):
  stream = pipeline.train(uneven, ("clay", "ink"), **KEYS)
  batches = pipeline.evaluate(uneven, "ink", "train", batch_size=4, image_size=8)
  device = jax.devices()[0]
  plans = {name: resident.Plan(uneven, [*stream.sources, *stream.sources], [batches.source], 8, name)
           for name in ("none", "paper")}
  sizes = {"none": 13 * 8 * 8 * 3, "paper": 13 * transforms.enlarged(8) ** 2 * 3 + 8 * 8 * 8 * 3}
  assert {name: plan.bytes for name, plan in plans.items()} == sizes
  for devices in (1, 3):  # on a CPU each has a copy of its own
    for spare, fits in ((0, True), (-4, False)):
      monkeypatch.setattr(resident, "_main_memory", lambda: 4 * devices * sizes["none"] + spare)  # noqa: B023
      assert plans["none"].fits([device] * devices) is fits


def test_main_memory_is_told():
  assert resident._main_memory() > 1 << 20


def test_building_can_be_stopped(uneven, here):
  def stop():
    raise KeyboardInterrupt
  with pytest.raises(KeyboardInterrupt):
    build(uneven, [pipeline.train(uneven, ("clay",), **KEYS)], [], here, pause=stop)

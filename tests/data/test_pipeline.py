import collections
import dataclasses
import itertools
import os
import types

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from PIL import Image

from dgjax import data
from dgjax.data import augment, pipeline
from dgjax.data.dataset import Source
from dgjax.errors import UserError

DOMAINS = ("clay", "ink", "wool")


def stream(dataset, domains=DOMAINS, **keys):
  return pipeline.train(dataset, domains, **dict(batch_size=6, seed=0, image_size=8, augment="none") | keys)


def take(iterator, count):
  return list(itertools.islice(iterator, count))


def names(batches):
  """Returns what tells the generated images apart: their colour."""
  return [tuple(int(v) for v in image[0, 0]) for batch in batches for image in batch["image"]]


def assert_same(first, second):
  assert len(first) == len(second)
  for a, b in zip(first, second, strict=True):
    assert a.keys() == b.keys()
    for key in a:
      np.testing.assert_array_equal(a[key], b[key])


def test_batch_layout(uneven):
  batch = next(stream(uneven).iterator())
  assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
    "image": ((6, 8, 8, 3), "uint8"), "label": ((6,), "int32"), "domain": ((6,), "int32")}


def test_domain_and_label_belong_to_the_image(uneven):
  truth = {}
  for domain in uneven.domains:
    source = uneven.open(domain, "train")
    for i in range(len(source)):
      truth[tuple(int(v) for v in source[i]["image"][0, 0])] = (domain, source[i]["label"])
  order = ("wool", "clay")
  for batch in take(stream(uneven, order).iterator(), 6):
    for name, label, domain in zip(names([batch]), batch["label"], batch["domain"], strict=True):
      assert truth[name] == (order[domain], label)


@pytest.mark.parametrize("batch_size", [1, 4, 6, 27, 40])
def test_pooled_epochs_hold_every_example_once(uneven, batch_size):
  flow = stream(uneven, batch_size=batch_size)
  assert flow.examples_per_epoch == 27 and flow.steps_per_epoch == 27 / batch_size
  seen = names(take(flow.iterator(), -(-81 // batch_size)))
  epochs = [seen[start : start + 27] for start in (0, 27, 54)]
  for epoch in epochs:
    assert len(set(epoch)) == 27
  assert epochs[0] != epochs[1] != epochs[2]


def test_seeds_do_not_repeat_each_other(uneven):
  first, second = ([names([batch])[0] for batch in take(stream(uneven, batch_size=1, seed=seed).iterator(), 81)]
                   for seed in (0, 1))
  assert first[27:54] != second[:27]
  assert first[:27] != second[:27]


def test_balanced_batches_and_paces(uneven):
  batches = take(stream(uneven, mixing="balanced").iterator(), 28)
  seen = collections.defaultdict(list)
  for batch in batches:
    assert collections.Counter(batch["domain"].tolist()) == {0: 2, 1: 2, 2: 2}
    for name, domain in zip(names([batch]), batch["domain"], strict=True):
      seen[int(domain)].append(name)
  for domain, length in enumerate((5, 8, 14)):
    epochs = [seen[domain][start : start + length] for start in range(0, 56 - length + 1, length)]
    assert all(len(set(epoch)) == length for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_balanced_domains_are_shuffled_apart(digits):
  # the same digits in every domain: with one seed for all, the domains would show the same digit in the same row
  batches = take(stream(digits, ("plain", "inverted"), mixing="balanced", batch_size=32).iterator(), 2)
  labels = np.concatenate([batch["label"].reshape(-1, 2) for batch in batches])
  assert (labels[:, 0] != labels[:, 1]).mean() > 0.5


@pytest.mark.parametrize("mixing", pipeline.MIXINGS)
@pytest.mark.parametrize("processes", [2, 3, 6])
def test_processes_share_the_global_batch_in_contiguous_rows(uneven, mixing, processes):
  keys = dict(mixing=mixing, augment="paper")
  whole = take(stream(uneven, **keys).iterator(), 7)
  parts = [take(stream(uneven, process_index=i, process_count=processes, **keys).iterator(), 7)
           for i in range(processes)]
  joined = [{key: np.concatenate([part[key] for part in step]) for key in step[0]} for step in zip(*parts, strict=True)]
  assert_same(joined, whole)


def test_augmentation_depends_on_seed_epoch_and_example_alone(uneven):
  finish = jax.jit(augment.on_device("paper", 8))

  def images(seed=0, count=54, **keys):
    flow = stream(uneven, augment="paper", seed=seed, batch_size=1, **keys)
    return {(int(domain), np.asarray(image).tobytes()) for batch in map(finish, take(flow.iterator(), count))
            for image, domain in zip(batch["image"], batch["domain"], strict=True)}

  # an epoch of "clay" is the same images however many others are mixed in
  alone = {key for key in images(domains=("clay",))}
  pooled = {key for key in images(domains=("clay", "wool")) if key[0] == 0}
  first_epoch = images(domains=("clay",), count=5)
  assert first_epoch <= alone and first_epoch <= pooled
  assert len(alone) > 5  # later epochs are augmented anew
  assert not first_epoch & images(seed=1, domains=("clay",))


@pytest.mark.parametrize("threads,prefetch", [(1, 1), (2, 4), (4, 2)])
def test_threads_change_nothing(uneven, threads, prefetch):
  assert_same(take(stream(uneven, augment="paper", threads=threads, prefetch=prefetch).iterator(), 12),
              take(stream(uneven, augment="paper").iterator(), 12))


@pytest.mark.parametrize("mixing", pipeline.MIXINGS)
@pytest.mark.parametrize("at", [0, 1, 9])
def test_state_resumes_exactly(uneven, mixing, at):
  keys = dict(mixing=mixing, augment="paper")
  whole = take(stream(uneven, **keys).iterator(), 14)
  first = stream(uneven, **keys).iterator()
  take(first, at)
  state = first.get_state()
  second = stream(uneven, **keys).iterator()
  take(second, 3)
  second.set_state(state)
  assert_same(take(second, 14 - at), whole[at:])


def test_iterator_is_saved_by_orbax(uneven, tmp_path):
  first = stream(uneven).iterator()
  take(first, 4)
  with ocp.CheckpointManager(tmp_path) as manager:
    manager.save(4, args=ocp.args.Composite(data=grain.checkpoint.CheckpointSave(first)))
    manager.wait_until_finished()
    second = stream(uneven).iterator()
    manager.restore(4, args=ocp.args.Composite(data=grain.checkpoint.CheckpointRestore(second)))
  assert_same(take(second, 5), take(first, 5))


def test_an_iterator_counts_the_time_it_was_waited_for(uneven, monkeypatch):
  clock = itertools.count()
  monkeypatch.setattr(pipeline, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
  iterator = stream(uneven).iterator()
  take(iterator, 3)
  assert iterator.waited == 3


def test_threads_and_batches_ahead():
  options = pipeline.read_options(0, 0)
  assert options.num_threads == len(os.sched_getaffinity(0))
  assert options.prefetch_buffer_size > options.num_threads  # else some threads would have nothing to do
  options = pipeline.read_options(3, 1)
  assert (options.num_threads, options.prefetch_buffer_size) == (3, 1)


def test_large_photographs_are_decoded_smaller_for_crops(tmp_path, config):
  for name in "ab":
    (tmp_path / "one" / name).mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(tmp_path / "one" / name / "0.jpg")
  dataset = data.load(config("folder", dir=str(tmp_path), val_fraction=0.0, test_fraction=0.0), 0)
  source = dataset.open("one", "train")
  sizes = {smallest: source.image(0, smallest)[0].size for smallest in (None, 25, 24, 12)}
  assert sizes == {None: (64, 48), 25: (64, 48), 24: (32, 24), 12: (16, 12)}
  assert source.sides(0) == (64, 48)


def adapting(dataset, target="wool", size=4, **keys):
  keys = dict(seed=0, image_size=8, augment="paper") | keys
  return pipeline.with_target(pipeline.train(dataset, ("clay", "ink"), batch_size=6, **keys),
                              pipeline.unlabelled(dataset, target, batch_size=size, **keys))


def test_a_batch_for_adaptation_has_the_targets_images_and_no_labels(uneven):
  flow = adapting(uneven)
  batch = next(flow.iterator())
  assert {key: value.shape for key, value in batch["source"].items()} == {
    "image": (6, 8, 8, 3), "label": (6,), "domain": (6,), "key": (6, 4)}
  assert {key: (value.shape, value.dtype.name) for key, value in batch["target"].items()} == {
    "image": ((4, 8, 8, 3), "uint8"), "key": ((4, 4), "uint32")}
  assert flow.examples_per_epoch == 13 and flow.steps_per_epoch == 13 / 6
  alone = stream(uneven, ("clay", "ink"), augment="paper").iterator()
  assert_same([batch["source"]], take(alone, 1))  # the target changes nothing of the sources
  assert flow.iterator().get_state() == {"next_index": 0}


def test_each_part_goes_through_its_examples_at_its_own_pace(uneven):
  batches = take(adapting(uneven, augment="none").iterator(), 13)
  for part, length in (("source", 13), ("target", 14)):
    seen = names([batch[part] for batch in batches])
    epochs = [seen[start : start + length] for start in range(0, len(seen) - length + 1, length)]
    assert len(epochs) >= 3 and all(len(set(epoch)) == length for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert set(epochs[0]) == set(epochs[1])


def test_a_target_is_shuffled_on_its_own(uneven):
  alone = names(take(stream(uneven, ("wool",), batch_size=14).iterator(), 1))
  target = names(take(pipeline.unlabelled(uneven, "wool", batch_size=14, seed=0, image_size=8,
                                          augment="none").iterator(), 1))
  assert alone != target and set(alone) == set(target)


@pytest.mark.parametrize("processes", [2])
def test_processes_share_both_parts(uneven, processes):
  whole = take(adapting(uneven).iterator(), 7)
  parts = [take(adapting(uneven, process_index=i, process_count=processes).iterator(), 7) for i in range(processes)]
  for name in ("source", "target"):
    joined = [{key: np.concatenate([part[name][key] for part in step]) for key in step[0][name]}
              for step in zip(*parts, strict=True)]
    assert_same(joined, [batch[name] for batch in whole])


@pytest.mark.parametrize("at", [0, 9])
def test_both_positions_are_in_one_checkpoint(uneven, tmp_path, at):
  whole = take(adapting(uneven).iterator(), 14)
  first, second = adapting(uneven).iterator(), adapting(uneven, threads=3).iterator()
  take(first, at)
  take(second, 3)
  with ocp.CheckpointManager(tmp_path) as manager:
    manager.save(at, args=ocp.args.Composite(data=grain.checkpoint.CheckpointSave(first)))
    manager.wait_until_finished()
    manager.restore(at, args=ocp.args.Composite(data=grain.checkpoint.CheckpointRestore(second)))
  rest = take(second, 14 - at)
  for name in ("source", "target"):
    assert_same([batch[name] for batch in rest], [batch[name] for batch in whole[at:]])


def with_other_labels(dataset, domain):
  """The data set with every label of one domain changed."""
  class Relabelled(Source):
    def image(self, index, smallest=None):
      image, label = super().image(index, smallest)
      return image, (label + 1 + index) % len(dataset.classes)

  def opener(name, split):
    source = dataset.opener(name, split)
    if name == domain:
      source.__class__ = Relabelled
    return source

  return dataclasses.replace(dataset, opener=opener)


def test_the_targets_labels_change_no_batch(uneven):
  other = with_other_labels(uneven, "wool")
  assert [other.open("wool", "train")[i]["label"] for i in range(14)] != [
    uneven.open("wool", "train")[i]["label"] for i in range(14)]
  for mine, yours in zip(take(adapting(uneven).iterator(), 9), take(adapting(other).iterator(), 9), strict=True):
    assert_same([mine["source"], mine["target"]], [yours["source"], yours["target"]])


def test_which_images_of_a_target_are_adapted_to(uneven, writers):
  assert uneven.source_test and uneven.adaptation_split("wool") == "train"
  on_all = dataclasses.replace(uneven, source_test=False)  # a domain is scored on all of its images
  assert on_all.adaptation_split("wool") == "test"
  assert writers.adaptation_split("unseen") == "test" and not writers.splits["unseen"]["train"]
  with pytest.raises(UserError, match=r"no domain 'wol' \(did you mean 'wool'"):
    uneven.adaptation_split("wol")


@pytest.mark.parametrize("batch_size", [1, 4, 12, 14, 32])
def test_evaluation_covers_every_image_once(uneven, batch_size):
  batches = pipeline.evaluate(uneven, "wool", "train", batch_size=batch_size, image_size=8, domain_index=2)
  got = list(batches)
  assert len(got) == len(batches) == -(-14 // batch_size) and batches.examples == 14
  for batch in got:
    assert batch["image"].shape == (batch_size, 8, 8, 3) and batch["mask"].dtype == bool
    assert (batch["domain"] == 2).all()
    assert not batch["image"][~batch["mask"]].any()
  mask = np.concatenate([batch["mask"] for batch in got])
  assert mask.sum() == 14 and mask[:14].all()
  source = uneven.open("wool", "train")
  kept = [name for name, ok in zip(names(got), mask, strict=True) if ok]
  assert kept == [tuple(int(v) for v in source[i]["image"][0, 0]) for i in range(14)]
  labels = np.concatenate([batch["label"] for batch in got])[mask]
  assert labels.tolist() == [source[i]["label"] for i in range(14)]
  assert_same(list(batches), got)  # and again


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("batch_size", [4, 12, 32])
def test_evaluation_over_processes(uneven, processes, batch_size):
  keys = dict(batch_size=batch_size, image_size=8)
  whole = list(pipeline.evaluate(uneven, "wool", "train", **keys))
  parts = [list(pipeline.evaluate(uneven, "wool", "train", process_index=i, process_count=processes, **keys))
           for i in range(processes)]
  assert {len(part) for part in parts} == {len(whole)}
  joined = [{key: np.concatenate([part[key] for part in step]) for key in step[0]} for step in zip(*parts, strict=True)]
  assert_same(joined, whole)


@pytest.fixture(params=["writers", "speech"])
def grouped(request):
  """A data set of many domains, of images or of float32 arrays."""
  return request.getfixturevalue(request.param)


def seen(dataset, **keys):
  return stream(dataset, ("seen",), **keys)


def test_groups_are_the_domains_of_training_batches(grouped):
  source = grouped.open("seen", "train")
  shape, dtype = grouped.example(8)
  truth = {}
  for i in range(len(source)):
    image, _ = source.image(i)
    fitted = image if grouped.array_shape else image.resize((8, 8))
    truth[np.asarray(fitted).tobytes()] = (source[i]["label"], source.groups[i])
  assert len(truth) == len(source)
  flow = seen(grouped, batch_size=len(source))
  for batch in take(flow.iterator(), 2):  # each example once an epoch
    assert batch["image"].shape == (len(source), *shape) and batch["image"].dtype == dtype
    found = {image.tobytes(): (label, domain) for image, label, domain in
             zip(batch["image"], batch["label"], batch["domain"], strict=True)}
    assert found == truth
  assert set(batch["domain"]) == set(range(len(grouped.groups)))


def test_groups_and_arrays_over_processes(grouped):
  whole = take(seen(grouped).iterator(), 9)
  parts = [take(seen(grouped, process_index=i, process_count=3).iterator(), 9) for i in range(3)]
  joined = [{key: np.concatenate([part[key] for part in step]) for key in step[0]} for step in zip(*parts, strict=True)]
  assert_same(joined, whole)


def test_groups_and_arrays_resume_exactly(grouped):
  whole = take(seen(grouped).iterator(), 12)
  first, second = seen(grouped).iterator(), seen(grouped, threads=3).iterator()
  take(first, 7)
  second.set_state(first.get_state())
  assert_same(take(second, 5), whole[7:])


@pytest.mark.parametrize("domain,split", [("seen", "val"), ("unseen", "test")])
def test_groups_and_arrays_are_evaluated_once(grouped, domain, split):
  source = grouped.open(domain, split)
  keys = dict(batch_size=4, image_size=8)
  whole = list(pipeline.evaluate(grouped, domain, split, **keys))
  parts = [list(pipeline.evaluate(grouped, domain, split, process_index=i, process_count=2, **keys)) for i in range(2)]
  joined = [{key: np.concatenate([part[key] for part in step]) for key in step[0]} for step in zip(*parts, strict=True)]
  assert_same(joined, whole)
  mask = np.concatenate([batch["mask"] for batch in whole])
  assert mask.sum() == len(source) == grouped.splits[domain][split]
  labels = np.concatenate([batch["label"] for batch in whole])[mask]
  assert labels.tolist() == [source[i]["label"] for i in range(len(source))]
  corner = np.concatenate([batch["image"] for batch in whole])[mask][:, 0, 0, 0]
  assert corner.tolist() == [source[i]["image"][0, 0, 0] for i in range(len(source))]


def test_requests_that_groups_and_arrays_refuse(writers, speech):
  with pytest.raises(UserError, match="augment=paper is for images, and data set 'speech_commands' has none: use none"):
    seen(speech, augment="paper")
  with pytest.raises(UserError, match="mixing=balanced is for a few source domains, .*'handwriting' trains on 5"):
    seen(writers, mixing="balanced")
  with pytest.raises(UserError, match="split 'test' of domain 'seen' of data set 'handwriting' is empty"):
    pipeline.evaluate(writers, "seen", "test", batch_size=2, image_size=8)


def test_evaluation_does_not_augment(uneven):
  source = uneven.open("clay", "train")
  batch = next(iter(pipeline.evaluate(uneven, "clay", "train", batch_size=5, image_size=12)))
  for image, example in zip(batch["image"], range(5), strict=True):
    assert (image == source[example]["image"][0, 0]).all()


def test_leaving_an_evaluation_early_closes_it(uneven):
  for _ in range(3):
    next(iter(pipeline.evaluate(uneven, "wool", "train", batch_size=2, image_size=8)))


@pytest.mark.parametrize("call,message", [
  (lambda d: stream(d, ("clay", "wol")), r"no domain 'wol' \(did you mean 'wool'\?\)"),
  (lambda d: stream(d, ()), "no source domains: choose from clay, ink, wool"),
  (lambda d: stream(d, augment="papper"), "did you mean 'paper'"),
  (lambda d: stream(d, mixing="balance"), "did you mean 'balanced'"),
  (lambda d: stream(d, batch_size=7, mixing="balanced"), "batch_size 7 .* by the 3 source domains.*use 6"),
  (lambda d: stream(d, batch_size=7, process_count=2), "batch_size 7 is not divisible by the 2 processes: use 6"),
  (lambda d: adapting(d, size=5, process_count=2), "target_batch_size 5 is not divisible by the 2 processes: use 4"),
  (lambda d: adapting(d, target="wol"), r"no domain 'wol' \(did you mean 'wool'\?\)"),
  (lambda d: stream(d, batch_size=0), "batch_size must be at least 1"),
  (lambda d: stream(d, image_size=0), "image_size must be at least 1"),
  (lambda d: pipeline.evaluate(d, "clay", "val", batch_size=2, image_size=8), "'val' of domain 'clay'.* is empty"),
  (lambda d: pipeline.evaluate(d, "clay", "vall", batch_size=2, image_size=8), "did you mean 'val'"),
])
def test_bad_requests(uneven, call, message):
  with pytest.raises(UserError, match=message):
    call(uneven)


def test_errors_from_threads_reach_the_caller_as_they_are(uneven, monkeypatch):
  def broken(self, index, smallest=None):
    raise UserError("record 3 cannot be read")
  monkeypatch.setattr("dgjax.data.dataset.Source.image", broken)
  with pytest.raises(UserError, match="record 3 cannot be read"):
    next(stream(uneven, threads=2).iterator())
  with pytest.raises(UserError, match="record 3 cannot be read"):
    list(pipeline.evaluate(uneven, "wool", "train", batch_size=4, image_size=8))


def test_empty_splits_are_told_before_the_first_step(config, draw, tmp_path):
  root = draw(tmp_path / "root", lambda domain, name: 1 if domain == "ink" else 9)

  def check(sources=("clay",), target="wool", adapts=False, **keys):
    dataset = data.load(config("folder", dir=str(root), **keys), 0)
    pipeline.check_splits(dataset, sources, target, adapts)

  check()
  check(adapts=True)
  for keys, split in (({"val_fraction": 0.0}, "val"), ({"test_fraction": 0.0}, "test"), ({"sources": ("ink",)}, "val"),
                      ({"sources": ("clay", "ink")}, "val"), ({"target": "ink"}, "test")):
    with pytest.raises(UserError, match=f"split {split!r} of domain .* of data set 'folder' is empty: it needs more"):
      check(**keys)
  with pytest.raises(UserError, match="no domain 'inc'"):
    check(sources=("inc",))


def test_splits_that_are_never_looked_at_may_be_empty(writers, speech):
  for dataset in (writers, speech):
    assert not dataset.splits["seen"]["test"] and not dataset.splits["unseen"]["train"]
    for adapts in (False, True):
      pipeline.check_splits(dataset, ("seen",), "unseen", adapts)


def test_a_batch_larger_than_the_data_is_refused(digits):
  train = digits.splits["plain"]["train"]
  check = lambda **keys: pipeline.check_splits(digits, ("plain", "colour"), "turned", True, **keys)  # noqa: E731
  check(batch_size=2 * train, target_batch_size=train)
  with pytest.raises(UserError, match=f"config.batch_size is 99999, and there are {2 * train} images to train on: use"):
    check(batch_size=99999)
  with pytest.raises(UserError, match=f"target_batch_size is 99999, and there are {train} images of the target"):
    check(target_batch_size=99999)

import errno
import logging
import os
import pathlib
import shutil
import zlib

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from helpers import same

from dgjax import checkpoint
from dgjax.checkpoint import Checkpoints, read
from dgjax.errors import UserError


def tree(value):
  params = {"w": jnp.full((3, 40), float(value)), "layer1.0": {"b": jnp.full((), value, jnp.bfloat16)}}
  state = {"params": params, "opt": optax.adam(1e-3).init(params), "key": jax.random.key(value),
           "none": jnp.zeros((0, 2))}
  return {"state": state, "best": params}


def save(directory, *steps):
  with Checkpoints(directory) as checkpoints:
    for step in steps:
      checkpoints.save(step, tree(step), {"selection": {"last": {"step": step}}})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """The folder of a run with checkpoints 1 and 2."""
  run = tmp_path_factory.mktemp("run")
  save(run / "checkpoints", 1, 2)
  return run


@pytest.fixture
def run(saved, tmp_path):
  """A copy of that folder."""
  return shutil.copytree(saved, tmp_path / "run")


def resumed(run):
  with Checkpoints(run / "checkpoints") as checkpoints:
    return checkpoints.restore(tree(0))


def test_what_was_saved_comes_back(saved):
  step, found, progress = resumed(saved)
  assert step == 2 and same(found, tree(2)) and progress == {"selection": {"last": {"step": 2}}}
  assert jax.random.uniform(found["state"]["key"]) == jax.random.uniform(jax.random.key(2))
  shapes = jax.eval_shape(lambda: tree(0))
  found, progress = read(saved / "checkpoints", 1, {"best": shapes["best"]})
  assert same(found, {"best": tree(1)["best"]}) and progress["selection"]["last"]["step"] == 1


def test_a_folder_may_be_named_by_a_detour(saved):
  """TensorStore itself does not follow ".."."""
  detour = saved / "elsewhere" / ".." / "checkpoints"
  found, _ = read(detour, 2, tree(0))
  assert same(found, tree(2)) and resumed(saved / "elsewhere" / "..")[0] == 2


def test_arrays_lie_where_they_are_wanted(saved):
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  shapes = jax.eval_shape(lambda: tree(0))
  like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), shapes)
  with Checkpoints(saved / "checkpoints") as checkpoints:
    _, found, _ = checkpoints.restore(like)
  assert all(x.sharding.is_equivalent_to(where, x.ndim) for x in jax.tree.leaves(found))
  assert same(jax.device_get(found["best"]), jax.device_get(tree(2)["best"]))


def test_the_two_newest_are_kept(tmp_path):
  with Checkpoints(tmp_path / "new") as checkpoints:
    assert checkpoints.steps() == [] and checkpoints.restore(tree(0)) is None
  save(tmp_path / "new", 1, 2, 3)
  save(tmp_path / "new", 4)  # after a restart, too
  assert Checkpoints(tmp_path / "new").steps() == [3, 4]


def test_arrays_may_be_donated_once_save_returns(tmp_path):
  """What is saved shares its memory with arrays on a CPU; the hashes tell whether that was overwritten."""
  overwrite = jax.jit(lambda w: w + 1, donate_argnums=0)
  with Checkpoints(tmp_path) as checkpoints:
    w = jnp.zeros(2_000_000)
    checkpoints.save(1, {"state": {"w": w}}, {})
    held = checkpoint._to_host({"w": w})["w"]
    for _ in range(5):
      w = overwrite(w)
    checkpoints.wait()
    _, found, _ = checkpoints.restore({"state": {"w": w}})
  np.testing.assert_array_equal(found["state"]["w"], np.zeros(2_000_000))
  np.testing.assert_array_equal(held, np.zeros(2_000_000))


def test_the_same_step_is_written_again_only_where_it_differs(run):
  record = run / "checkpoints" / "2" / "record" / "metadata"
  before = record.stat().st_mtime_ns
  save(run / "checkpoints", 2)
  assert record.stat().st_mtime_ns == before
  with Checkpoints(run / "checkpoints") as checkpoints:  # stopped during an evaluation, which is now there
    checkpoints.save(2, tree(2), {"selection": "new"})
    checkpoints.save(2, tree(2), {"selection": "newer"})  # at once, while the save before is still at work
  assert resumed(run)[2] == {"selection": "newer"} and Checkpoints(run / "checkpoints").steps() == [1, 2]


def files(folder):
  return sorted(path for path in folder.rglob("*") if path.is_file())


def flipped(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 16
  path.write_bytes(data)


FILE_DAMAGE = {"missing": pathlib.Path.unlink, "empty": lambda path: path.write_bytes(b""),
               "cut": lambda path: path.write_bytes(path.read_bytes()[:path.stat().st_size // 2]),
               "garbled": lambda path: path.write_bytes(os.urandom(path.stat().st_size)), "flipped": flipped}


@pytest.mark.parametrize("damage", FILE_DAMAGE)
def test_no_damaged_file_gives_other_numbers_or_a_raw_error(saved, tmp_path, damage, caplog):
  """Of every file of the newest checkpoint in turn. Some hold nothing of worth, and the checkpoint is still sound."""
  names = [path.relative_to(saved) for path in files(saved / "checkpoints" / "2")]
  fell_back = set()
  for number, name in enumerate(names):
    run = shutil.copytree(saved, tmp_path / str(number))
    FILE_DAMAGE[damage](run / name)
    caplog.clear()
    step, found, _ = resumed(run)
    assert same(found, tree(step)), name
    if step == 1:
      fell_back.add(name.parts[2])
      line, = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
      assert line.startswith(f"checkpoint 2 of {run} is damaged (") and len(line) < 300
      assert line.endswith("; set aside as checkpoints/2.damaged; going on from 1")
      assert (run / "checkpoints" / "2.damaged").is_dir() and not (run / "checkpoints" / "2").exists()
    else:
      assert not caplog.records
  assert {"state", "best", "record"} <= fell_back


def change_an_array(run):
  """Saves other numbers under the old hash: what a flipped byte that decompresses comes to."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(zlib, "crc32", lambda _: 0)
    save(run / "checkpoints", 3)


DAMAGE = {
    "no array": (lambda run: shutil.rmtree(run / "checkpoints" / "2" / "best"), 2, "best cannot be read"),
    "no record": (lambda run: shutil.rmtree(run / "checkpoints" / "2" / "record"), 2, "its record is missing"),
    "empty folder": (lambda run: (run / "checkpoints" / "999").mkdir(), 999, "its record is missing"),
    "a file": (lambda run: (run / "checkpoints" / "7").write_text(""), 7, "its record is missing"),
    "another's": (lambda run: (run / "checkpoints" / "2").rename(run / "checkpoints" / "5"), 5, "it is one of step 2"),
    "other hashes": (change_an_array, 3, "record: its bytes changed"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_is_named_and_set_aside(run, kind, caplog):
  damage, step, problem = DAMAGE[kind]
  damage(run)
  found = resumed(run)
  assert same(found[1], tree(found[0]))
  assert f"checkpoint {step} of {run} is damaged ({problem}); set aside" in caplog.text
  save(run / "checkpoints", 8)  # what is set aside is in nobody's way
  assert resumed(run)[0] == 8 and (run / "checkpoints" / f"{step}.damaged").exists()


def test_changed_numbers_are_found_where_the_files_read_well(run, monkeypatch, caplog):
  read_arrays = checkpoint._read_arrays

  def changed(folder, paths):
    values = read_arrays(folder, paths)
    if folder.parent.name == "2" and folder.name == "state":
      values["params/w"].view(np.uint8)[1, 3] ^= 1
    return values

  monkeypatch.setattr(checkpoint, "_read_arrays", changed)
  assert resumed(run)[0] == 1
  assert "(state/params/w: its bytes changed)" in caplog.text


def test_stray_files_do_not_matter(run):
  for name in ("notes.txt", ".DS_Store", "07", "3.orbax-checkpoint-tmp"):
    (run / "checkpoints" / name).mkdir()
  assert resumed(run)[0] == 2


def test_where_none_is_sound_that_is_said_and_nothing_is_moved(run):
  for step in "12":
    shutil.rmtree(run / "checkpoints" / step / "state")
  with pytest.raises(UserError, match=r"every checkpoint of .*run is damaged \(checkpoints/2: state cannot be read; "
                                      r"checkpoints/1: .*\): put a copy of .* or delete it"):
    resumed(run)
  with pytest.raises(UserError, match="checkpoint .*checkpoints/1 is damaged"):
    read(run / "checkpoints", 1, tree(0))
  assert Checkpoints(run / "checkpoints").steps() == [1, 2]


def test_another_configuration_is_no_damage(run):
  other = {"best": {"w": jnp.zeros((3, 41)), "layer1.0": tree(0)["best"]["layer1.0"]}}
  with Checkpoints(run / "checkpoints") as checkpoints:
    with pytest.raises(UserError, match=r"best/w is float32\[3, 40\] there and float32\[3, 41\] here"):
      checkpoints.restore(other)
    with pytest.raises(UserError, match="best/more is absent there"):
      checkpoints.restore({"best": {**tree(0)["best"], "more": jnp.zeros(2)}})
    with pytest.raises(UserError, match=r"2 holds no 'worst', but state, best"):
      checkpoints.restore({"worst": tree(0)["best"]})
  with pytest.raises(UserError, match="has no checkpoint of step 3"):
    read(run / "checkpoints", 3, tree(0))


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"),
                                   ValueError("pages of text [os_error_code='13']")])
def test_a_file_that_the_system_does_not_open_is_no_damage(run, monkeypatch, error):
  def fail(*args, **kwargs):
    raise error

  monkeypatch.setattr(checkpoint, "_read_arrays", fail)
  with pytest.raises(UserError, match="cannot read .*2/state: (Too many open files|Permission denied)"):
    resumed(run)
  assert Checkpoints(run / "checkpoints").steps() == [1, 2]


def test_a_checkpoint_that_cannot_be_written_is_one_line(tmp_path, caplog, capfd):
  """A limit on the size of files stands for a full disk: the write fails in the background."""
  resource = pytest.importorskip("resource")
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
  try:
    with pytest.raises(UserError, match="cannot save a checkpoint in .* .File too large.: make room"), \
         Checkpoints(tmp_path) as checkpoints:
      checkpoints.save(1, {"state": {"w": jax.random.normal(jax.random.key(0), (200_000,))}}, {})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert not caplog.records and not capfd.readouterr().err


def test_checkpoints_from_before_hashes_can_be_opened_not_resumed(tmp_path):
  state = {"w": jnp.ones(3), "key": jax.random.key(4)}
  iterator = iter(grain.MapDataset.range(9).to_iter_dataset())
  with ocp.CheckpointManager(tmp_path) as manager:
    manager.save(6, args=ocp.args.Composite(
        state=ocp.args.StandardSave(state), data=grain.checkpoint.CheckpointSave(iterator),
        progress=ocp.args.JsonSave({"selection": {}})))
  where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), state)
  found, progress = read(tmp_path, 6, {"state": like})
  assert same(found["state"], state) and progress == {"selection": {}}
  with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match="can be opened, not resumed"):
    checkpoints.restore({"state": like})

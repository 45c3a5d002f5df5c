import json
import logging
import os
import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest

from dgjax.errors import UserError
from dgjax.recorder import NotFinite, Recorder, read_lines


def test_every_step_is_written_once_and_in_order(tmp_path):
  recorder = Recorder(tmp_path, 0)
  for step in range(1, 4):
    recorder.train(step, {"loss": np.float32(step / 3)})
  recorder.write(3, {"val/a/accuracy": 0.5})
  recorder.flush()
  lines = read_lines(tmp_path / "metrics.jsonl")  # on disk without `close`, which a killed process never reaches
  recorder.close()
  assert [line["step"] for line in lines] == [1, 2, 3, 3]
  assert lines[0]["train/loss"] == float(np.float32(1 / 3))


def events(folder):
  """Step and values of the events in a folder."""
  from tensorboardX.proto.event_pb2 import Event
  found = []
  for path in sorted(folder.glob("events.out.tfevents.*")):
    data = path.read_bytes()
    while data:
      size, = struct.unpack("Q", data[:8])
      event = Event.FromString(data[12:12 + size])
      found.append((event.step, {value.tag: value.simple_value for value in event.summary.value}, event))
      data = data[16 + size:]
  return found


def test_tensorboard_has_the_same_values(tmp_path):
  recorder = Recorder(tmp_path, 7)
  recorder.write(8, {"train/loss": 0.5, "val/a/accuracy": 0.25})
  recorder.flush()
  version, purge, values = events(tmp_path)
  recorder.close()
  assert version[2].file_version == "brain.Event:2"
  assert purge[0] == 8 and purge[2].session_log.status == purge[2].session_log.START
  assert values[:2] == (8, {"train/loss": 0.5, "val/a/accuracy": 0.25})


def test_a_resumed_run_drops_what_comes_again_and_a_line_cut_short(tmp_path, caplog):
  path = tmp_path / "metrics.jsonl"
  path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 2, 3, 4)) + '{"step": 5, "tr')
  recorder = Recorder(tmp_path, 3)
  recorder.write(4, {"x": 1.0})
  recorder.close()
  assert read_lines(path) == [{"step": 1}, {"step": 2}, {"step": 3}, {"step": 4, "x": 1.0}]
  assert not caplog.records


@pytest.mark.parametrize("evaluated", [False, True])
def test_an_evaluation_that_the_checkpoint_does_not_know_of_comes_again(tmp_path, evaluated):
  path = tmp_path / "metrics.jsonl"
  lines = [{"step": 2, "val/a/accuracy": 0.5}, {"step": 4, "train/loss": 1.0}, {"step": 4, "val/a/accuracy": 0.75}]
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  Recorder(tmp_path, 4, evaluated).close()
  assert read_lines(path) == (lines if evaluated else lines[:2])


@pytest.mark.parametrize("bad", [b'{"step": 2, "tr', b"\xff\xfe\x00", b"[2]", b"{}", b'{"step": "2"}', b"null",
                                 b'{"step": 2, "x": "y"}', b'{"step": 2, "x": null}'])
def test_a_damaged_line_costs_that_line_alone(tmp_path, bad, caplog):
  path = tmp_path / "metrics.jsonl"
  path.write_bytes(b'{"step": 1}\n' + bad + b'\n{"step": 3}\n')
  Recorder(tmp_path, 3).close()
  line, = caplog.messages
  assert "metrics.jsonl: line 2 cannot be read" in line
  assert read_lines(path) == [{"step": 1}, {"step": 3}] and len(caplog.messages) == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_names_the_step(tmp_path, bad):
  recorder = Recorder(tmp_path, 0)
  recorder.train(1, {"loss": 1.0})
  with pytest.raises(NotFinite, match="loss is (nan|inf) at step 2: lower config.optimizer.learning_rate") as caught:
    recorder.train(2, {"accuracy": 1.0, "loss": bad})
  recorder.flush()
  assert [line["step"] for line in read_lines(tmp_path / "metrics.jsonl")] == [1]
  recorder.close()
  assert caught.value.step == 2 and caught.value.name == "train/loss"
  assert "at step 2; nothing was saved yet: lower" in str(caught.value.after(None))
  assert "go on from the newest checkpoint with --from_step=0 and a lower" in str(caught.value.after(0))


full_disk = pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="needs /dev/full")


@full_disk
def test_events_that_cannot_be_written_are_dropped_and_said_once(tmp_path, caplog):
  """As many as would fill any queue."""
  recorder = Recorder(tmp_path, 0)
  recorder._events._file._writer.close()
  recorder._events._file._writer = pathlib.Path("/dev/full").open("wb")  # noqa: SIM115
  for step in range(1, 1000):
    recorder.write(step, {"train/loss": 1.0})
  recorder.flush()
  recorder.close()
  line, = caplog.messages
  assert "no more TensorBoard events" in line and "No space left on device" in line
  assert len(read_lines(tmp_path / "metrics.jsonl")) == 999


@full_disk
@pytest.mark.parametrize("count", [1, 1000])  # found when flushed, and when written
def test_a_full_disk_ends_with_one_line_that_names_the_record(tmp_path, count):
  recorder = Recorder(tmp_path, 0)
  recorder._lines.close()
  recorder._lines = pathlib.Path("/dev/full").open("a")  # noqa: SIM115
  with pytest.raises(UserError, match="cannot write .*metrics.jsonl .No space left on device.: make room"):
    for step in range(count):
      recorder.train(step, {"loss": 1.0})
    recorder.flush()
  recorder.close()


def test_a_record_that_is_a_folder_is_one_line(tmp_path, caplog):
  (tmp_path / "metrics.jsonl").mkdir()
  with pytest.raises(UserError, match="cannot read .*metrics.jsonl .Is a directory"):
    Recorder(tmp_path, 0)


def test_neither_tensorboard_nor_pytorch_is_imported_before_it_is_needed(tmp_path):
  """A PyTorch that fails to import stands for one that takes seconds."""
  (tmp_path / "torch.py").write_text("raise RuntimeError('imported')\n")
  program = ("import sys, pathlib; from dgjax import recorder; assert 'tensorboardX' not in sys.modules\n"
             "recorder.Recorder(pathlib.Path('.'), 0).close(); assert 'torch' not in sys.modules\n")
  subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True,
                 env={**os.environ, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(tmp_path)])})


def test_no_message_at_all_where_all_is_well(tmp_path, caplog):
  with caplog.at_level(logging.DEBUG):
    Recorder(tmp_path, 0).close()
  assert not caplog.records

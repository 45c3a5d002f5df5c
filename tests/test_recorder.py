import json

import jax.numpy as jnp
import pytest

from dgjax.errors import UserError
from dgjax.recorder import Recorder, read_lines


def test_every_step_is_written_once_and_in_order(tmp_path):
  recorder = Recorder(tmp_path, 0)
  for step in range(1, 4):
    recorder.train(step, {"loss": jnp.float32(step / 3)})
  assert read_lines(tmp_path / "metrics.jsonl") == []  # nothing is fetched before flush
  recorder.flush()
  recorder.write(3, {"val/a/accuracy": 0.5})
  recorder.close()
  lines = read_lines(tmp_path / "metrics.jsonl")
  assert [line["step"] for line in lines] == [1, 2, 3, 3]
  assert lines[0]["train/loss"] == float(jnp.float32(1 / 3))
  assert list(tmp_path.glob("events.*"))


def test_a_resumed_run_drops_what_comes_again_and_a_line_cut_short(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 2, 3, 4)) + '{"step": 5, "tr')
  recorder = Recorder(tmp_path, 3)
  recorder.write(4, {"x": 1.0})
  recorder.close()
  assert read_lines(path) == [{"step": 1}, {"step": 2}, {"step": 3}, {"step": 4, "x": 1.0}]


@pytest.mark.parametrize("evaluated", [False, True])
def test_an_evaluation_that_the_checkpoint_does_not_know_of_comes_again(tmp_path, evaluated):
  path = tmp_path / "metrics.jsonl"
  lines = [{"step": 2, "val/a/accuracy": 0.5}, {"step": 4, "train/loss": 1.0}, {"step": 4, "val/a/accuracy": 0.75}]
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  Recorder(tmp_path, 4, evaluated).close()
  assert read_lines(path) == (lines if evaluated else lines[:2])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_names_the_step(tmp_path, bad):
  recorder = Recorder(tmp_path, 0)
  recorder.train(1, {"loss": jnp.float32(1)})
  recorder.train(2, {"loss": jnp.float32(bad)})
  with pytest.raises(UserError, match="loss is (nan|inf) at step 2"):
    recorder.flush()
  recorder.close()
  assert [line["step"] for line in read_lines(tmp_path / "metrics.jsonl")] == [1]

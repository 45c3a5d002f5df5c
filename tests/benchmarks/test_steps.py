import re
import types

import jax


def test_dmg_compares_training_steps_and_evaluations(script):
  benchmark = script("dmg_step")
  flags = benchmark.settings(["--model=smallnet", "--image_size=16", "--batch_size=4", "--eval_batch_size=4",
                              "--repeats=3", "--warmup=1"])
  header, names, step, evaluation = benchmark.report(flags).splitlines()
  assert header.startswith(f"smallnet, 16 px, masks at 'paper', {jax.devices()[0].device_kind}, ")
  assert header.endswith("medians of 3 alternating repetitions")
  assert names.split() == ["aggregate", "dmg", "ratio", "quartiles", "target"]
  for line, start in ((step, "training step, batch 4 "), (evaluation, "evaluation, 3 masks, batch 4 ")):
    assert re.fullmatch(rf"{start} *[\d.]+ ms +[\d.]+ ms +[\d.]+ +[\d.]+-[\d.]+ +1\.[\d]+", line)


def test_rcl_compares_training_steps(script):
  benchmark = script("rcl_step")
  flags = benchmark.settings(["--model=smallnet", "--image_size=16", "--batch_size=4", "--repeats=3", "--warmup=1"])
  header, names, step = benchmark.report(flags).splitlines()
  assert header.startswith(f"smallnet, 16 px, range by batch, {jax.devices()[0].device_kind}, ")
  assert names.split()[:2] == ["aggregate", "rcl"]
  assert re.fullmatch(r"training step, batch 4 *[\d.]+ ms +[\d.]+ ms +[\d.]+ +[\d.]+-[\d.]+ +1\.15", step)


def test_crossgrad_is_compared_with_both_of_its_networks(script):
  benchmark = script("crossgrad_step")
  flags = benchmark.settings(["--model=convnet2", "--image_size=8", "--batch_size=4", "--repeats=3", "--warmup=1"])
  header, names, step = benchmark.report(flags).splitlines()
  assert header.startswith(f"convnet2, 8 px, {jax.devices()[0].device_kind}, ")
  assert names.split()[:4] == ["2", "x", "ERM", "crossgrad"]
  assert re.fullmatch(r"training step, batch 4 *[\d.]+ ms +[\d.]+ ms +[\d.]+ +[\d.]+-[\d.]+ +2\.2", step)


def test_drt_compares_training_steps_by_form(script):
  benchmark = script("drt_step")
  flags = benchmark.settings(["--model=smallnet", "--image_size=16", "--batch_size=2", "--repeats=3", "--warmup=1",
                              "--variant=both", "--forms", "auto", "kernel"])
  header, names, *steps = benchmark.report(flags).splitlines()
  assert header.startswith(f"smallnet, 16 px, float32, both, {jax.devices()[0].device_kind}, ")
  assert names.split()[:2] == ["static", "dynamic"]
  for line, form in zip(steps, ("auto", "kernel"), strict=True):
    assert re.fullmatch(rf"step by {form}, batch 2 *[\d.]+ ms +[\d.]+ ms +[\d.]+ +[\d.]+-[\d.]+ +1\.15", line)


def test_mixtures_are_compared_with_einsums(script, monkeypatch):
  benchmark = script("mixture")
  monkeypatch.setattr(benchmark, "SIZES", {96: ((4, 3), (6, 5))})
  flags = benchmark.settings(["--batch_size=2", "--image_size=96", "--repeats=3", "--warmup=1"])
  _, names, *lines = benchmark.report(flags).splitlines()
  assert names.split()[:2] == ["einsums", "ours"]
  for line, what in zip(lines, ("4 channels, 3x3", "6 channels, 5x5"), strict=True):
    assert re.fullmatch(rf"{what} *[\d.]+ ms +[\d.]+ ms +[\d.]+ \([\d.]+-[\d.]+\)", line)


def test_calls_alternate_and_ratios_are_of_pairs(script):
  order = []
  result = script("alternating").compare(lambda: order.append("a"), lambda: order.append("b"), repeats=3, warmup=1)
  assert order == list("abbaabba") and result.ratios == tuple(sorted(result.ratios))


def test_phases_are_compared_with_computing_both(script):
  benchmark = script("phases_step")
  flags = benchmark.settings(["--model=convnet2", "--image_size=8", "--batch_size=4", "--repeats=3", "--warmup=1"])
  header, names, *lines = benchmark.report(flags).splitlines()
  assert "batch 4" in header and names.split()[:4] == ["both", "phases", "one", "phase"]
  for line, what in zip(lines, ("adda, source", "adda, adaptation", "metareg, regulariser", "metareg, training"),
                        strict=True):
    assert re.fullmatch(rf"{what} *[\d.]+ ms +[\d.]+ ms +[\d.]+ +[\d.]+-[\d.]+ +1", line)


def test_arithmetic_is_counted_by_phase(script):
  benchmark = script("arithmetic")
  header, *rows = benchmark.report(benchmark.settings(["--model=smallnet", "--image_size=16", "aggregate", "adda"])
                                   ).splitlines()
  assert re.fullmatch(r"smallnet, 16 px, batch 64; aggregate: 0\.\d+ GFLOP a step", header)
  assert [row.split()[:2] for row in rows] == [["aggregate", "training"], ["adda", "source"], ["adda", "adaptation"]]
  assert rows[0].split()[2] == rows[1].split()[2] == "1.00" and float(rows[2].split()[2]) > 1.1


def test_scaling_measures_each_point_apart_and_draws_them(script, monkeypatch, tmp_path, capsys):
  """Each axis has its own values, the others staying; what a process prints is what is drawn."""
  benchmark, asked = script("scaling"), []

  def run(command, **_):
    asked.append(dict(word.removeprefix("--").split("=") for word in command[3:]))
    return types.SimpleNamespace(stdout='a library speaks\n{"xla": 0.5, "torch": 0.25}\n')
  monkeypatch.setattr(benchmark.subprocess, "run", run)
  monkeypatch.setattr("sys.argv", ["scaling.py", "--model=smallnet", "--image_size=16", "--batch_size=4", "--cores=2",
                                   f"--out={tmp_path / 'scaling.svg'}"])
  benchmark.main()
  assert [(point["image_size"], point["batch_size"], point["cores"]) for point in asked] == [
      *((side, "4", "2") for side in ("32", "64", "96", "128")),
      *(("16", batch, "2") for batch in ("4", "8", "16", "32")), ("16", "4", "1"), ("16", "4", "2")]
  assert {point["model"] for point in asked} == {"smallnet"}
  assert capsys.readouterr().out.splitlines()[0] == "image size (pixels) 32: XLA 2.0, PyTorch 4.0"
  assert "<svg" in (tmp_path / "scaling.svg").read_text()

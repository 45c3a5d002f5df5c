"""Damages run folders in every way that files get damaged, kills runs at random, and tells what came of each.

  python benchmarks/damage.py [--kills=20] [--seed=0] [--only=WORD] [--folder=DIR]

A tiny run is trained to its end, and once more until it is killed between two evaluations. Copies of both folders are
damaged, and the same command is started again on each. Right is either of
- status 0, with every loss, accuracy and parameter of the run that was left alone, bit for bit;
- status 1, with one line on stderr that begins with "error: " and names the folder.
Then runs are killed (SIGKILL) at random moments of their training and started again: only the first is right there.
Prints a line for each, and ends with status 1 if any was wrong. Takes 10 to 20 minutes on two cores. With `--folder`,
the two runs and the lines are kept there, and the same command goes on with what has no line yet.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from dgjax.checkpoint import read_record
from dgjax.recorder import read_lines

ROOT = pathlib.Path(__file__).resolve().parents[1]
STEPS, EVERY, TIMEOUT = 120, 10, 300
Damage = Callable[[pathlib.Path], object]


def command(folder: pathlib.Path) -> list[str]:
  return [sys.executable, "-m", "dgjax.main", "--config=configs/dmg_digits.py", "--config.target=plain",
          f"--workdir={folder}", f"--config.steps={STEPS}", f"--config.eval_every={EVERY}", "--config.batch_size=16"]


def run(folder: pathlib.Path) -> tuple[int, list[str]]:
  """Starts the command; its status, -1 where it did not end in time, and the lines of its stderr."""
  try:
    done = subprocess.run(command(folder), cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
  except subprocess.TimeoutExpired:
    return -1, ["timed out"]
  return done.returncode, done.stderr.splitlines()


def start(folder: pathlib.Path, ready: pathlib.Path) -> subprocess.Popen[bytes]:
  """Starts the command and waits until `ready` is there, or the command at its end."""
  process = subprocess.Popen(command(folder), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  while process.poll() is None and not ready.exists():
    time.sleep(0.002)
  return process


def kill(folder: pathlib.Path, ready: pathlib.Path, delay: float = 0.0) -> None:
  """Starts the command and kills it `delay` seconds after `ready` is there, if it is still at work."""
  process = start(folder, ready)
  time.sleep(delay)
  process.send_signal(signal.SIGKILL)
  process.wait()


def outcome(folder: pathlib.Path) -> dict[str, object]:
  """What must not depend on whether a run was interrupted."""
  results = json.loads((folder / "results.json").read_text())
  lines = [line for line in read_lines(folder / "metrics.jsonl") if not any(key.startswith("time/") for key in line)]
  scores = ("selection", "accuracy", "class_accuracy", "mask_matrix", "overlap")
  return {"results": {key: results[key] for key in scores}, "lines": lines,
          "arrays": read_record(folder / "checkpoints" / str(STEPS))["arrays"]}


def largest(folder: pathlib.Path) -> pathlib.Path:
  """The file with most of a checkpoint item's numbers: one that the database's index points to."""
  return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(path: pathlib.Path, part: float) -> None:
  data = bytearray(path.read_bytes())
  data[int(part * (len(data) - 1))] ^= 1 << 4
  path.write_bytes(data)


FILE_DAMAGES: dict[str, Damage] = {
    "missing": pathlib.Path.unlink, "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "garbled": lambda path: path.write_bytes(random.Random(0).randbytes(path.stat().st_size)),
    "one byte flipped": lambda path: flip(path, 0.5)}


def damage_lines(path: pathlib.Path, number: int, text: bytes) -> None:
  lines = path.read_bytes().split(b"\n")
  lines[number] = text
  path.write_bytes(b"\n".join(lines))


def checkpoint_damages(newest: int, older: int) -> dict[str, Damage]:
  """Damages to the checkpoints of an interrupted run, by name."""
  at = lambda folder, *names: pathlib.Path(folder, "checkpoints", str(newest), *names)  # noqa: E731
  files: dict[str, Callable[[pathlib.Path], pathlib.Path]] = {
      "state, array data": lambda folder: largest(at(folder, "state")),
      "best, array data": lambda folder: largest(at(folder, "best")),
      "state, index": lambda folder: at(folder, "state", "manifest.ocdbt"),
      "state, metadata": lambda folder: at(folder, "state", "_METADATA"),
      "record": lambda folder: at(folder, "record", "metadata")}
  found: dict[str, Damage] = {
      f"{file}: {kind}": lambda folder, where=where, damage=damage: damage(where(folder))
      for file, where in files.items() for kind, damage in FILE_DAMAGES.items()}
  both = lambda folder, *names: [pathlib.Path(folder, "checkpoints", str(step), *names)  # noqa: E731
                                 for step in (newest, older)]
  return found | {
      "state, array data: first byte flipped": lambda folder: flip(largest(at(folder, "state")), 0.0),
      "state, array data: last byte flipped": lambda folder: flip(largest(at(folder, "state")), 1.0),
      "record: another object": lambda folder: at(folder, "record", "metadata").write_text("{}"),
      "record: a list": lambda folder: at(folder, "record", "metadata").write_text("[]"),
      "state: removed": lambda folder: shutil.rmtree(at(folder, "state")),
      "best: removed": lambda folder: shutil.rmtree(at(folder, "best")),
      "record: removed": lambda folder: shutil.rmtree(at(folder, "record")),
      "newest: removed": lambda folder: shutil.rmtree(at(folder)),
      "newest: emptied": lambda folder: (shutil.rmtree(at(folder)), at(folder).mkdir()),
      "newest: under another step": lambda folder: at(folder).rename(at(folder).with_name(str(newest + 1))),
      "an empty folder 999": lambda folder: at(folder).with_name("999").mkdir(),
      "a file 999": lambda folder: at(folder).with_name("999").write_text(""),
      "a stray file": lambda folder: at(folder).with_name("notes.txt").write_text("mine"),
      "both: state removed": lambda folder: [shutil.rmtree(path) for path in both(folder, "state")],
      "both: record flipped": lambda folder: [flip(path, 0.5) for path in both(folder, "record", "metadata")],
      "all checkpoints: removed": lambda folder: shutil.rmtree(folder / "checkpoints"),
      "config.json: empty": lambda folder: (folder / "config.json").write_text(""),
      "config.json: cut": lambda folder: os.truncate(folder / "config.json", 40),
      "config.json: a list": lambda folder: (folder / "config.json").write_text("[1]"),
      "metrics.jsonl: one line garbled": lambda folder: damage_lines(folder / "metrics.jsonl", 3, b"\xff{"),
      "metrics.jsonl: last line cut": lambda folder: os.truncate(
          folder / "metrics.jsonl", (folder / "metrics.jsonl").stat().st_size - 5)}


RESULTS_DAMAGES: dict[str, Damage] = {
    "results.json: empty": lambda folder: (folder / "results.json").write_text(""),
    "results.json: cut": lambda folder: os.truncate(folder / "results.json", 100),
    "results.json: a list": lambda folder: (folder / "results.json").write_text("[1]"),
    "results.json: another object": lambda folder: (folder / "results.json").write_text("{}")}


def verdict(folder: pathlib.Path, expected: dict[str, object], lost_lines: int = 0) -> tuple[bool, str]:
  """Starts the command again; whether what came of it is right, and what it was.

  Args:
    folder: of the run.
    expected: the outcome of the run that was left alone.
    lost_lines: how many lines of the record the damage itself took.
  """
  status, lines = run(folder)
  last = lines[-1] if lines else ""
  told = next((line for line in lines if "is damaged" in line or "cannot be read" in line), last)
  if status == 1:
    one_line = last.startswith("error: ") and str(folder) in last and not any("Traceback" in line for line in lines)
    return one_line, f"1  {last}"
  if status != 0:
    return False, f"{status}  {last}"
  found = outcome(folder)
  missing = [line for line in expected["lines"] if line not in found["lines"]]  # type: ignore[attr-defined, operator]
  same = all(found[key] == expected[key] for key in ("results", "arrays")) and len(missing) <= lost_lines
  return same, f"0  {'the same numbers' if same else 'OTHER NUMBERS'}; {told}"


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--kills", type=int, default=20, help="runs killed at random")
  parser.add_argument("--seed", type=int, default=0, help="of the moments")
  parser.add_argument("--only", default="", help="damages whose name contains this word")
  parser.add_argument("--folder", help="keeps the runs and the lines here, and goes on from them")
  flags = parser.parse_args()
  with contextlib.nullcontext(flags.folder) if flags.folder else tempfile.TemporaryDirectory() as name:
    return trial(pathlib.Path(name).absolute(), flags)


def trial(root: pathlib.Path, flags: argparse.Namespace) -> int:
  """Tries all damages and kills in the folder `root`; the command's status."""
  whole, cut, told = root / "whole", root / "cut", root / "told.txt"
  root.mkdir(parents=True, exist_ok=True)
  status, lines = run(whole)  # nothing, if it is there
  if status:
    print("\n".join(lines), file=sys.stderr)
    return 1
  expected = outcome(whole)
  if not cut.exists():
    kill(cut, cut / "checkpoints" / str(STEPS // 2))
  newest, older = sorted(int(path.name) for path in (cut / "checkpoints").iterdir() if path.name.isdigit())[:-3:-1]
  done = told.read_text().splitlines() if told.exists() else []

  def report(name: str, right: bool, what: str) -> None:
    done.append(f"{'right' if right else 'WRONG'}  {name:<42} {what}")
    told.write_text("\n".join(done) + "\n")
    print(done[-1], flush=True)

  def is_due(name: str) -> bool:
    return not any(line[7:].startswith(f"{name} ") for line in done)

  for base, damages in ((cut, checkpoint_damages(newest, older)), (whole, RESULTS_DAMAGES)):
    for name, damage in damages.items():
      if flags.only in name and is_due(name):
        folder = fresh(root / "damaged")
        shutil.copytree(base, folder, symlinks=True)
        damage(folder)
        report(name, *verdict(folder, expected, lost_lines="line garbled" in name))

  moments = random.Random(flags.seed)
  seconds = 0.0
  for number in range(flags.kills):
    part = moments.random()
    if is_due(f"kill {number + 1},"):
      if not seconds:
        timed = fresh(root / "timed")
        process, begin = start(timed, timed / "metrics.jsonl"), time.monotonic()
        process.wait()
        seconds = time.monotonic() - begin
      folder = fresh(root / "killed")
      kill(folder, folder / "metrics.jsonl", part * seconds)
      steps = [line["step"] for line in read_lines(folder / "metrics.jsonl")]
      right, what = verdict(folder, expected)
      report(f"kill {number + 1}, at or past step {max(steps, default=0)}", right and what.startswith("0"), what)
  right = sum(line.startswith("right") for line in done)
  print(f"{right} of {len(done)} right")
  return int(right < len(done))


def fresh(folder: pathlib.Path) -> pathlib.Path:
  """The folder, with nothing left there from before."""
  shutil.rmtree(folder, ignore_errors=True)
  return folder


if __name__ == "__main__":
  sys.exit(main())

"""The scripts of clusters, with stand-ins for the programs of the cluster."""

import os
import pathlib
import signal
import subprocess
import time

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.sh")), ids=lambda path: path.name)
def test_syntax(script):
  subprocess.run(["bash", "-n", script], check=True)
  assert os.access(script, os.X_OK)


@pytest.fixture
def cluster(tmp_path):
  """Makes a program of the cluster; returns the environment to run a script in."""
  programs = tmp_path / "bin"
  programs.mkdir()

  def program(name, text):
    (programs / name).write_text(f"#!/bin/bash\n{text}\n")
    (programs / name).chmod(0o755)

  environment = {"PATH": f"{programs}:/usr/bin:/bin", "SLURM_JOB_ID": "17", "SLURM_SUBMIT_DIR": str(tmp_path)}
  program("scontrol", f'echo "$@" >> {tmp_path}/requeued')
  program("squeue", "echo RUNNING")
  return program, environment


def slurm(environment, *arguments):
  return subprocess.Popen(["bash", LAUNCH / "slurm.sh", *arguments], env=environment)


@pytest.mark.parametrize("status, state, requeued", [
    (0, "RUNNING", False), (1, "RUNNING", False), (75, "RUNNING", True), (75, "COMPLETING", False)])
def test_slurm_requeues_what_was_preempted(cluster, tmp_path, status, state, requeued):
  program, environment = cluster
  program("srun", f'printf "%s\\n" "$@" > {tmp_path}/arguments; exit {status}')
  program("squeue", f"echo {state}")
  process = slurm(environment, "--config=a b", "--config.seed=1")
  process.wait(20)
  assert process.returncode == status
  assert (tmp_path / "arguments").read_text().splitlines()[-3:] == ["dgjax.main", "--config=a b", "--config.seed=1"]
  assert (tmp_path / "requeued").exists() == requeued
  if requeued:
    assert (tmp_path / "requeued").read_text() == "requeue 17\n"


def test_slurm_outlives_its_tasks(cluster, tmp_path):
  program, environment = cluster
  program("srun", f"touch {tmp_path}/up; sleep 1; exit 75")
  process = slurm(environment)
  while not (tmp_path / "up").exists():
    time.sleep(0.01)
  process.send_signal(signal.SIGTERM)
  process.wait(20)
  assert process.returncode == 75 and (tmp_path / "requeued").exists()


def test_slurm_activates_an_environment(cluster, tmp_path):
  program, environment = cluster
  program("srun", f"echo $ACTIVE > {tmp_path}/active")
  (tmp_path / "activate").write_text("export ACTIVE=yes")
  assert slurm({**environment, "DGJAX_ACTIVATE": str(tmp_path / "activate")}).wait(20) == 0
  assert (tmp_path / "active").read_text() == "yes\n"
  assert slurm({**environment, "DGJAX_ACTIVATE": str(tmp_path / "absent")}).wait(20) == 1


def test_tpu_pod_runs_the_command_on_every_worker(cluster, tmp_path):
  program, environment = cluster
  # Runs what would be run on a worker, here.
  program("gcloud", f'printf "%s\\n" "$@" > {tmp_path}/arguments; cd {tmp_path}; bash -c "${{@: -1}}"'
          .replace('"${@: -1}"', '"$(printf %s "${@: -1}" | sed s/^--command=//)"'))
  program("python", f'printf "%s\\n" "$DGJAX_PROCESSES" "$DGJAX_CACHE" "$@" > {tmp_path}/worker; exit 75')
  (tmp_path / "check out" / ".venv" / "bin").mkdir(parents=True)
  (tmp_path / "check out" / ".venv" / "bin" / "activate").touch()
  environment |= {"DGJAX_DIR": "check out", "DGJAX_CACHE": "/mnt/my cache"}
  done = subprocess.run([LAUNCH / "tpu_pod.sh", "pod", "here", "--config=x", "--config.sources=a b,c"], env=environment)
  assert done.returncode == 75
  assert (tmp_path / "arguments").read_text().splitlines()[:7] == [
      "compute", "tpus", "tpu-vm", "ssh", "pod", "--zone=here", "--worker=all"]
  assert (tmp_path / "worker").read_text().splitlines() == [
      "auto", "/mnt/my cache", "-m", "dgjax.main", "--config=x", "--config.sources=a b,c"]
  assert subprocess.run([LAUNCH / "tpu_pod.sh", "pod"], env=environment, stderr=subprocess.DEVNULL).returncode == 1

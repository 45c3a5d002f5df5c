#!/bin/bash
# Trains on a Cloud TPU pod slice: runs the same command on every worker.
#
#   launch/tpu_pod.sh NAME ZONE --config=configs/dmg_pacs.py --config.target=sketch --workdir=/mnt/shared/runs/sketch
#
# Every worker needs the checkout and its environment, once:
#
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all --command='
#     git clone URL dgjax && cd dgjax && python3 -m venv .venv && .venv/bin/pip install -e ".[tpu]"'
#
# The folder of the run (--workdir) must be on a file system that all workers mount in the same place (Filestore, or a
# bucket through Cloud Storage FUSE). Data may be on it too, or on each worker's own disk (config.data.dir and
# config.data.cache_dir). config.batch_size is over all chips, and must divide among them.
#
# After a preemption or an interruption the same command goes on from the newest checkpoint. A run ends with its
# connection: start it in tmux on a machine that stays up.
#
# Settings, from the environment:
#   DGJAX_DIR       the checkout on the workers, below the home folder; default: dgjax
#   DGJAX_ACTIVATE  script to source there first; default: .venv/bin/activate
#   DGJAX_CACHE     where the workers keep prepared data; default: ~/.cache/dgjax

set -eu
if [ "$#" -lt 3 ]; then
  echo "usage: $0 NAME ZONE --config=FILE [--KEY=VALUE ...]" >&2
  exit 1
fi
name=$1 zone=$2
shift 2

command="cd $(printf %q "${DGJAX_DIR:-dgjax}") && . $(printf %q "${DGJAX_ACTIVATE:-.venv/bin/activate}") &&"
if [ -n "${DGJAX_CACHE:-}" ]; then
  command="$command DGJAX_CACHE=$(printf %q "$DGJAX_CACHE")"
fi
# JAX finds the pod's other workers in the machines' metadata.
command="$command DGJAX_PROCESSES=auto exec python -m dgjax.main$(printf ' %q' "$@")"

exec gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$command"

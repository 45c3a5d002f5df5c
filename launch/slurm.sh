#!/bin/bash
# Trains on a SLURM cluster, and goes on where it stopped after a preemption or the time limit.
#
#   sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 launch/slurm.sh --config=configs/dmg_pacs.py --config.target=sketch
#
# GPUs: one task per GPU, so --ntasks-per-node equals --gpus-per-node; JAX gives each task the GPU of its local number.
# Leave the GPUs visible to all tasks of a node: no --gpus-per-task, no --gpu-bind.
# CPUs: one task per node, --ntasks-per-node=1 and no --gpus-per-node.
# config.batch_size is over all tasks, and must divide among them.
#
# The folder of the run (--workdir) and the checkout must be on a file system that all nodes share. So may the prepared
# data ($DGJAX_CACHE, ~/.cache/dgjax): the first task prepares them, the others wait. On a disk of each node's own they
# are prepared once per node.
#
# Three minutes before the time limit, and when the job is preempted, SLURM sends SIGTERM to the tasks. They save at the
# same step and exit with 75; then the job goes back into the queue, and on from its checkpoint. The GraceTime of a
# partition that is preempted must leave time for a save. A job that scancel ended stays ended.
#
# Settings, from the environment:
#   DGJAX_ACTIVATE  script to source first; default: .venv/bin/activate if there is one
#   DGJAX_DIR       the checkout; default: the folder that sbatch was called in

#SBATCH --job-name=dgjax
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@180
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1

set -u
cd "${DGJAX_DIR:-${SLURM_SUBMIT_DIR:-.}}" || exit 1
activate=${DGJAX_ACTIVATE:-.venv/bin/activate}
if [ -f "$activate" ]; then
  . "$activate"
elif [ -n "${DGJAX_ACTIVATE:-}" ]; then
  echo "error: DGJAX_ACTIVATE names $activate, and there is no such file" >&2
  exit 1
fi

# SLURM may signal this shell too; it must outlive the tasks.
trap : TERM

# --wait: when one task has failed the others are ended, but those that are about to finish may do so.
srun --label --kill-on-bad-exit=0 --wait=60 python -m dgjax.main "$@" &
tasks=$!
while kill -0 "$tasks" 2>/dev/null; do
  wait "$tasks"  # a trapped signal cuts it short
done
wait "$tasks"
status=$?

if [ "$status" -eq 75 ] && [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
  echo "saved; job $SLURM_JOB_ID goes back into the queue"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"

#!/bin/bash
# Runs launch/slurm.sh on a real SLURM of one node, which this script starts on this machine and takes away again.
#
#   apt-get install slurm-wlm munge   # Debian's; then, as root:
#   launch/tests/slurm.sh [PYTHON]
#
# 1. One run over two tasks. 2. The same run, preempted in the middle and requeued: it goes on and ends. 3. A job array
# of two seeds. Needs root (slurmd) and about five minutes; everything lies in a temporary folder. The exit status is
# that of the first thing that went wrong.

set -eu
python=$(realpath -s "${1:-$(command -v python)}")
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d /tmp/dgjax-slurm.XXXXXX)
export SLURM_CONF=$work/slurm.conf PYTHONPATH=$root DGJAX_DIR=$root DGJAX_ACTIVATE=$work/activate

finish() {
  status=$?
  [ "$status" -eq 0 ] || tail -n 20 "$work"/*.log
  for daemon in slurmd slurmctld munged; do
    [ ! -f "$work/$daemon.pid" ] || kill "$(cat "$work/$daemon.pid")" || true
  done
  sleep 2
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT

mkdir "$work/state" "$work/spool"
chmod 755 "$work"
echo "export PATH=$(dirname "$python"):\$PATH" > "$DGJAX_ACTIVATE"
cat > "$SLURM_CONF" << END
ClusterName=test
SlurmctldHost=$(hostname -s)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
CryptoType=crypto/munge
SlurmctldPort=27817
SlurmdPort=27818
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
MpiDefault=none
ReturnToService=2
NodeName=$(hostname -s) CPUs=$(nproc) State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL PriorityTier=2 PreemptMode=OFF
END
head -c 1024 /dev/urandom > "$work/munge.key"
chmod 400 "$work/munge.key"
munged --force --key-file="$work/munge.key" --socket="$work/munge.socket" --pid-file="$work/munged.pid" \
  --log-file="$work/munged.log" --seed-file="$work/munge.seed"
slurmctld
slurmd
until sinfo --noheader --format=%t | grep -q idle; do sleep 1; done

# submit NAME SBATCH-OPTIONS -- ARGUMENTS: submits launch/slurm.sh; prints the job's number
submit() {
  name=$1
  shift
  options=()
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  shift
  sbatch --parsable --job-name="$name" --output="$work/$name-%a.log" "${options[@]}" "$root/launch/slurm.sh" \
    --config=configs/dmg_digits.py --config.target=plain --config.batch_size=16 --config.eval_every=10 "$@"
}
# gone JOB: waits until it has left the queue
gone() {
  while squeue --noheader --jobs="$1" 2> /dev/null | grep -q .; do sleep 1; done
}
say() { echo "== $*"; }
two="--ntasks-per-node=2 --cpus-per-task=1"

say "one run over two tasks"
# shellcheck disable=SC2086
gone "$(submit two $two -- --workdir="$work/two" --config.steps=20)"
cat "$work"/two-*.log
grep -q '"processes": 2' "$work/two/results.json"

say "preempted by a job of another partition, requeued, ended"
# shellcheck disable=SC2086
job=$(submit preempted $two -- --workdir="$work/preempted" --config.steps=300)
until [ -d "$work/preempted/checkpoints/20" ]; do sleep 0.5; done
other=$(sbatch --parsable --partition=high --exclusive --output=/dev/null --wrap "sleep 5")
gone "$other"
scontrol update "JobId=$job" StartTime=now || true  # a requeued job is held back for two minutes
gone "$job"
cat "$work"/preempted-*.log
grep -q "resumed from step" "$work"/preempted-*.log
grep -q '"step": 300' "$work/preempted/results.json"

say "an array of seeds"
cat > "$work/array.sh" << END
#!/bin/bash
exec "$root/launch/slurm.sh" "\$@" --config.seed="\$SLURM_ARRAY_TASK_ID" --workdir="$work/seed=\$SLURM_ARRAY_TASK_ID"
END
gone "$(sbatch --parsable --array=0-1 --output="$work/array-%a.log" "$work/array.sh" --config=configs/dmg_digits.py \
  --config.target=plain --config.batch_size=16 --config.eval_every=10 --config.steps=20)"
grep -H . "$work"/array-*.log | sed "s|$work/||"
grep -h '"seed"' "$work"/seed=*/results.json | sort -u
say "all as it should be"

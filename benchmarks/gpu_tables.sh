#!/usr/bin/env bash
# Tables with error bars on a machine with one GPU, in at most nine minutes: the most wanted rows first, each command's
# runs trained together, and each finished run kept, so that a stop loses only what was under way.
#
#   benchmarks/gpu_tables.sh MNIST OUT        # MNIST: folder of the four IDX files; OUT: where runs and tables go
#
# It needs what gpu.sh needs. The same command goes on where it was stopped. LIMIT sets the seconds.
set -uo pipefail
cd "$(dirname "$0")/.."
mnist=$1 out=$2
source benchmarks/gpu_environment.sh
end=$((SECONDS + ${LIMIT:-540}))

run() {  # run FOLDER ARGUMENTS...: trains, and keeps the results without checkpoints
  local folder=$1; shift
  local left=$((end - SECONDS))
  [ "$left" -gt 20 ] || { echo "no time left for $folder"; return; }
  echo "== $folder: $*"
  timeout --signal=TERM --kill-after=15 "$left" python3 -m dgjax.main "$@" --workdir="/tmp/dgjax-runs/$folder" \
    > "/tmp/dgjax-runs/$folder.txt" 2>&1
  echo "status $? after ${SECONDS} s"; grep -h "together\|^[0-9:]* [0-9]* runs\|error" "/tmp/dgjax-runs/$folder.txt" | cut -c1-300
}
save() {  # results and metrics of all runs, as one archive; figures and checkpoints stay behind
  mkdir -p "$out"
  (cd /tmp/dgjax-runs && find . -name results.json -o -name config.json | tar czf "$OLDPWD/results.tgz" -T -) \
    && mv results.tgz "$out/results.tgz"
  for folder in rotated mnist_mp lambda; do
    [ -d "/tmp/dgjax-runs/$folder" ] && python3 -m dgjax.analysis.tables "/tmp/dgjax-runs/$folder" --format=markdown \
      --group-by=config > "$out/$folder.md" 2>&1
  done
}

mkdir -p /tmp/dgjax-runs/{rotated,mnist_mp,lambda}
run mnist_mp/aggregate --config=rcl_mnist_mp:aggregate --config.data.dir="$mnist" --config.seeds=5; save
run mnist_mp/rcl --config=rcl_mnist_mp --config.data.dir="$mnist" --config.seeds=5; save
run rotated/crossgrad --config=crossgrad_rotated_mnist --config.data.dir="$mnist" --config.seeds=5; save
run rotated/aggregate --config=crossgrad_rotated_mnist:aggregate --config.data.dir="$mnist" --config.seeds=5; save
run rotated/labelgrad --config=crossgrad_rotated_mnist:labelgrad --config.data.dir="$mnist" --config.seeds=5; save
run rotated/dan --config=crossgrad_rotated_mnist:dan --config.data.dir="$mnist" --config.seeds=5; save
run lambda/dmg --config=dmg_digits --config.seeds=5 \
  --config.sweep.algorithm.overlap_weight=0,0.01,0.03,0.1,0.3,1,3; save
for row in m=inf jigsaw rsc channel_dropout spectral_decoupling reconstruction; do
  run "mnist_mp/$row" --config="rcl_mnist_mp:$row" --config.data.dir="$mnist" --config.seeds=5; save
done

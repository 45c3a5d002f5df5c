#!/usr/bin/env bash
# Tables with error bars on a machine with one GPU, in at most nine minutes: the most wanted rows first, each command's
# runs trained together, and each finished run kept, so that a stop loses only what was under way.
#
#   benchmarks/gpu_tables.sh MNIST OUT        # MNIST: folder of the four IDX files; OUT: where runs and tables go
#
# It needs what gpu.sh needs. The same command goes on where it was stopped. LIMIT sets the seconds, RUNS the folder of
# the runs.
set -uo pipefail
usage="usage: gpu_tables.sh MNIST OUT"
mnist=$(realpath "${1:?$usage}") out=$(realpath -m "${2:?$usage}") runs=$(realpath -m "${RUNS:-/tmp/dgjax-runs}")
cd "$(dirname "$0")/.." || exit 1
source benchmarks/gpu_environment.sh
end=$((${LIMIT:-540} - 40))  # the rest is for the tables

run() {  # run FOLDER ARGUMENTS...: trains, and keeps all results so far as one archive, without checkpoints and figures
  local folder=$1; shift
  local left=$((end - SECONDS))
  [ "$left" -gt 20 ] || { echo "no time left for $folder"; return; }
  echo "== $folder: $*"
  timeout --signal=TERM --kill-after=15 "$left" python3 -m dgjax.main "$@" --workdir="$runs/$folder" \
    > "$runs/$folder.txt" 2>&1
  echo "status $? after ${SECONDS} s"
  grep -h "together\|^[0-9:]* [0-9]* runs\|error" "$runs/$folder.txt" | cut -c1-300
  (cd "$runs" && find . -name results.json -o -name config.json | tar czf "$out/results.tgz.part" -T -) \
    && mv "$out/results.tgz.part" "$out/results.tgz"
}

mkdir -p "$out" "$runs"/{rotated,mnist_mp,lambda}
run mnist_mp/aggregate --config=rcl_mnist_mp:aggregate --config.data.dir="$mnist" --config.seeds=5
run mnist_mp/rcl --config=rcl_mnist_mp --config.data.dir="$mnist" --config.seeds=5
run rotated/crossgrad --config=crossgrad_rotated_mnist --config.data.dir="$mnist" --config.seeds=5
run rotated/aggregate --config=crossgrad_rotated_mnist:aggregate --config.data.dir="$mnist" --config.seeds=5
run rotated/labelgrad --config=crossgrad_rotated_mnist:labelgrad --config.data.dir="$mnist" --config.seeds=5
run rotated/dan --config=crossgrad_rotated_mnist:dan --config.data.dir="$mnist" --config.seeds=5
run lambda/dmg --config=dmg_digits --config.seeds=5 \
  --config.sweep.algorithm.overlap_weight=0,0.01,0.03,0.1,0.3,1,3
for row in m=inf jigsaw rsc channel_dropout spectral_decoupling reconstruction; do
  run "mnist_mp/$row" --config="rcl_mnist_mp:$row" --config.data.dir="$mnist" --config.seeds=5
done
for folder in rotated mnist_mp lambda; do
  python3 -m dgjax.analysis.tables "$runs/$folder" --format=markdown --group-by=config > "$out/$folder.md" 2>&1
done

#!/usr/bin/env bash
# Readings of the reverse contrastive loss against the paper's series of margins (RCL, Table 2), at full length, in
# the order in which they are worth knowing. The six margins of a reading train together; a finished reading is kept.
#
#   benchmarks/rcl_readings.sh MNIST OUT [NAME ...]   # MNIST: folder of the four IDX files; OUT: where tables go
#
# NAME are readings, all by default. It needs what gpu.sh needs. The same command goes on where it was stopped. SEEDS
# sets how many (1), LIMIT the seconds, RUNS the folder of the runs.
set -uo pipefail
usage="usage: rcl_readings.sh MNIST OUT [NAME ...]"
mnist=$(realpath "${1:?$usage}") out=$(realpath -m "${2:?$usage}") runs=$(realpath -m "${RUNS:-/tmp/dgjax-runs}")
shift 2
cd "$(dirname "$0")/.." || exit 1
wanted=" $* "
source benchmarks/gpu_environment.sh
end=$((SECONDS + ${LIMIT:-36000}))
mkdir -p "$out" "$runs/rcl_readings"

reading() {  # reading NAME KEY=VALUE...: all margins of one reading at 28 pixels, and their table
  local name=$1 folder=$runs/rcl_readings/$1 left=$((end - SECONDS)); shift
  [[ $wanted == "  " || $wanted == *" $name "* ]] || return
  [ "$left" -gt 20 ] || { echo "no time left for $name"; return; }
  echo "== $name: $*"
  timeout --signal=TERM --kill-after=15 "$left" python3 -m dgjax.main --config=rcl_mnist_mp \
    --config.data.dir="$mnist" --config.data.image_size=28 --config.seeds="${SEEDS:-1}" \
    --config.sweep.algorithm.margin=0.2,0.4,0.6,0.8,0.9,inf "${@/#/--config.}" --workdir="$folder" > "$folder.txt" 2>&1
  echo "status $? after $SECONDS s"
  python3 -m dgjax.analysis.sweep "$folder" algorithm.margin | tee "$out/$name.txt"
}

mean=(algorithm.pooling=mean algorithm.rescale=feature) max=(algorithm.pooling=max algorithm.rescale=feature)
reading mean "${mean[@]}"
reading mean_weight "${mean[@]}" algorithm.contrastive_weight=0.25
reading mean_later "${mean[@]}" algorithm.begin=1
reading max "${max[@]}"
reading max_weight "${max[@]}" algorithm.contrastive_weight=0.25
reading mean_one_range algorithm.pooling=mean algorithm.rescale=batch
reading map algorithm.rescale=batch
reading map_feature algorithm.rescale=feature
reading map_feature_later algorithm.rescale=feature algorithm.begin=1
reading map_channel algorithm.rescale=channel

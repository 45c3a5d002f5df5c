#!/usr/bin/env bash
# Numbers and speed on a machine with one NVIDIA GPU and no network, in at most nine minutes.
#
#   benchmarks/gpu.sh [PART ...]        # numbers resume groups steps input; see gpu.py
#
# It needs Python with jax[cuda], flax, optax, orbax-checkpoint and PyTorch. What else dgjax needs may lie as wheels in
# the folder .whl of the repository: they are put on the path from there. LIMIT sets the seconds.
set -uo pipefail
cd "$(dirname "$0")/.."
source benchmarks/gpu_environment.sh
timeout "${LIMIT:-540}" python3 benchmarks/gpu.py ${@:+--parts "$@"}

#!/usr/bin/env bash
# Numbers and speed on a machine with one NVIDIA GPU and no network, in at most nine minutes.
#
#   benchmarks/gpu.sh [PART ...] [--images=DIR]        # see gpu.py; LIMIT sets the seconds
#
# It needs Python with jax[cuda], flax, optax, orbax-checkpoint and, for the comparison, PyTorch. What else dgjax needs
# may lie as wheels in the folder .whl of the repository, which are put on the path. They come from a machine with a
# network and the same version of Python: `pip wheel --wheel-dir=.whl .`, of which what the other machine has is deleted.
# `benchmarks/gpu.sh --small` tries all of it on a CPU.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
source benchmarks/gpu_environment.sh
exec python3 benchmarks/gpu.py --limit=$((${LIMIT:-540} - SECONDS)) "$@"

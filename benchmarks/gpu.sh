#!/usr/bin/env bash
# Numbers and speed on a machine with one NVIDIA GPU and no network, in at most nine minutes.
#
#   benchmarks/gpu.sh [PART ...] [--images=DIR]        # see gpu.py; LIMIT sets the seconds
#
# It needs Python with jax[cuda], flax, optax, orbax-checkpoint and, for the comparison, PyTorch. What else dgjax needs
# may lie as wheels in the folder .whl of the repository, which are put on the path. On a machine with a network and
# `pip download`, for the other one's Python:
#
#   pip download --dest=.whl --no-deps --only-binary=:all: --python-version=3.12 --platform=manylinux_2_28_x86_64 \
#     --platform=manylinux_2_17_x86_64 --platform=manylinux2014_x86_64 --platform=any PACKAGE ...
#
# `benchmarks/gpu.sh --small` tries all of it on a CPU.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
source benchmarks/gpu_environment.sh
exec python3 benchmarks/gpu.py --limit=$((${LIMIT:-540} - SECONDS)) "$@"

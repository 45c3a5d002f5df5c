#!/usr/bin/env bash
# Numbers and speed on a machine with one NVIDIA GPU and no network, in at most nine minutes.
#
#   benchmarks/gpu.sh [PART ...]        # numbers resume groups steps input; see gpu.py
#
# It needs Python with jax[cuda], flax, optax, orbax-checkpoint and PyTorch. What else dgjax needs may lie as wheels in
# the folder .whl of the repository: they are put on the path from there. LIMIT sets the seconds.
set -uo pipefail
cd "$(dirname "$0")/.."
if compgen -G ".whl/*.whl" > /dev/null; then
  python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target /tmp/dgjax-site .whl/*.whl || exit 1
fi
export PYTHONPATH="$PWD:/tmp/dgjax-site:${PYTHONPATH:-}" PYTHONUNBUFFERED=1 DGJAX_CACHE="${DGJAX_CACHE:-/tmp/dgjax-gpu}"
export XLA_PYTHON_CLIENT_PREALLOCATE=false TF_CPP_MIN_LOG_LEVEL=2
timeout "${LIMIT:-540}" python3 benchmarks/gpu.py ${@:+--parts "$@"}

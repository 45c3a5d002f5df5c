# Sourced by the scripts beside it, from the root of the repository: dgjax and what it needs from wheels in .whl, if
# there are any, on the path; data prepared and programs compiled once for all runs; GPU memory taken as it is needed.
site=/tmp/dgjax-site
if compgen -G ".whl/*.whl" > /dev/null && ! [ "$site" -nt .whl ]; then  # not yet, or other wheels since
  rm -rf "$site" "$site.part"
  python3 -m pip install -q --no-index --no-deps --no-compile --target "$site.part" .whl/*.whl || exit 1
  mv "$site.part" "$site"
fi
export PYTHONPATH="$PWD:$site:${PYTHONPATH:-}" PYTHONUNBUFFERED=1 DGJAX_CACHE="${DGJAX_CACHE:-/tmp/dgjax-gpu}"
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$DGJAX_CACHE/xla}"
export XLA_PYTHON_CLIENT_PREALLOCATE=false XLA_PYTHON_CLIENT_MEM_FRACTION=0.9 TF_CPP_MIN_LOG_LEVEL=2

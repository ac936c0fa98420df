#!/usr/bin/env bash
# Measures an accelerator in a quarter of an hour: see benchmarks/accelerator.py.
#
#     bash benchmarks/accelerator.sh OUT [--torch_python=PATH] [--limit_s=900] [--parts=...] [--quick]
#
# PYTHON chooses the interpreter.
set -eu
if [[ $# -eq 0 || $1 == -* ]]; then
  echo "usage: bash benchmarks/accelerator.sh OUT [FLAGS]" >&2
  exit 2
fi
out=$(realpath -m "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-python}" -m benchmarks.accelerator "$out" "${@:2}"

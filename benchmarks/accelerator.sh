#!/usr/bin/env bash
# Runs all benchmarks of this accelerator in under ten minutes.
#
#     bash benchmarks/accelerator.sh OUT_DIR
#     bash benchmarks/accelerator.sh OUT_DIR --quick     # tiny cases, to try it out; works on a CPU
#     TORCH_PYTHON=PATH/TO/python bash benchmarks/accelerator.sh OUT_DIR
#     PATIENCE=10 bash benchmarks/accelerator.sh OUT_DIR --quick    # ten times the limits
#
# Writes accelerator.md, a JSON file for each part, and logs to OUT_DIR. Each part has a time limit;
# one that fails or hangs doesn't affect the others. At the end it prints our targets with the
# measurements. The exit code is that of benchmarks.numerics.
set -u -o pipefail

if [[ $# -lt 1 || $# -gt 2 || ( $# -eq 2 && $2 != --quick ) ]]; then
  echo "usage: bash benchmarks/accelerator.sh OUT_DIR [--quick]" >&2
  exit 2
fi
mkdir -p "$1" || exit 1
out=$(cd "$1" && pwd)
quick=("${@:2}")
python=${PYTHON:-python}
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
report=$out/accelerator.md
suites=$out/suites.md
rm -f "$report" "$suites"

# part NAME LIMIT_S COMMAND...: runs a command; stdout goes to the report, stderr to a log.
part() {
  local name=$1 limit=$(($2 * ${PATIENCE:-1}))
  shift 2
  echo "== $name, at most $limit s" >&2
  local begin=$SECONDS
  timeout --kill-after=10 "$limit" "$@" >"$out/$name.txt" 2>"$out/$name.log"
  local code=$?
  {
    printf '\n## %s\n\n' "$name"
    cat "$out/$name.txt"
    if ((code == 124 || code == 137)); then
      printf '\nOut of time after %d s.\n' $((SECONDS - begin))
    elif ((code != 0)); then
      printf '\nEnded with code %d: %s\n' "$code" "$(tail -n 1 "$out/$name.log")"
    fi
  } >>"$report"
  echo "   $((SECONDS - begin)) s, code $code" >&2
  return "$code"
}

# suite NAME LIMIT_S SECONDS: runs a suite; rows that were measured are kept if it fails.
suite() {
  local limit=$(($2 * ${PATIENCE:-1} - 5))
  part "$1" "$2" "$python" -m benchmarks.run --suite="$1" --limit_s="$limit" --seconds="$3" \
    --page="$suites" --json="$out" --torch_python="${TORCH_PYTHON:-}" "${quick[@]}"
}

echo "# $(date -u +%Y-%m-%d), $(uname -n)" >"$report"
# A fresh cache that all cases share, so that nothing is compiled twice.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$out/compiled}

part numerics 90 "$python" -m benchmarks.numerics --out="$out/numerics.json" "${quick[@]}"
numerics=$?
part epochs 90 "$python" -m benchmarks.epochs --out="$out/epochs.json" "${quick[@]}"
suite step 140 1
suite peers 120 1
suite end_to_end 60 0.5
suite layers 30 0.3
suite inference 30 0.5
suite input 30 0.3
# Meshes of the GPUs of this machine; a single GPU makes no mesh.
if (($(nvidia-smi --list-gpus 2>/dev/null | wc -l) > 1)); then
  suite scaling 60 1
fi

{
  cat "$suites" 2>/dev/null
  printf '\n'
  "$python" -m benchmarks.targets "$out"
} >>"$report"
"$python" -m benchmarks.targets "$out"
echo "$report" >&2
exit "$numerics"

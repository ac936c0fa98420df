#!/usr/bin/env bash
# Runs jaxlung on all hosts of a Cloud TPU slice. See docs/scaling.md.
#
#   bash launch/tpu_pod.sh install --name=NAME --zone=ZONE [--project=PROJECT]
#   bash launch/tpu_pod.sh run     --name=NAME --zone=ZONE -- --config=covidqu --workdir=/mnt/shared/run
#   bash launch/tpu_pod.sh follow  --name=NAME --zone=ZONE
#   bash launch/tpu_pod.sh stop    --name=NAME --zone=ZONE
#
# `install` sends the last commit of this checkout to every host and installs it there. `run` starts
# jaxlung on every host with the arguments after `--`, those of `jaxlung train` or `evaluate`, and
# shows the output. A lost connection doesn't end the run; `follow` shows its output again. `stop`
# lets it save and exit. The same `run` command resumes it.

set -euo pipefail

fail() {
  echo "tpu_pod.sh: $1" >&2
  exit 2
}

action=${1:-}
case $action in
  install | run | follow | stop) shift ;;
  *) fail "got '$action', want install, run, follow or stop first." ;;
esac

name='' zone='' project=''
while (($#)); do
  case $1 in
    --name=?*) name=${1#*=} ;;
    --zone=?*) zone=${1#*=} ;;
    --project=?*) project=${1#*=} ;;
    --)
      shift
      break
      ;;
    *) fail "got '$1', want --name=NAME, --zone=ZONE, --project=PROJECT, or -- before jaxlung's." ;;
  esac
  shift
done
[[ $name ]] || fail "want --name=NAME of the TPU."
[[ $zone ]] || fail "want --zone=ZONE of the TPU."
if [[ $action == run ]]; then
  workdir=''
  for argument in "$@"; do
    [[ $argument == --workdir=* ]] && workdir=${argument#*=}
  done
  [[ $workdir == /* ]] || fail "run: got workdir '$workdir', want -- ... --workdir=/FOLDER that all hosts share."
elif (($#)); then
  fail "$action: got '$1' after --, want nothing there."
fi
command -v gcloud > /dev/null || fail "gcloud is not installed; see https://cloud.google.com/sdk."

where=("--zone=$zone" --worker=all)
[[ $project ]] && where+=("--project=$project")

on_all_hosts() {
  gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --command="$1"
}

# These run on the hosts: nothing in them is expanded here.
# shellcheck disable=SC2016
is_running='pid=$(cat jaxlung_pod/run.pid 2> /dev/null) && kill -0 "$pid" 2> /dev/null'
refuse="if $is_running; then echo 'a run is in progress: follow or stop it.' >&2; exit 1; fi"
# Some images of TPU VMs have an older Python than jaxlung needs, so uv installs one. On newer images
# pip installs nothing, not even into the home folder, without PIP_BREAK_SYSTEM_PACKAGES.
install="set -e
$refuse
"'rm -rf jaxlung_pod/source && mkdir -p jaxlung_pod/source
tar -xzf jaxlung.tar.gz -C jaxlung_pod/source && cd jaxlung_pod
PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user --upgrade uv
python3 -m uv venv --quiet --clear --python 3.12 venv
python3 -m uv pip install --quiet --python venv/bin/python -e "source[tpu]"
venv/bin/python -m jaxlung.main --help > /dev/null && echo installed'
# shellcheck disable=SC2016
follow='tail -n 50 --pid="$(cat jaxlung_pod/run.pid)" -F jaxlung_pod/run.log'
# setsid: a lost connection ends the tail, not the run.
# shellcheck disable=SC2016
start="$refuse
"'mkdir -p jaxlung_pod && : > jaxlung_pod/run.log
setsid jaxlung_pod/venv/bin/python -m jaxlung.main ARGUMENTS \
  >> jaxlung_pod/run.log 2>&1 < /dev/null &
run=$!
echo "$run" > jaxlung_pod/run.pid
'"$follow"' &
wait "$run"; code=$?
wait  # The tail shows the last lines.
exit "$code"'

case $action in
  install)
    cd "$(dirname "$0")/.."
    archive=$(mktemp -d)/jaxlung.tar.gz
    trap 'rm -rf "$(dirname "$archive")"' EXIT
    git archive --format=tar.gz --output="$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$name:jaxlung.tar.gz" "${where[@]}"
    on_all_hosts "$install"
    ;;
  run)
    printf -v arguments '%q ' "$@"
    on_all_hosts "${start/ARGUMENTS/"$arguments"}"
    ;;
  follow) on_all_hosts "$follow" ;;
  stop) on_all_hosts "if $is_running; then kill -TERM \"\$pid\"; fi" ;;
esac

#!/usr/bin/env bash
# Runs the module's own tests in a real Slicer, with and without its main window.
#
#   SLICER=/path/to/Slicer ./scripts/test_slicer.sh [--screenshots DIR] [TEST...]
#
# Prints a line a test; exit code 0 if all ran and passed. TEST is a name of Testing/Slicer, such as
# MedPTQPanelTest. The worker is run by MEDPTQ_WORKER_PYTHON, a Python that has medptq's packages, or
# else by Slicer's own. Without a screen, xvfb-run is used where it is installed.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
TIMEOUT_SECONDS=1200

screenshots=""
wanted=()
while [ $# -gt 0 ]; do
  case "$1" in
    --screenshots) mkdir -p "${2:?--screenshots needs a folder}"; screenshots="$(cd "$2" && pwd)"; shift 2 ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"; exit 0 ;;
    -*) echo "$0: unknown option $1; see --help" >&2; exit 2 ;;
    *) wanted+=("$1"); shift ;;
  esac
done

SLICER="${SLICER:?name one: SLICER=/path/to/Slicer $0}"

runner=()
if [ -z "${DISPLAY:-}" ] && [ "$(uname)" = Linux ] && command -v xvfb-run >/dev/null; then
  runner=(xvfb-run -a -s "-screen 0 1600x1000x24 +extension GLX")
fi
command -v timeout >/dev/null && runner=(timeout "$TIMEOUT_SECONDS" ${runner[@]+"${runner[@]}"})

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
failures=0 skips=0

# run NAME [--no-main-window]: one module of tests in a Slicer of its own, so that one that crashes
# takes no other with it.
run() {
  local name="$1" mode="${2:-}" lines="$work/lines" log="$work/log" status=0
  : >"$lines"
  MEDPTQ_SCREENSHOTS="$screenshots" ${runner[@]+"${runner[@]}"} "$SLICER" \
    --no-splash --testing --disable-cli-modules $mode \
    --additional-module-paths "$ROOT/MedPTQSlicer" \
    --python-script "$ROOT/Testing/Slicer/run_tests.py" -- "$name" "$lines" \
    >"$log" 2>&1 </dev/null || status=$?
  sed "s/\$/${mode:+  (no main window)}/" "$lines"
  grep '^TIME ' "$log" | sed 's/^/        /' || true
  skips=$((skips + $(grep -c 'MEDPTQ_WORKER_PYTHON can name another' "$lines" || true)))
  # Slicer also ends with 1 where Python printed an error outside of the tests.
  if [ $status -ne 0 ] || ! [ -s "$lines" ]; then
    failures=$((failures + 1))
    echo "FAILED   $name: Slicer ended with $status${mode:+ (no main window)}. The end of its log:"
    tail -n 60 "$log" | sed 's/^/    /'
  fi
}

# CMake's list is the list of tests.
tests="MedPTQSlicer
$(sed -nE 's/^slicer_add_python_unittest\(SCRIPT ([A-Za-z]+)\.py( \$\{_no_main_window\})?\)/\1\2/p' \
  "$ROOT/Testing/Slicer/CMakeLists.txt")"
ran=0
while read -r name mode; do
  if [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $name "* ]]; then
    run "$name" ${mode:+--no-main-window}
    ran=$((ran + 1))
  fi
done <<<"$tests"

if [ $ran -eq 0 ]; then
  echo "No test is called ${wanted[*]}." >&2
  exit 2
fi
[ $skips -eq 0 ] || echo "$skips skipped: they need a Python with medptq's packages, see --help."
if [ $failures -eq 0 ] && [ $skips -eq 0 ]; then
  echo "All passed."
else
  exit 1
fi

#!/usr/bin/env bash
# Checks style, types and behaviour. Sets itself up on a fresh machine; arguments go to pytest.
set -euo pipefail
EXTRA='[test]'
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

echo "== ruff"
ruff check .
ruff format --check .
echo "== mypy"
mypy
echo "== pytest"
# A file at a time on each core; more than four would only wait for each other's memory.
exec python -m pytest -n auto --maxprocesses 4 --dist loadfile "$@"

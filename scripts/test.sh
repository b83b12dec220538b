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
exec python -m pytest "$@"

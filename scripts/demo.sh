#!/usr/bin/env bash
# Quantizes two real networks, for brain extraction and for brain regions, segments a real head
# with each on every engine this machine has, and writes a report of each.
# Usage: scripts/demo.sh [--output DIR]. Sets itself up.
set -euo pipefail
EXTRA='[demo]'
caller="$PWD"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec python scripts/demo.py --from "$caller" "$@"

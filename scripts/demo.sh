#!/usr/bin/env bash
# Quantizes a real brain-extraction network, segments a real head with every engine this machine
# has, and writes a report. Usage: scripts/demo.sh [--output DIR]. Sets itself up.
set -euo pipefail
EXTRA='[demo]'
caller="$PWD"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
exec python scripts/demo.py --from "$caller" "$@"

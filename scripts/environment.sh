# Sourced by the other scripts: makes .venv with this project and what EXTRA names, and uses it.
# PYTHON chooses the interpreter; otherwise the first of python3, python3.14 to python3.10 that
# this project supports. Nothing outside .venv is changed, and nothing is done when it is current.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

supported='import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 15))'
find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
    if "$candidate" -c "$supported" 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "No Python 3.10 to 3.14 with venv was found. Install one, or name it: PYTHON=/path/to/python3 $0" >&2
  return 1
}

VENV="${MEDPTQ_VENV:-.venv}"
wanted="$EXTRA $(cat pyproject.toml constraints.txt | cksum)"
if [ ! -x "$VENV/bin/python" ] || ! grep -qxF "$wanted" "$VENV/installed" 2>/dev/null; then
  if [ ! -x "$VENV/bin/python" ]; then
    python="$(find_python)"
    echo "Making $VENV with $("$python" --version) ..."
    "$python" -m venv "$VENV"
  fi
  echo "Installing medptq${EXTRA} and what it needs into $VENV (a few minutes the first time) ..."
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade pip
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint constraints.txt --editable ".${EXTRA}"
  # A demo's set-up also serves a later demo, a test's set-up both; so every line is kept.
  echo "$wanted" >>"$VENV/installed"
fi
export PATH="$PWD/$VENV/bin:$PATH"

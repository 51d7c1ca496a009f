# shellcheck shell=bash
# Sourced by flash.sh and tests/run: makes ROOT/.venv what pyproject.toml and requirements.lock say, if it is not.

# kobler_python: prints the newest Python >= 3.11 that can make a virtual environment.
kobler_python() {
  local name
  for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
    if command -v "$name" >/dev/null 2>&1 &&
      "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      command -v "$name"
      return 0
    fi
  done
  echo "kobler: no Python 3.11 or newer with the module venv was found:" \
    "install one (Debian: apt install python3 python3-venv) and run this again" >&2
  return 1
}

# kobler_venv ROOT EXTRA: EXTRA is "" or "[test]"; the stamp is removed first and written last, so that an
# installation which was interrupted is made again.
kobler_venv() {
  local root=$1 extra=$2 python want stamp
  stamp=$root/.venv/.kobler-stamp$extra
  want=$(cat "$root/pyproject.toml" "$root/requirements.lock" | cksum)
  if [ -x "$root/.venv/bin/kobler" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] &&
    "$root/.venv/bin/python" -c 'import kobler' >/dev/null 2>&1; then
    return 0
  fi
  rm -f "$root"/.venv/.kobler-stamp*
  if ! "$root/.venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(kobler_python) || return 1
    echo "kobler: making a virtual environment with $python" >&2
    rm -rf "$root/.venv"
    "$python" -m venv "$root/.venv" || return 1
  fi
  echo "kobler: installing the packages that Kobler needs (once; a minute or so)" >&2
  if ! "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$root/requirements.lock" --editable "$root$extra" >&2; then
    echo "kobler: the packages could not be installed: is the package index reachable? (the reason stands above)" >&2
    return 1
  fi
  printf '%s\n' "$want" >"$stamp"
}

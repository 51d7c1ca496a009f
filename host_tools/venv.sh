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

# kobler_run COMMAND…: in a process group of its own, so that a signal to this shell, or Ctrl-C, ends the command and
# all that it started; without that, SIGTERM would end the shell and leave pip behind. Says now and then that it lives.
kobler_run() {
  local child ticker status=0
  set -m
  "$@" </dev/null &
  child=$!
  (n=0; while sleep 10; do n=$((n + 10)); echo "kobler: still at it ($n s)" >&2; done) </dev/null &
  ticker=$!
  set +m
  trap 'kobler_stop 130 "$child" "$ticker"' INT
  trap 'kobler_stop 143 "$child" "$ticker"' TERM
  trap 'kobler_stop 129 "$child" "$ticker"' HUP
  wait "$child" || status=$?
  trap - INT TERM HUP
  { kill -TERM -- "-$ticker" && wait "$ticker"; } 2>/dev/null || true
  return "$status"
}

# kobler_stop STATUS GROUP…
kobler_stop() {
  local status=$1 group
  shift
  trap '' INT TERM HUP
  for group in "$@"; do
    { kill -TERM -- "-$group" && wait "$group"; } 2>/dev/null || true
  done
  exit "$status"
}

# kobler_venv ROOT EXTRA: EXTRA is "" or "[test]", and what has the latter has the former too. The stamp names the
# folder, since a clone that was moved has scripts that point to its former place. An installation that was interrupted
# starts from nothing the next time: pip takes a half-written package for a whole one.
kobler_venv() {
  local root=$1 extra=$2 python want begun=$1/.venv/.kobler-begun
  want="$(cat "$root/pyproject.toml" "$root/requirements.lock" | cksum) $root"
  if [ "$(cat "$root/.venv/.kobler-stamp$extra" 2>/dev/null)" = "$want" ] ||
    [ "$(cat "$root/.venv/.kobler-stamp[test]" 2>/dev/null)" = "$want" ]; then
    "$root/.venv/bin/kobler" --version >/dev/null 2>&1 && return 0
  fi
  rm -f "$root"/.venv/.kobler-stamp*
  if [ -e "$begun" ] || ! "$root/.venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(kobler_python) || return 1
    echo "kobler: making a virtual environment with $python" >&2
    rm -rf "$root/.venv"
    kobler_run "$python" -m venv "$root/.venv" || return 1
  fi
  echo "kobler: installing the packages that Kobler needs (once; a minute or so)" >&2
  : >"$begun"
  if ! kobler_run "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$root/requirements.lock" --editable "$root$extra" >&2; then
    echo "kobler: the packages could not be installed: is the package index reachable? (the reason stands above)" >&2
    return 1
  fi
  printf '%s\n' "$want" >"$root/.venv/.kobler-stamp$extra"
  rm -f "$begun"
}

#!/usr/bin/env bash
# From a fresh clone to a live coupler: makes .venv when there is need, then runs `kobler up` with the options given here
# (./flash.sh --help lists them). Standard output belongs to --json; everything else goes to standard error.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=host_tools/venv.sh
. "$root/host_tools/venv.sh"
kobler_venv "$root" ""
exec "$root/.venv/bin/kobler" up "$@"

#!/usr/bin/env bash
# Runs a cluster of three nodes on this one computer, in the foreground, to try it; in production each node.sh has a
# computer of its own. Ends all of them at SIGTERM or Ctrl-C. See docs/brokers.md.
#
# usage: cluster.sh --name NAME [--pki DIR] [--state DIR] [--wss PORT] [--mqtts PORT] [--port PORT]
#                   [--cluster-port PORT] [--monitor PORT] [--ack-wait TIME]
# Node N listens at 127.0.0.N (on macOS: `sudo ifconfig lo0 alias 127.0.0.N` first), its monitor is on 127.0.0.1 at
# --monitor + N - 1; its state, the process id in nats.pid, is in STATE/nN. `STATE/nN.again` starts one node again.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=.kobler/nats monitor=8222 cluster_port=6222
given=()
usage() { sed -n '/^# usage/,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || usage
  case $1 in
    --state) state=$2 ;;
    --monitor) monitor=$2 ;;
    --cluster-port) cluster_port=$2 ;;
    --name | --pki | --wss | --mqtts | --port | --ack-wait) given+=("$1" "$2") ;;
    *) usage ;;
  esac
  shift 2
done
umask 077
mkdir -p "$state"
state=$(cd "$state" && pwd)
addresses=(127.0.0.1 127.0.0.2 127.0.0.3)
[ -e "$state/routes/node.pem" ] || "$here/routes.sh" "$state/routes" "${addresses[@]}"

children=()
trap 'kill "${children[@]}" 2>/dev/null || true; wait' EXIT
trap 'exit 0' TERM INT
for i in 0 1 2; do
  command=("$here/node.sh" "${given[@]}" --node "n$((i + 1))" --state "$state/n$((i + 1))" --bind "${addresses[i]}"
    --monitor $((monitor + i)) --routes "$state/routes" --cluster-port "$cluster_port")
  for j in 0 1 2; do [ "$i" = "$j" ] || command+=(--peer "${addresses[j]}"); done
  { echo '#!/usr/bin/env bash'; printf '%q ' cd "$PWD"; echo; printf '%q ' exec "${command[@]}"; echo; } >"$state/n$((i + 1)).again"
  chmod u+x "$state/n$((i + 1)).again"
  "${command[@]}" &
  children+=($!)
done
# A node that fails is not the others' end.
wait

#!/usr/bin/env bash
# Runs one nats-server for couplers in the foreground: wss://NAME:8443/mqtt and mqtts://NAME:8883, client certificates of
# a Kobler authority required; alone, or as a node of a cluster. See docs/brokers.md.
#
# usage: node.sh --name NAME --node NODE [--pki DIR] [--state DIR] [--bind ADDRESS] [--wss PORT] [--mqtts PORT]
#                [--port PORT] [--monitor PORT] [--ack-wait TIME]
#                [--routes DIR --peer HOST… [--cluster-port PORT] [--cluster CLUSTER]]
#   --name      the DNS name in the couplers' `[cloud] url`, of all nodes; its certificate is PKI/servers/NAME.pem
#   --node      this node's own name, never that of another
#   --pki       the authority's folder (.kobler/pki)
#   --state     where configuration, sessions and messages are kept (/var/lib/kobler-nats)
#   --routes    the folder of routes.sh; --peer, for each other node: its name or address
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/sbin
name= node= pki=.kobler/pki state=/var/lib/kobler-nats bind=0.0.0.0 wss=8443 mqtts=8883 port=4222 monitor=8222
ack_wait=30s routes= cluster=kobler cluster_port=6222
peers=()
usage() { sed -n '/^# usage/,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || usage
  case $1 in
    --name) name=$2 ;; --node) node=$2 ;; --pki) pki=$2 ;; --state) state=$2 ;; --bind) bind=$2 ;;
    --wss) wss=$2 ;; --mqtts) mqtts=$2 ;; --port) port=$2 ;; --monitor) monitor=$2 ;; --ack-wait) ack_wait=$2 ;;
    --routes) routes=$2 ;; --peer) peers+=("$2") ;; --cluster-port) cluster_port=$2 ;; --cluster) cluster=$2 ;;
    *) usage ;;
  esac
  shift 2
done
[ -n "$name" ] && [ -n "$node" ] || usage
[ -z "$routes" ] || [ ${#peers[@]} -gt 0 ] || usage
pki=$(cd "$pki" && pwd)
umask 077
mkdir -p "$state"
state=$(cd "$state" && pwd)
[ -z "$routes" ] || routes=$(cd "$routes" && pwd)
for file in "$pki/ca.pem" "$pki/servers/$name.pem" "$pki/servers/$name.key" ${routes:+"$routes/node.pem"}; do
  [ -r "$file" ] || { echo "node.sh: $file is not there or not readable (docs/brokers.md says how to issue it)" >&2; exit 1; }
done
command -v nats-server >/dev/null || { echo "node.sh: nats-server is not installed (apt install nats-server)" >&2; exit 1; }

# Couplers that were provisioned by an earlier version send their own certificate only, without the intermediate that
# signed it. Folders of Kobler 0.1 have none.
ca=$pki/chain.pem
[ -e "$ca" ] || ca=$pki/ca.pem

config=$(<"$here/node.conf.in")
replicas=1
if [ -n "$routes" ]; then
  config+=$(<"$here/cluster.conf.in")
  list=
  for peer in "${peers[@]}"; do list+="\"tls://$peer:$cluster_port\", "; done
  replicas=$((${#peers[@]} >= 2 ? 3 : 1))
fi
fill() { config=${config//@$1@/"$2"}; }
fill NODE "$node"; fill STATE "$state"; fill BIND "$bind"; fill PORT "$port"; fill MONITOR "$monitor"
fill WSS "$wss"; fill MQTTS "$mqtts"; fill ACK_WAIT "$ack_wait"; fill REPLICAS "$replicas"
fill CA "$ca"; fill CERT "$pki/servers/$name.pem"; fill KEY "$pki/servers/$name.key"
fill CLUSTER "$cluster"; fill CLUSTER_PORT "$cluster_port"; fill ROUTES "$routes"; fill PEERS "${list-}"
"$here/users.sh" "$pki" >"$state/users.conf"
printf '%s\n' "$config" >"$state/node.conf"
exec nats-server -c "$state/node.conf"

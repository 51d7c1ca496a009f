#!/usr/bin/env bash
# Runs mosquitto for couplers in the foreground: wss://NAME:8443/mqtt and mqtts://NAME:8883, client certificates of a
# Kobler authority required. See docs/brokers.md.
#
# usage: run.sh --name NAME [--pki DIR] [--state DIR] [--bind ADDRESS] [--wss PORT] [--mqtts PORT] [--autosave SECONDS]
#   --name      the DNS name in the couplers' `[cloud] url`; its certificate is PKI/servers/NAME.pem
#   --pki       the authority's folder (.kobler/pki)
#   --state     where configuration and sessions are kept (/var/lib/kobler-mosquitto)
# After `kobler pki issue NAME` or `revoke`: run it again with --acl-only and send the broker SIGHUP.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/sbin
name= pki=.kobler/pki state=/var/lib/kobler-mosquitto bind=0.0.0.0 wss=8443 mqtts=8883 autosave=5 acl_only=
usage() { sed -n '/^# usage/,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
while [ $# -gt 0 ]; do
  [ "$1" = --acl-only ] && { acl_only=1; shift; continue; }
  [ $# -ge 2 ] || usage
  case $1 in
    --name) name=$2 ;; --pki) pki=$2 ;; --state) state=$2 ;; --bind) bind=$2 ;;
    --wss) wss=$2 ;; --mqtts) mqtts=$2 ;; --autosave) autosave=$2 ;;
    *) usage ;;
  esac
  shift 2
done
[ -n "$name" ] || usage
pki=$(cd "$pki" && pwd)
umask 077
mkdir -p "$state"
state=$(cd "$state" && pwd)
for file in "$pki/ca.pem" "$pki/servers/$name.pem" "$pki/servers/$name.key"; do
  [ -r "$file" ] || { echo "run.sh: $file is not there or not readable (docs/brokers.md says how to issue it)" >&2; exit 1; }
done
command -v mosquitto >/dev/null || { echo "run.sh: mosquitto is not installed (apt install mosquitto)" >&2; exit 1; }

# Couplers are covered by patterns, any number of them; every other client of the authority is named. Written beside
# and moved: a broker that reads it meanwhile sees the old one or the new one. Who was revoked and has no other certificate
# may do nothing: that goes before the patterns.
{
  cat "$here/acl.in"
  while read -r client; do
    printf '\nuser %s\ntopic deny #\n' "$client"
  done < <(cat "$pki/locked-out" 2>/dev/null || true)
  for file in "$pki"/clients/*.pem; do
    [ -e "$file" ] || continue
    client=$(basename "$file" .pem)
    printf '\nuser %s\ntopic read #\n' "$client"
    printf 'topic write kobler/+/%s\n' desired 'method/#' ack
  done
} >"$state/acl.new"
mv "$state/acl.new" "$state/acl"
[ -z "$acl_only" ] || exit 0

# Couplers that were provisioned by an earlier version send their own certificate only, without the intermediate that
# signed it. Folders of Kobler 0.1 have none.
ca=$pki/chain.pem
[ -e "$ca" ] || ca=$pki/ca.pem
crl=
[ ! -e "$pki/crl.pem" ] || crl="crlfile $pki/crl.pem"

config=$(<"$here/mosquitto.conf.in")
# Without this the WebSocket listener takes no IPv4 address for --bind and listens at all of them (2.0.11).
domain=
[[ $bind == *:* ]] || domain="socket_domain ipv4"
fill() { config=${config//@$1@/"$2"}; }
fill USER "$(id -un)"; fill DOMAIN "$domain"; fill STATE "$state"; fill BIND "$bind"; fill WSS "$wss"; fill MQTTS "$mqtts"
fill CA "$ca"; fill CRL "$crl"; fill CERT "$pki/servers/$name.pem"; fill KEY "$pki/servers/$name.key"; fill AUTOSAVE "$autosave"
printf '%s\n' "$config" >"$state/mosquitto.conf"
exec mosquitto -c "$state/mosquitto.conf"

#!/usr/bin/env bash
# Makes the key by which the nodes of one cluster know each other; once, then copy the folder to every node.
#
# usage: routes.sh FOLDER ADDRESS_OR_NAME…     all under which nodes name each other in --peer
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: routes.sh FOLDER ADDRESS_OR_NAME…" >&2; exit 2; }
folder=$1
shift
names=
for name; do
  if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then names+=,IP:$name; else names+=,DNS:$name; fi
done
umask 077
mkdir -p "$folder"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=kobler cluster" \
  -addext "subjectAltName=${names#,}" -addext "extendedKeyUsage=serverAuth,clientAuth" \
  -keyout "$folder/node.key" -out "$folder/node.pem" 2>/dev/null

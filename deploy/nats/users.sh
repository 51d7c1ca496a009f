#!/usr/bin/env bash
# Writes nats-server's users for all certificates of a Kobler authority to standard output, without their validity: that
# is judged at each connect. See docs/brokers.md.
#
# usage: users.sh PKI_DIR >users.conf        then: nats-server --signal reload=PID
set -euo pipefail
[ $# = 1 ] && [ -d "$1" ] || { echo "usage: users.sh PKI_DIR" >&2; exit 2; }

# NATS keeps deliveries at QoS 1 in subjects $MQTT.sub.>. An MQTT client can only receive what its own subscriptions
# made; a NATS client with this permission could listen to all of them, so nobody here may connect as one.
echo 'authorization { users: ['
for file in "$1"/units/*.pem; do
  [ -e "$file" ] || continue
  id=$(basename "$file" .pem)
  printf '  { user: "urn:dev:kobler:%s", allowed_connection_types: ["MQTT", "MQTT_WS"], permissions: {\n' "$id"
  printf '    publish: ["kobler.%s.telemetry", "kobler.%s.presence", "kobler.%s.reported", "kobler.%s.result.*.*"]\n' \
    "$id" "$id" "$id" "$id"
  printf '    subscribe: ["kobler.%s.desired", "kobler.%s.method.*.*", "kobler.%s.ack", "$MQTT.sub.>"] } }\n' \
    "$id" "$id" "$id"
done
for file in "$1"/clients/*.pem; do
  [ -e "$file" ] || continue
  name=$(basename "$file" .pem)
  printf '  { user: "urn:kobler:client:%s", allowed_connection_types: ["MQTT", "MQTT_WS"], permissions: {\n' "$name"
  printf '    publish: ["kobler.*.desired", "kobler.*.method.>", "kobler.*.ack"]\n'
  printf '    subscribe: ["kobler", "kobler.>", "$MQTT.sub.>"] } }\n'
done
echo '] }'

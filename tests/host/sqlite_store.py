"""A store of couplers' samples on SQLite, as simple as a real one may be: every record once, and an acknowledgement
that never says more than the store has.

usage: sqlite_store.py SETTINGS_JSON_FILE      (as a program: subscribes, stores, acknowledges, until killed)

A message is one transaction, and only then goes the broker's PUBACK: who kills the store at any moment has lost
nothing. (device, seq) is the key. Records with "h": true are kept, the others counted only (docs/decisions/0024).

The acknowledgement. Messages come in any order: the broker delivers late what a break interrupted, and a coupler that
was away sends what is new before what waited. Each says which number it follows (`after`, or the one before its first):
numbers between are not to be waited for, nor are those missing inside it. So a message covers a span of numbers; the
store keeps the spans above the acknowledged number, and acknowledges as far as they join. It never has to guess, and
what the broker lost it gets again: a coupler that hears nothing begins at its cursor, with `after` 0.
"""

from __future__ import annotations

import json
import sqlite3
import ssl
import sys
import time
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS history (
    device TEXT, seq INTEGER, time REAL, name TEXT, value, quality TEXT, PRIMARY KEY (device, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS device (
    id TEXT PRIMARY KEY, acked INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shown (device TEXT, seq INTEGER, PRIMARY KEY (device, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS span (
    device TEXT, first INTEGER, last INTEGER, PRIMARY KEY (device, first)) WITHOUT ROWID;
"""


class Store:
    """One database."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)
        self._answers: set[str] = set()
        self.refused = 0

    def connected(self) -> None:
        """The link is new: every device is told once more."""
        self._answers = {device for (device,) in self._db.execute("SELECT id FROM device")}

    def take(self, topic: str, payload: bytes) -> None:
        """One message of kobler/DEVICE/telemetry, in one transaction. What is no pack is counted and dropped: it would
        come again for ever.
        """
        device = topic.split("/")[1]
        try:
            pack = json.loads(payload)
            records = _records(pack)
            after = _after(pack, records)
        except (ValueError, TypeError, KeyError, StopIteration, RecursionError, OverflowError):
            self.refused += 1
            return
        if not records:
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._take(device, after, records)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        # Also for what was here before: the unit sends again what it knows no acknowledgement of.
        self._answers.add(device)

    def _take(self, device: str, after: int, records: list[dict[str, Any]]) -> None:
        db = self._db
        db.execute("INSERT OR IGNORE INTO device (id) VALUES (?)", (device,))
        (acked,) = db.execute("SELECT acked FROM device WHERE id = ?", (device,)).fetchone()
        spans = list(db.execute("SELECT first, last FROM span WHERE device = ?", (device,)))
        for record in records:
            seq = record["seq"]
            if record["h"]:
                row = (device, seq, record["time"], record["name"], record["value"], record["quality"])
                db.execute("INSERT OR IGNORE INTO history VALUES (?, ?, ?, ?, ?, ?)", row)
            else:
                db.execute("INSERT OR IGNORE INTO shown VALUES (?, ?)", (device, seq))
        self._cover(device, acked, spans, after + 1, records[-1]["seq"])

    def _cover(self, device: str, acked: int, spans: list[tuple[int, int]], first: int, last: int) -> None:
        db = self._db
        for start, end in spans:
            if start <= last + 1 and first <= end + 1:
                first, last = min(first, start), max(last, end)
                db.execute("DELETE FROM span WHERE device = ? AND first = ?", (device, start))
        if first <= acked + 1:
            if last > acked:
                db.execute("UPDATE device SET acked = ? WHERE id = ?", (last, device))
        else:
            db.execute("INSERT INTO span VALUES (?, ?, ?)", (device, first, last))

    def answers(self) -> list[tuple[str, int]]:
        """What to acknowledge now: (device, seq). To be called often."""
        found = []
        for device in sorted(self._answers):
            (acked,) = self._db.execute("SELECT acked FROM device WHERE id = ?", (device,)).fetchone()
            if acked:
                found.append((device, acked))
        self._answers.clear()
        return found


def _after(pack: Any, records: list[dict[str, Any]]) -> int:
    first = records[0]["seq"] if records else 1
    after = pack[0].get("after", first - 1) if pack else 0
    if not isinstance(after, int) or isinstance(after, bool) or not 0 <= after < first:
        raise ValueError("after is not a number below the first")
    return after


def _records(pack: Any) -> list[dict[str, Any]]:
    # RFC 8428: base fields hold from where they stand on.
    found = []
    base_time = 0.0
    last = 0
    if not isinstance(pack, list):
        raise ValueError("not a pack")
    for one in pack:
        if not isinstance(one, dict):
            raise ValueError("not a record")
        base_time = float(one.get("bt", base_time))
        seq, name = one["seq"], one["n"]
        value = next(one[key] for key in ("v", "vs", "vb") if key in one)
        if not isinstance(name, str) or not isinstance(value, (int, float, str)):
            raise ValueError("not a name or a value")
        if isinstance(value, int) and abs(value) >> 63:
            value = float(value)
        if not isinstance(seq, int) or isinstance(seq, bool) or not last < seq < 1 << 62:
            raise ValueError("seq is not a rising number")
        last = seq
        stamp = base_time + float(one.get("t", 0))
        quality = str(one["q"]) if "q" in one else None
        record = {"seq": seq, "time": stamp or None, "name": name, "value": value, "quality": quality}
        found.append({**record, "h": one.get("h") is True})
    return found


class Consumer:
    """The store at a broker: a persistent session, QoS 1, one certificate; it tries one address after the other."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import paho.mqtt.client as mqtt

        self._settings = settings
        self._store = Store(settings["database"])
        over_web = settings["scheme"] == "wss"
        versions: Any = getattr(mqtt, "CallbackAPIVersion", None)  # paho 2 asks for it
        self._client: Any = mqtt.Client(
            *([versions.VERSION1] if versions else []),
            client_id=settings["client"],
            clean_session=False,
            transport="websockets" if over_web else "tcp",
        )
        if over_web:
            self._client.ws_set_options("/mqtt")
        context = ssl.create_default_context(cafile=settings["ca"])
        context.load_cert_chain(settings["cert"], settings["key"])
        self._client.tls_set_context(context)
        self._client.on_connect = self._connected
        self._client.on_message = self._message
        self._turn = 0

    def _connected(self, client: Any, _user: Any, flags: dict[str, int], code: int) -> None:
        if code == 0:
            client.subscribe("kobler/+/telemetry", 1)
            self._store.connected()
            print(json.dumps({"connected": self._address(), "present": flags["session present"]}), flush=True)

    def _message(self, _client: Any, _user: Any, message: Any) -> None:
        # paho sends the PUBACK when this returns; if it raises, it does not, and the message comes again.
        self._store.take(message.topic, message.payload)

    def _address(self) -> str:
        hosts: list[str] = self._settings["hosts"]
        return hosts[self._turn % len(hosts)]

    def run(self) -> None:
        while True:
            try:
                self._client.connect(self._address(), self._settings["port"], keepalive=5)
                while self._client.loop(0.05) == 0:
                    if not self._client.is_connected():
                        continue
                    for device, seq in self._store.answers():
                        if self._settings.get("acknowledges", True):
                            self._client.publish(f"kobler/{device}/ack", json.dumps({"seq": seq}), 1)
            except (OSError, ValueError) as error:  # ValueError: paho reading from a WebSocket that was closed
                print(json.dumps({"error": str(error)}), flush=True)
            self._turn += 1
            time.sleep(0.1)


if __name__ == "__main__":
    Consumer(json.loads(Path(sys.argv[1]).read_text())).run()

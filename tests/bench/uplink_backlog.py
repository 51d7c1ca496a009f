"""The session after an outage: how fast a backlog is drained, how soon a broker that restarted has the first sample.

The real MicroPython over a TLS WebSocket with a client certificate, at a server that does nothing but acknowledge; its
flash is in memory. Medians of several runs.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from main import Row, row

sys.path.insert(0, str(Path(__file__).parents[1] / "host"))

_BACKLOG = 100_000
_SECTORS = 192
_HEAP = "6m"
_RUNS = 3
_RESTARTS = 5
_BACK_OFF_MS = 20
_AWAY_S = 0.3

_SERVER = """
import json, socket, ssl, sys, threading, time
sys.path.insert(0, sys.argv[1])
import uplink_server
port, certificate, key, ca = int(sys.argv[2]), *sys.argv[3:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.maximum_version = ssl.TLSVersion.TLSv1_2
context.load_cert_chain(certificate, key)
context.load_verify_locations(ca)
context.verify_mode = ssl.CERT_REQUIRED
told = False
def answer(packet):
    global told
    if packet[0] & 0xF0 == 0x30 and b"/telemetry" in packet and not told:
        told = True
        print(json.dumps(time.monotonic()), flush=True)
    if packet[0] == 0x82:
        at, codes = 4, b""
        while at < len(packet):
            at += 3 + int.from_bytes(packet[at : at + 2], "big")
            codes += b"\1"
        return bytes((0x90, 2 + len(codes))) + packet[2:4] + codes
    return uplink_server.acknowledgement(packet)
listener = socket.create_server(("127.0.0.1", port))
print(json.dumps(time.monotonic()), flush=True)
uplink_server.serve(listener, context, lambda connection: uplink_server.websocket(connection, answer))
"""


class _Broker:
    """Says when it listens, and when the first sample came."""

    def __init__(self, port: int, *files: Path) -> None:
        arguments = [str(Path(__file__).parent), str(port), *map(str, files)]
        command = [sys.executable, "-c", _SERVER, *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.listens = self.moment()

    def moment(self) -> float:
        assert self._process.stdout
        return float(json.loads(self._process.stdout.readline()))

    def __enter__(self) -> _Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(5)
        assert self._process.stdout
        self._process.stdout.close()


def _drain(port: int, files: Path) -> float:
    """Samples a second, from the connection to the last acknowledgement."""
    from uplink_world import unit

    settings = {"backlog": _BACKLOG, "sectors": _SECTORS, "heap": _HEAP, "period_ms": 20, "seconds": 90}
    with unit("micropython", files, {"port": port}, until={"acked": _BACKLOG}, **settings) as one:
        one.online(60)
        began = time.monotonic()
        one.acked(_BACKLOG, 90)
        return _BACKLOG / (time.monotonic() - began)


def link() -> Iterator[Row]:
    """All figures of the session."""
    from uplink_world import Ca, free_port, unit

    with tempfile.TemporaryDirectory() as scratch:
        ca = Ca(Path(scratch) / "ca")
        files = ca.unit(Path(scratch) / "unit")
        peer = (*ca.server(), ca.pem)
        port = free_port()
        with _Broker(port, *peer):
            found = [_drain(port, files) for _ in range(_RUNS)]
        yield row("uplink.backlog", round(statistics.median(found)), "1/s", 5000, at_least=True)
        back = []
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(contextlib.ExitStack())
            first.enter_context(_Broker(port, *peer))
            settings = {"base_ms": _BACK_OFF_MS, "cap_ms": _BACK_OFF_MS, "period_ms": 5, "seconds": 90}
            one = stack.enter_context(unit("micropython", files, {"port": port}, **settings))
            one.acked(1)
            for _ in range(_RESTARTS):
                first.close()
                one.until(lambda r: r["status"]["state"] != "online")
                time.sleep(_AWAY_S)
                broker = first.enter_context(_Broker(port, *peer))
                back.append(broker.moment() - broker.listens)
                one.online()
        yield row("uplink.reconnect", round(statistics.median(back), 3), "s", 2 + _BACK_OFF_MS / 1000)

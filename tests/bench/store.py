"""The journal: flash a sample takes, what is written in all, what it costs the processor, how soon a start has it.

The bytes are those of flash in memory, the times those of the real MicroPython on this computer.
"""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from kobler.resources import firmware_dir
from kobler.sim.interpreter import micropython
from main import Row, row

sys.path.insert(0, str(firmware_dir()))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

import series
from journal_world import World
from nor import SECTOR, Nor

_N = 20_000
_FEW = 8000  # for the interpreter
_UNIX = 1_764_000_000_000
_STRUCT = 20  # bytes: number u64, ms of the clock as 48 bits, point u16, float32
_CYCLES = 100_000  # of a NOR sector, as its makers promise
_SECTORS = 192  # of the journal in a partition of 1 MB
_FULL = 256
_REPEATS = 5


class Journal:
    """A journal that was given samples: what it programmed, and how much of it the samples themselves are."""

    def __init__(self, samples: Iterable[series.Sample], points: int, durable: str) -> None:
        world = World(Nor(_FULL), points)
        self.world = world
        world.set_clock(_UNIX)
        known = world.journal._known
        encode = known.encode
        self.encoded = self.count = 0

        def counted(out: bytearray, at: int, *sample: Any) -> int:
            end: int = encode(out, at, *sample)
            self.encoded += end - at
            return end

        known.encode = counted
        last = 0
        for now, index, value in samples:
            if durable == "block" and now != last:
                world.journal.flush()
            world.wait(now - last)
            last = now
            world.put(index, value)
            self.count += 1
            if durable == "sample":
                world.journal.flush()
        world.journal.flush()
        self.seconds = last / 1000

    @property
    def bytes(self) -> float:
        """Of flash, a sample."""
        return self.world.flash.programmed / self.count


def _senml(samples: Iterable[series.Sample]) -> float:
    """Bytes a sample takes in a SenML pack of the fields that the journal keeps."""
    records = [
        {"n": f"field/unit{index // 8}/p{index}", "v": value, "t": now / 1000, "seq": i}
        for i, (now, index, value) in enumerate(samples, 1)
    ]
    return len(json.dumps(records, separators=(",", ":"))) / len(records)


def _bytes() -> Iterator[Row]:
    kinds: tuple[tuple[str, Callable[[int], Iterator[series.Sample]], float], ...] = (
        ("meter", series.meter, 2.5),
        ("temperature", series.temperature, 2.5),
        ("status", series.status, 1.5),
    )
    for name, make, goal in kinds:
        page = Journal(make(_N), 1, "page")
        yield row(f"store.bytes.{name}", round(page.bytes, 3), "bytes", goal)
        yield row(f"store.amplification.{name}", round(page.world.flash.programmed / page.encoded, 4), "ratio", 1.1)
        each = Journal(make(_N), 1, "sample")
        yield Row(
            f"store.bytes.{name}_each", round(each.bytes, 3), "bytes", _STRUCT, round(each.bytes / _STRUCT, 4), "", None
        )


def _site() -> Iterator[Row]:
    samples = list(series.site(60_000))
    senml = _senml(islice(samples, 5000))
    for durable in ("page", "block"):
        journal = Journal(samples, series.POINTS, durable)
        figure = round(journal.bytes, 3)
        for name, against in (("senml", round(senml, 1)), ("struct", float(_STRUCT))):
            ratio = round(figure / against, 4)
            yield Row(f"store.bytes.site_{durable}_{name}", figure, "bytes", against, ratio, "", None)
    rate = journal.count / journal.seconds
    yield row("store.site.samples", round(rate, 2), "1/s", None)
    erases = rate * 86400 * journal.bytes / SECTOR / _SECTORS
    yield row("store.site.erases", round(erases, 3), "1/day", None)
    yield row("store.site.life", round(_CYCLES / erases / 365.25, 1), "years", 20, at_least=True)


_VM = f"""
import sys, json, time, gc
from array import array
sys.path[:0] = [{str(firmware_dir())!r}, {str(Path(__file__).parents[1] / "unit")!r}]
from journal_world import World
from coupler.store.samples import Samples
class Flash:
    def __init__(self, data):
        self.data = data
        self.sectors = len(data) // 4096
        self.reads = 0
        self.bytes = 0
    def read(self, at, buf):
        self.reads += 1
        self.bytes += len(buf)
        buf[:] = memoryview(self.data)[at : at + len(buf)]
    def program(self, at, buf):
        self.data[at : at + len(buf)] = buf
    def erase(self, sector):
        self.data[4096 * sector : 4096 * sector + 4096] = b"\\xff" * 4096
"""

_CPU = (
    _VM
    + """
# In arrays, and on a small heap: the larger it is, the longer the search for room.
raw = open(sys.argv[1], "rb").read()
n = len(raw) // 16
times, points, values = array("i", raw[: 4 * n]), array("i", raw[4 * n : 8 * n]), array("d", raw[8 * n :])
del raw
def run(every):
    world = World(Flash(bytearray(b"\\xff" * (16 * 4096))), 50)
    journal = world.journal
    world.set_clock(1764000000000)
    put = journal.put
    ticks = world.hal.ticks_ms()
    add = world.hal.ticks_add
    last = 0
    gc.collect()
    began = time.ticks_us()
    for i in range(n):
        now = times[i]
        if now != last:
            if every:
                journal.flush()
            ticks = add(ticks, now - last)
            last = now
        put(points[i], values[i], None, ticks)
    journal.flush()
    took = time.ticks_diff(time.ticks_us(), began)
    return took / n, world
page, _ = run(False)
block, world = run(True)
reader = world.reader()
reader.seek(0)
read = reader.read
gc.collect()
began = time.ticks_us()
count = 0
while read():
    count += 1
back = time.ticks_diff(time.ticks_us(), began) / count
gc.collect()
dumps = json.dumps
began = time.ticks_us()
for i in range(n):
    dumps({"n": points[i], "v": values[i], "t": times[i], "seq": i})
peer = time.ticks_diff(time.ticks_us(), began) / n
assert count == n, count
print(json.dumps([page, block, back, peer]))
"""
)

_RECOVERY = (
    _VM
    + """
import coupler.store.recovery as recovery
world = World(Flash(bytearray(open(sys.argv[1], "rb").read())), 50)
took = []
for _ in range(5):
    world.flash.reads = world.flash.bytes = 0
    began = time.ticks_us()
    world.boot()
    took.append(time.ticks_diff(time.ticks_us(), began) / 1000)
# How many of the reads found the last sector, before its frames are looked at.
headers = []
last = recovery._end
def counted(ring, frame):
    headers.append(world.flash.reads)
    return last(ring, frame)
recovery._end = counted
reads = world.flash.reads
world.flash.reads = 0
world.boot()
print(json.dumps([min(took), headers[0], reads, world.journal.next]))
"""
)


def _run(script: str, heap: str, argument: str) -> Any:
    done = subprocess.run(
        [str(micropython()), "-X", f"heapsize={heap}", "-c", script, argument],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def _processor() -> Iterator[Row]:
    times, points, values = zip(*islice(series.site(_FEW), _FEW), strict=True)
    with tempfile.NamedTemporaryFile("wb") as file:
        file.write(struct.pack(f"{_FEW}i{_FEW}i{_FEW}d", *times, *points, *values))
        file.flush()
        found = [_run(_CPU, "700k", file.name) for _ in range(_REPEATS)]
    page, block, back, peer = (min(each[i] for each in found) for i in range(4))
    for name, figure in (("append_page", page), ("append_block", block), ("decode", back)):
        yield Row(f"store.cpu.{name}", round(figure, 2), "us", round(peer, 2), round(figure / peer, 3), "", None)


def _recovery() -> Iterator[Row]:
    """Of a ring that has come round, filled to near the end of its last sector, each block of values durable."""
    world = World(Nor(_FULL), series.POINTS)
    world.set_clock(_UNIX)
    last = 0
    while world.journal.ring.serial < _FULL + 50:
        for now, index, value in series.site(_N):
            if now != last:
                world.journal.flush()
                world.wait(max(0, now - last))
                last = now
            world.put(index, value)
            if world.journal.ring.serial >= _FULL + 50 and world.journal.ring.at > SECTOR - 100:
                break
    world.journal.flush()
    with tempfile.NamedTemporaryFile("wb", suffix=".bin") as file:
        file.write(world.flash.data)
        file.flush()
        took, headers, reads, following = _run(_RECOVERY, "4m", file.name)
    assert following == world.journal.next
    yield row("store.recovery.full", round(took, 2), "ms", 50)
    yield row("store.recovery.headers", headers, "reads", 2 * math.log2(_FULL))
    yield row("store.recovery.reads", reads, "reads", None)


def journal() -> Iterator[Row]:
    """All figures of the journal."""
    for part in (_bytes, _site, _processor, _recovery):
        yield from part()

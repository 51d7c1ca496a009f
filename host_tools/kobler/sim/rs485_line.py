"""The pair of wires: who drives it when, and what each receiver makes of it.

Pure event time: every event carries its own stamp (nanoseconds), nothing here reads a clock, so the result does
not depend on when a process happened to be scheduled. The rules:
- A node's transmitter reaches the wires only while its driver is on; an auto-direction node's is on while it sends.
- Two drivers that want different levels fight: the level is random. Two that agree do no harm.
- Without a driver the bias resistors hold the line idle (1); without them it may sag to 0 for a while.
- A node whose receiver is tied to its driver's enable hears nothing while it drives; an echoing one hears itself.
"""

from __future__ import annotations

import itertools
import random
import struct
import zlib
from dataclasses import dataclass, field

from .rs485_format import Edge, Format, Received

FOREVER = 1 << 63


@dataclass(eq=False)
class Run:
    """Characters that a node's UART shifts out without a gap; a break has no data."""

    node: Tap
    start: int
    fmt: Format
    data: bytes
    bit_times: int
    flips: dict[int, int] = field(default_factory=dict)  # character -> mask of its bits that noise inverts
    de_late: int | None = None  # driver's release minus the end of the last stop bit
    accounted: bool = False
    collided: bool = False
    _levels: bytes = b""

    @property
    def end(self) -> int:
        return self.start + self.fmt.span_ns(self.bit_times)

    def levels(self) -> bytes:
        """The level of each bit time, noise included."""
        if not self._levels:
            levels = bytearray(self.fmt.levels(self.data) if self.data else bytes(self.bit_times))
            for index, mask in self.flips.items():
                for bit in range(self.fmt.width):
                    levels[index * self.fmt.width + bit] ^= mask >> bit & 1
            self._levels = bytes(levels)
        return self._levels


@dataclass(eq=False)
class Drive:
    """A driver is on from `on` until `off` (FOREVER while its release is not known)."""

    node: Tap
    on: int
    off: int = FOREVER


@dataclass(eq=False)
class Tap:
    """One node's connection to the wires."""

    name: str
    fmt: Format
    auto: bool = True  # the driver follows the transmitter; else set by `Line.drive`
    echo: bool = False  # the receiver stays on while the node drives
    enabled: bool = True  # transceiver powered
    follows: bool = False  # takes on the format of the guest's UART


Item = tuple[int, int, Run | None]  # start and end of a run, or of a sag


class Line:
    """The wires' recent past and near future."""

    def __init__(self, bias: bool = True, seed: int = 0) -> None:
        self.bias = bias
        self.seed = seed
        self.noise_rate = 0.0
        self._noise = random.Random(seed)
        self.taps: list[Tap] = []
        self.runs: list[Run] = []
        self.drives: list[Drive] = []
        self.sags: list[tuple[int, int]] = []
        self.sag_count = 0

    def noise(self, rate: float, seed: int) -> None:
        """From now on invert each transmitted bit with probability `rate`; a seed repeats its faults."""
        self.noise_rate = rate
        self._noise = random.Random(seed)

    def transmit(self, tap: Tap, start: int, data: bytes, break_bits: int = 0) -> Run:
        """Shift characters (or a break of so many bit times) out from `start` on."""
        run = Run(tap, start, tap.fmt, data, break_bits or len(data) * tap.fmt.width)
        if self.noise_rate:
            run.flips = self._flips(run)
        self.runs.append(run)
        if tap.auto and tap.enabled:
            self.drives.append(Drive(tap, start, run.end))
            self._release(tap, run.end)
        return run

    def drive(self, tap: Tap, t: int, on: bool) -> bool:
        """The driver's enable changes; false if it had that level already."""
        held = self.held(tap)
        if on == (held is not None):
            return False
        if on:
            self.drives.append(Drive(tap, t))
        elif held is not None:
            held.off = max(t, held.on)
            late = None
            for run in self.runs:
                if run.node is tap and run.end > held.on and run.start < held.off:
                    late = run
            if late is not None:
                late.de_late = held.off - late.end
            self._release(tap, held.off)
        return True

    def cut(self, tap: Tap, t: int) -> None:
        """An auto-direction transmitter loses power at t: the rest of what it had to send reaches nobody."""
        for drive in self.drives:
            if drive.node is tap and drive.off != FOREVER:
                drive.off = max(drive.on, min(drive.off, t))

    def held(self, tap: Tap) -> Drive | None:
        """The drive of this node whose end is not known yet."""
        return next((d for d in self.drives if d.node is tap and d.off == FOREVER), None)

    def _release(self, tap: Tap, t: int) -> None:
        if self.bias:
            return
        # A short sag is read as a start bit and ones (0xFF), a long one as 0x00: both are seen in the field.
        bits = 0.8 if self._coin(t) else tap.fmt.width - tap.fmt.stop + 0.3
        self.sag_count += 1
        self.sags.append((t, t + round(bits * 1e9 / tap.fmt.baud)))

    def _coin(self, t: int) -> int:
        return zlib.crc32(struct.pack("<QQ", t & FOREVER - 1, self.seed)) & 1

    def _flips(self, run: Run) -> dict[int, int]:
        flips: dict[int, int] = {}
        draw = self._noise.random
        for index in range(len(run.data)):
            mask = sum((draw() < self.noise_rate) << bit for bit in range(run.fmt.width))
            if mask:
                flips[index] = mask
        return flips

    # What receivers hear

    def cluster_start(self, t: int) -> int:
        """Where the activity that `t` is in or borders on began: what is before it stands as heard."""
        margin = self._margin()
        start = t
        for first, last in sorted(self._spans(), reverse=True):
            if last + margin < start:
                continue
            start = min(start, first)
        return start

    def _margin(self) -> int:
        """A gap of more than the slowest node's character separates what receivers can confuse."""
        return max((tap.fmt.char_ns for tap in self.taps), default=0)

    def _spans(self) -> list[tuple[int, int]]:
        return [(run.start, run.end) for run in self.runs] + self.sags

    def hear(self, tap: Tap, since: int) -> list[Received]:
        """All characters that begin at or after `since`, a quiet moment, as this receiver takes them."""
        items: list[Item] = [(r.start, r.end, r) for r in self.runs if r.start >= since]
        items += [(a, b, None) for a, b in self.sags if a >= since]
        items.sort(key=lambda item: item[:2])
        margin = self._margin()
        out: list[Received] = []
        cluster: list[Item] = []
        end = 0
        for item in items:
            if cluster and item[0] > end + margin:
                out += self._hear_cluster(tap, cluster, end)
                cluster = []
            cluster.append(item)
            end = max(end, item[1])
        if cluster:
            out += self._hear_cluster(tap, cluster, end)
        return out

    def _hear_cluster(self, tap: Tap, cluster: list[Item], end: int) -> list[Received]:
        clean = [self._clean(tap, run) if run else None for _, _, run in cluster]
        out: list[Received] = []
        for characters in clean:
            if characters is None:
                return tap.fmt.decode(self.wave(tap, cluster[0][0], end + 2 * tap.fmt.char_ns))
            out += characters
        return out

    def _clean(self, tap: Tap, run: Run) -> list[Received] | None:
        """The run as heard if nothing disturbs it, without looking at single bits; None if something does."""
        if run.flips or run.fmt != tap.fmt or not run.data:
            return None
        own = False
        for drive in self.drives:
            if drive.on >= run.end or drive.off <= run.start:
                continue
            if drive.node is not run.node or drive.on > run.start or drive.off < run.end:
                return None
            own = True
        if any(a < run.end and b > run.start for a, b in self.sags):
            return None
        if not own or not tap.enabled or (run.node is tap and not tap.echo):
            return []
        width, span = run.fmt.width, run.fmt.span_ns
        return [Received(run.start + span((i + 1) * width), value) for i, value in enumerate(run.data)]

    def wave(self, tap: Tap, start: int, end: int) -> list[Edge]:
        """The level at this node's receiver from `start` to `end`, merged into edges."""
        runs = [run for run in self.runs if run.start < end and run.end > start]
        drives = [d for d in self.drives if d.on < end and d.off > start]
        sags = [(a, b) for a, b in self.sags if a < end and b > start]
        points = {start, end}
        for run in runs:
            points.update(run.start + run.fmt.span_ns(k) for k in range(run.bit_times + 1))
        for drive in drives:
            points.update((drive.on, drive.off))
        for sag in sags:
            points.update(sag)
        order = sorted(p for p in points if start <= p <= end)
        wave = [Edge(start, 1)]
        for a, b in itertools.pairwise(order):
            level = self._level(tap, (a + b) // 2, a, runs, drives, sags)
            if level != wave[-1].level:
                wave.append(Edge(a, level))
        if wave[-1].level == 0:
            wave.append(Edge(end, 1))
        return wave

    def _level(
        self, tap: Tap, t: int, seed: int, runs: list[Run], drives: list[Drive], sags: list[tuple[int, int]]
    ) -> int:
        driving = [d.node for d in drives if d.on <= t < d.off]
        if not tap.enabled or (tap in driving and not tap.echo):
            return 1  # the receiver's output is off; its pull-up keeps the pin high
        if not driving:
            return 0 if any(a <= t < b for a, b in sags) else 1
        levels = {_output(node, t, runs) for node in driving}
        return levels.pop() if len(levels) == 1 else self._coin(seed)

    # Bookkeeping

    def carried(self, run: Run) -> int:
        """How many of the run's characters its own driver put on the wires whole."""
        spans = [(d.on, d.off) for d in self.drives if d.node is run.node]
        count = 0
        for index in range(len(run.data)):
            a = run.start + run.fmt.span_ns(index * run.fmt.width)
            b = run.start + run.fmt.span_ns((index + 1) * run.fmt.width)
            count += any(on <= a and off >= b for on, off in spans)
        return count

    def rivals(self, run: Run) -> list[Drive]:
        """Drives of other nodes while this run was on the wires."""
        own = [d for d in self.drives if d.node is run.node]
        return [
            d
            for d in self.drives
            if d.node is not run.node and any(max(d.on, o.on, run.start) < min(d.off, o.off, run.end) for o in own)
        ]

    def forget(self, before: int) -> None:
        """Drop what ended before this moment."""
        self.runs = [run for run in self.runs if run.end >= before]
        self.drives = [drive for drive in self.drives if drive.off >= before]
        self.sags = [sag for sag in self.sags if sag[1] >= before]


def _output(node: Tap, t: int, runs: list[Run]) -> int:
    """What a node's transmitter puts out at t: 1 unless it is shifting something else."""
    for run in runs:
        if run.node is node and run.start <= t < run.end:
            index = (t - run.start) * run.fmt.baud // 1_000_000_000
            return run.levels()[min(index, run.bit_times - 1)]
    return 1

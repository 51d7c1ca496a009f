"""The simulated RS-485 bus: nodes on one pair of wires, driven by a clock.

The wires are computed in event time (`rs485_line`); this file hands what happened to the nodes when its time
has come. Two kinds of listener: a guest's UART is told its characters ahead of time (it hides them until their
stamp, and is told to forget those that a later event destroys); a device acts on a frame only when what it heard
can no longer change, and stamps its answer from the end of the request. Neither depends on how promptly a process
was scheduled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .rs485_format import Format, Received
from .rs485_line import FOREVER, Line, Run, Tap
from .rs485_stats import Stats

if TYPE_CHECKING:
    from .link import Link
    from .pty_port import PtyNode
    from .rs485_uart import UartNode

# How long a device waits to be told that a driver was released before it takes it as still on: well above the
# scheduling jitter of a busy machine. It costs no event time.
GRACE_NS = 20_000_000
_MEMORY_NS = 200_000_000


class Clock(Protocol):
    """CLOCK_MONOTONIC in nanoseconds, or a test's own time."""

    def now(self) -> int: ...

    def call_at(self, t: int, fn: Callable[[], None]) -> Callable[[], None]:
        """Call fn at t; returns the function that cancels."""
        ...


class LoopClock:
    """The running asyncio loop's clock, which is CLOCK_MONOTONIC on POSIX."""

    def now(self) -> int:
        return time.monotonic_ns()

    def call_at(self, t: int, fn: Callable[[], None]) -> Callable[[], None]:
        return asyncio.get_running_loop().call_at(t / 1e9, fn).cancel


class Node(Protocol):
    """What is wired to the bus."""

    tap: Tap

    def heard(self, since: int, characters: list[Received]) -> None:
        """All that this node hears after `since`, in place of what it was told before about that time."""

    def due(self, now: int) -> int | None:
        """Do what has come due; the next moment at which something will be, or None."""

    def close(self) -> None: ...


class Device(Protocol):
    """A simulated Modbus device: all of it that the bus needs to know."""

    name: str
    turnaround: float  # seconds from the end of a request to the start of its answer, at least 3.5 characters

    def answer(self, frame: bytes, t: float) -> bytes | None:
        """The answer frame to a request frame that ended at t (seconds), or None for silence."""


class Bus:
    """One pair of wires and the nodes on it. `fmt` is the format of nodes that do not bring their own."""

    def __init__(
        self, fmt: Format | None = None, *, bias: bool = True, seed: int = 0, clock: Clock | None = None
    ) -> None:
        self.fmt = fmt or Format(19200)
        self.guest_fmt = self.fmt  # what the guest's UART was last given
        self.line = Line(bias, seed)
        self.clock: Clock = clock or LoopClock()
        self.nodes: list[Node] = []
        self._stats = Stats()
        self._cancel: Callable[[], None] | None = None
        self._running = False
        self._again = False

    # Making a bus

    def attach(self, device: Device, fmt: Format | None = None) -> DeviceNode:
        """Wire a simulated device to the bus."""
        node = DeviceNode(self, device, fmt or self.fmt)
        self.add(node)
        return node

    def attach_uart(
        self,
        link: Link,
        uart: int = 1,
        de_pin: int | None = None,
        *,
        echo: bool = False,
        enable: tuple[int, ...] = (),
    ) -> UartNode:
        """Wire the guest's UART to the bus: DE on `de_pin`, or a transceiver that switches itself (None).

        The transceiver is powered while all pins of `enable` are high; `echo` leaves its receiver on while it
        drives.
        """
        from .rs485_uart import UartNode

        node = UartNode(self, link, uart, de_pin, echo, enable)
        self.add(node)
        return node

    def attach_pty(self, path: Path | str, fmt: Format | None = None) -> PtyNode:
        """Offer the far end of the bus as a pseudo-terminal at `path`, for any Modbus RTU program.

        A pseudo-terminal carries no format; without `fmt` the program's is taken to be the guest UART's.
        """
        from .pty_port import PtyNode

        node = PtyNode(self, Path(path), fmt)
        self.add(node)
        return node

    def add(self, node: Node) -> None:
        self.nodes.append(node)
        self.line.taps.append(node.tap)

    def remove(self, node: Node) -> None:
        """Unplug a node: its driver lets go, and it hears no more."""
        now = self.clock.now()
        self.line.cut(node.tap, now)
        self.drive(node, now, False)
        self.changed(now)
        self.nodes.remove(node)
        self.line.taps.remove(node.tap)
        node.close()

    def configured(self, fmt: Format) -> None:
        """The guest's UART took this format: so do the nodes that follow it."""
        self.guest_fmt = fmt
        for tap in self.line.taps:
            if tap.follows:
                tap.fmt = fmt

    def noise(self, rate: float, seed: int = 0) -> None:
        """From now on invert each bit with probability `rate`, the same ones for a seed and its traffic."""
        self.line.noise(rate, seed)

    def close(self) -> None:
        """Unplug all nodes."""
        for node in list(self.nodes):
            self.remove(node)
        if self._cancel is not None:
            self._cancel()
            self._cancel = None

    # Events, from the nodes

    def transmit(self, node: Node, t: int, data: bytes, break_bits: int = 0) -> Run:
        """A node's UART shifts out characters from t on (or a break)."""
        run = self.line.transmit(node.tap, t, data, break_bits)
        self.changed(t)
        return run

    def drive(self, node: Node, t: int, on: bool) -> None:
        """A node's driver is switched at t."""
        if self.line.drive(node.tap, t, on) and (
            any(run.end > t for run in self.line.runs) or any(sag[1] > t for sag in self.line.sags)
        ):
            self.changed(t)
        else:
            self.run()

    def changed(self, t: int) -> None:
        """Something at t is new: tell everyone what they hear around and after it."""
        since = self.line.cluster_start(t)
        for node in self.nodes:
            node.heard(since, self.line.hear(node.tap, since))
        self.run()

    def open_until(self, t: int, now: int) -> int | None:
        """None if what happened up to t is settled, else the time at which it will be taken as settled."""
        if now >= t + GRACE_NS:
            return None
        waiting = any(d.off == FOREVER and d.on <= t for d in self.line.drives)
        return t + GRACE_NS if waiting else None

    # Time

    def run(self) -> None:
        """Let the nodes do what has come due, and be back at the next such moment."""
        self._again = True
        if self._running:
            return
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
        self._running = True
        deadlines: list[int] = []
        try:
            while self._again:
                self._again = False
                now = self.clock.now()
                deadlines = [t for t in [node.due(now) for node in self.nodes] if t is not None]
        finally:
            self._running = False
        self._settle(self.clock.now())
        if deadlines:
            self._cancel = self.clock.call_at(min(deadlines), self.run)

    def _settle(self, now: int) -> None:
        """Account for what can no longer change and forget what is long past."""
        self._account(now - _MEMORY_NS // 2)
        if self.line.runs and min(run.end for run in self.line.runs) < now - 2 * _MEMORY_NS:
            before = self.line.cluster_start(now - _MEMORY_NS)
            self._account(before)
            self.line.forget(before)

    def _account(self, before: int) -> None:
        for run in sorted(self.line.runs, key=lambda run: run.start):
            if not run.accounted and run.end <= before:
                self._stats.account(self.line, run)

    @property
    def stats(self) -> Stats:
        """Counters over all transmissions that have ended."""
        now = self.clock.now()
        for run in sorted(self.line.runs, key=lambda run: run.start):
            held = self.line.held(run.node)
            if not run.accounted and run.end <= now and (held is None or held.on >= run.end):
                self._stats.account(self.line, run)
        self._stats.stray = self.line.sag_count
        return self._stats


class DeviceNode:
    """A simulated device on the bus: cuts what it hears into frames by 3.5 characters of silence."""

    def __init__(self, bus: Bus, device: Device, fmt: Format) -> None:
        self.bus = bus
        self.device = device
        self.tap = Tap(device.name, fmt)
        self.spoilt = 0  # frames dropped for a parity or framing error
        self._input: list[Received] = []
        self._consumed = 0
        self._free = 0  # own transmitter idle from then on

    def heard(self, since: int, characters: list[Received]) -> None:
        after = max(since, self._consumed)
        self._input = [c for c in self._input if c.t <= since] + [c for c in characters if c.t > after]

    def due(self, now: int) -> int | None:
        fmt = self.tap.fmt
        while self._input:
            count = 1
            while (
                count < len(self._input)
                and self._input[count].t - fmt.char_ns - self._input[count - 1].t < fmt.silence_ns
            ):
                count += 1
            end = self._input[count - 1].t
            ready = end + fmt.silence_ns
            if now < ready:
                return ready
            wait = self.bus.open_until(end, now)
            if wait is not None:
                return wait
            frame = self._input[:count]
            del self._input[:count]
            self._consumed = end
            if any(c.error for c in frame):
                self.spoilt += 1
                continue
            answer = self.device.answer(bytes(c.value for c in frame), end / 1e9)
            if answer:
                turnaround = max(round(self.device.turnaround * 1e9), fmt.silence_ns)
                start = max(end + turnaround, self._free)
                self._free = self.bus.transmit(self, start, answer).end
        return None

    def close(self) -> None:
        pass

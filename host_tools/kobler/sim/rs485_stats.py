"""What happened on the bus, for tests, figures and people."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from .rs485_line import Line, Run


@dataclass(frozen=True)
class Frame:
    """One uninterrupted transmission, as sent; `carried` characters of it reached the wires whole."""

    t_us: int
    node: str
    data: bytes
    carried: int
    collided: bool
    flipped: int  # characters that noise changed
    de_late_us: float | None  # driver's release after the last stop bit; negative: it cut the frame

    def __str__(self) -> str:
        marks = []
        if self.carried < len(self.data):
            marks.append(f"lost {len(self.data) - self.carried}")
        if self.collided:
            marks.append("collision")
        if self.flipped:
            marks.append(f"noise {self.flipped}")
        if self.de_late_us is not None:
            marks.append(f"DE {self.de_late_us:+.0f} us")
        text = f"{self.t_us / 1e6:.6f} {self.node}: {self.data.hex(' ')}"
        return f"{text} ({', '.join(marks)})" if marks else text


@dataclass
class Stats:
    """Counters since the bus was made. Times in microseconds of event time."""

    bytes: int = 0
    lost: int = 0  # sent while the driver was not on for all of the character
    collisions: int = 0  # a transmission met another node's driver
    flipped: int = 0  # characters that noise changed
    stray: int = 0  # releases after which a line without bias sagged
    busy_us: float = 0.0
    first_us: float | None = None
    last_us: float = 0.0
    frames: Counter[str] = field(default_factory=Counter)  # transmissions by node
    de_late_us: deque[float] = field(default_factory=lambda: deque(maxlen=1000))
    trace: deque[Frame] = field(default_factory=lambda: deque(maxlen=200))

    @property
    def utilisation(self) -> float:
        """Share of the time from the first start bit to the last stop bit in which characters were sent."""
        if self.first_us is None or self.last_us <= self.first_us:
            return 0.0
        return self.busy_us / (self.last_us - self.first_us)

    def account(self, line: Line, run: Run) -> None:
        """Count a transmission whose outcome is known."""
        run.accounted = True
        carried = line.carried(run)
        rivals = line.rivals(run)
        run.collided = bool(rivals)
        # Two transmissions that met are one collision: the first that is accounted counts it.
        met = [other for other in line.runs if other.accounted and other.collided and other is not run]
        if run.collided and not any(o.start < run.end and o.end > run.start for o in met):
            self.collisions += 1
        self.bytes += len(run.data)
        self.lost += len(run.data) - carried
        self.flipped += len(run.flips)
        self.frames[run.node.name] += 1
        self.busy_us += (run.end - run.start) / 1000
        start = run.start / 1000
        self.first_us = start if self.first_us is None else min(self.first_us, start)
        self.last_us = max(self.last_us, run.end / 1000)
        late = None if run.de_late is None else run.de_late / 1000
        if late is not None:
            self.de_late_us.append(late)
        self.trace.append(
            Frame(run.start // 1000, run.node.name, run.data, carried, run.collided, len(run.flips), late)
        )

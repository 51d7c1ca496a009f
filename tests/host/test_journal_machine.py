"""The journal against a dictionary, whatever is done to it in whatever order; and its samples' encoding by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from coupler.store.reader import Reader
from coupler.store.samples import MOST, Samples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from journal_world import Point, World
from nor import Nor, PowerCut

UNIX = 1_764_000_000_000
POINTS = 4

numbers = st.one_of(
    st.integers(-9, 9),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-3000, 3000).map(lambda i: i / 10),
    st.floats(allow_nan=False),
    st.floats(allow_nan=False, width=32),
    st.booleans(),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
qualities = st.sampled_from(["timeout", "crc", "range", "exception:2", "not-available", "stale"])
# (value, quality)
readings = st.one_of(
    numbers.map(lambda value: (value, None)),
    texts.map(lambda value: (value, None)),
    qualities.map(lambda quality: (None, quality)),
)


@dataclass
class Put:
    """A sample as it went in. unix: None while the clock was not known; sure: it was durable when it mattered."""

    point: Any
    value: Any
    quality: str | None
    boot: int
    us: int
    unix: int | None
    sure: bool = True


class JournalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model: dict[int, Put] = {}
        self.acked = 0
        self.readers: list[tuple[Reader, list[int]]] = []

    @initialize(sectors=st.integers(8, 10), cloud=st.booleans())
    def begin(self, sectors: int, cloud: bool) -> None:
        self.world = World(Nor(sectors), POINTS)
        self.rename(1)
        self.world.boot(cloud)

    def rename(self, names: int) -> None:
        self.world.points = [Point(f"n{names}p{i}", None, i != 1) for i in range(POINTS)]
        self.world.names = names
        self.world.old[names] = self.world.points

    # --- what happens to it

    def put(self, index: int, value: Any, quality: str | None) -> None:
        world = self.world
        journal = world.journal
        point = world.points[index]
        if journal.cloud or point.history:
            self.model[journal.next] = Put(point, value, quality, world.boots, world.hal.us, world.hal.unix)
        world.put(index, value, quality)

    @rule(rows=st.lists(st.tuples(st.integers(0, POINTS - 1), readings, st.integers(0, 5000)), max_size=12))
    def some(self, rows: list[tuple[int, tuple[Any, str | None], int]]) -> None:
        for index, (value, quality), ms in rows:
            self.world.wait(ms)
            self.put(index, value, quality)

    @rule(n=st.integers(50, 700), every=st.integers(1, 60))
    def many(self, n: int, every: int) -> None:
        for i in range(n):
            self.world.wait(1000)
            self.put(i % POINTS, f"{i * 7919 % 9973} of {n} texts", None)
            if i % every == 0:
                self.world.journal.flush()

    @rule()
    def flush(self) -> None:
        self.world.journal.flush()
        assert self.world.journal.durable == self.world.journal.next - 1

    @rule(back=st.integers(-5, 400))
    def ack(self, back: int) -> None:
        journal = self.world.journal
        before = journal.cursor
        journal.ack(journal.durable - back)
        assert before <= journal.cursor <= journal.durable
        self.acked = max(self.acked, journal.cursor)

    @rule()
    def settle(self) -> None:
        self.world.journal.settle()

    @rule()
    def prepare(self) -> None:
        if self.world.journal.ring.due():
            self.world.journal.ring.prepare()

    @rule(step=st.integers(-(10**8), 10**8))
    def clock(self, step: int) -> None:
        world = self.world
        world.set_clock((world.hal.unix or UNIX) + step)
        for put in self.model.values():
            if put.boot == world.boots and put.unix is None:
                put.unix = world.hal.unix - (world.hal.us - put.us) // 1000

    @rule(days=st.integers(1, 20))
    def silence(self, days: int) -> None:
        self.world.journal.flush()
        for _ in range(4 * days):
            self.world.wait(6 * 3600 * 1000)
            self.world.journal.settle()

    @rule(cloud=st.booleans())
    def switch(self, cloud: bool) -> None:
        self.world.journal.switch(cloud)

    # --- the power

    def start(self, cloud: bool) -> None:
        world = self.world
        durable = world.journal.durable
        following = world.journal.next
        world.flash.power()
        world.boot(cloud)
        journal = world.journal
        used = max((seq for seq, put in self.model.items() if seq <= durable and put.sure), default=0)
        assert journal.next > used, "a number would come again"
        for seq in range(durable + 1, following + 1):
            if seq in self.model:
                self.model[seq].sure = False
                if seq >= journal.next:
                    del self.model[seq]
        assert journal.cursor <= max(self.acked, journal.durable)
        self.readers.clear()

    @rule(cloud=st.booleans())
    def boot(self, cloud: bool) -> None:
        self.start(cloud)

    @rule()
    def another_configuration(self) -> None:
        self.rename(self.world.names + 1)
        self.start(True)

    @rule(
        after=st.integers(0, 30),
        within=st.integers(0, 60),
        torn=st.integers(0, 255),
        what=st.sampled_from(["many", "clock", "settle", "prepare", "switch"]),
        cloud=st.booleans(),
    )
    def cut(self, after: int, within: int, torn: int, what: str, cloud: bool) -> None:
        world = self.world
        world.flash.cut_after(after, within, torn)
        acts: dict[str, Callable[[], None]] = {
            "many": lambda: None,
            "clock": lambda: self.clock(1000),
            "settle": lambda: (self.ack(0), self.settle())[0],
            "prepare": self.prepare,
            "switch": lambda: self.switch(not world.journal.cloud),
        }
        try:
            acts[what]()
            self.many(120, 3)
        except PowerCut:
            pass
        self.start(cloud)
        # Power that never stays until a header is written would tear them all, one after the other.
        self.put(0, "the power is back", None)
        self.flush()

    # --- what is read

    def right(self, sample: tuple[Any, ...]) -> None:
        seq, point, value, quality, time = sample
        put = self.model[seq]
        assert (point, value) == (put.point, put.value), (seq, value, put)
        assert isinstance(value, bool) == isinstance(put.value, bool)
        assert quality == put.quality or (quality == "time" and put.unix is None), (seq, quality, put)
        if put.unix is not None:
            # A cut may have come before the clock's mark was in flash.
            assert time == put.unix or put.boot != self.world.boots, (seq, time, put)

    @rule(seq=st.integers(0, 3000))
    def whole(self, seq: int) -> None:
        world = self.world
        journal = world.journal
        reader = world.reader(False)
        reader.seek(seq)
        last = seq
        found = set()
        while (sample := reader.read()) is not None:
            assert sample[0] > last
            last = sample[0]
            self.right(sample)
            found.add(last)
        anchor = journal.ring.anchor(journal.ring.oldest) if journal.ring.serial >= 0 else None
        if anchor:
            oldest = int.from_bytes(anchor[:8], "little")
            for each, put in self.model.items():
                if put.sure and max(oldest, seq + 1) <= each <= journal.durable and put.point.history:
                    assert each in found, each

    @rule()
    def begin_reader(self) -> None:
        self.readers.append((self.world.reader(), []))

    @rule(peek=st.integers(1, 300), skip=st.integers(0, 300))
    def read(self, peek: int, skip: int) -> None:
        for reader, seen in self.readers:
            samples = reader.peek(peek)
            for sample in samples:
                self.right(sample)
            taken = min(skip, len(samples))
            for sample in samples[:taken]:
                assert not seen or sample[0] > seen[-1]
                seen.append(sample[0])
            reader.skip(taken)

    @invariant()
    def wear_is_even(self) -> None:
        if hasattr(self, "world"):
            erases = self.world.flash.erases
            assert max(erases) - min(erases) <= 1, erases


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)


# --- samples as bytes

samples = st.lists(st.tuples(st.integers(0, 5), readings, st.integers(0, 2**28)), max_size=60)
everything = st.one_of(numbers, st.floats(), st.floats(width=32), st.just(-0.0))


@settings(max_examples=300, deadline=None)
@given(samples, st.lists(everything, max_size=30))
def test_samples_are_read_as_they_were_written(rows: Any, values: list[Any]) -> None:
    rows = rows + [(i % 6, (value, None), 1000) for i, value in enumerate(values)]
    writer, reader = Samples(6), Samples(6)
    buf = bytearray(512 * (len(rows) + 1))
    end = 0
    ends = []
    for index, (value, quality), dt in rows:
        end = writer.encode(buf, end, index, value, quality, dt)
        ends.append(end)
    at = 0
    for (index, (value, quality), dt), end in zip(rows, ends, strict=True):
        if not isinstance(value, str) or len(value) <= 16:
            assert end - at <= MOST
        at = reader.decode(buf, at)
        assert at == end and (reader.index, reader.quality, reader.dt) == (index, quality, dt)
        if isinstance(value, float) and math.isnan(value):
            assert math.isnan(reader.value)
        else:
            assert reader.value == value and isinstance(reader.value, bool) == isinstance(value, bool)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 300))
def test_any_bytes_are_samples_or_a_value_error(data: bytes, points: int) -> None:
    known = Samples(points)
    at = 0
    try:
        while at < len(data):
            end = known.decode(data, at)
            assert at < end <= len(data)
            at = end
    except (ValueError, IndexError):
        pass

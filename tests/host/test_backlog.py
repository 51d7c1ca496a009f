"""What is new before what waits: whatever the link, the broker and the store do, and in a unit at a real broker."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from config_example import CONTRACT, Site, compiled
from coupler.store.reader import by_number
from coupler.uplink import mqtt
from coupler.uplink.mqtt import Mqtt
from coupler.uplink.outbox import Outbox
from coupler.uplink.plain import Plain
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_world import World
from kobler.errors import UsageError
from nor import Nor
from uplink_world import INTERPRETERS, UNIT_ID, Broker, Ca, Loop, unit

_OLD = 2  # packs of a backlog that may be on the way

_STEPS = st.one_of(
    st.tuples(st.sampled_from(["put", "put", "local"]), st.integers(1, 250)),
    st.tuples(st.just("flood"), st.integers(1, 60)),
    st.tuples(st.sampled_from(["flow", "flow", "pile"]), st.integers(1, 12)),
    st.tuples(st.sampled_from(["write", "take", "answer", "keep", "tell", "pass"]), st.integers(0, 9)),
    st.tuples(st.sampled_from(["connect", "connect", "lose", "restart"]), st.integers(0, 1)),
)


class Line:
    """A unit, a broker and a store, with all that is on the way between them.

    ack: "broker"; "store": the store goes by what each pack follows; "highest": it acknowledges the highest it saw."""

    def __init__(self, ack: str, **cloud: int) -> None:
        self.ack = ack
        self.world = World(Nor(4))
        self.cloud = {"ack": "broker" if ack == "broker" else "store", **cloud}
        self.durable: set[int] = set()
        self.dropped: set[int] = set()
        self.taken: set[int] = set()  # by the broker
        self.kept: set[int] = set()  # by the store
        self.queue: list[tuple[int, list[int]]] = []  # between them: what each pack follows, and its numbers
        self.spans: list[tuple[int, int]] = []  # that the store has
        self.told = 0  # up to where it says that it has all
        self.power()

    def power(self) -> None:
        self.journal = journal = self.world.journal
        self.world.set_clock(1_700_000_000_000)
        if journal.ring.serial >= 0:
            anchor = journal.ring.anchor(journal.ring.oldest)
            self.dropped.update(range(by_number(anchor)))
        self.mqtt = Mqtt("unit", window=8)
        count = {"packs": 0, "samples": 0, "acked": 0, "repeated": 0}
        self.outbox = Outbox(self.world.hal, Plain("unit"), self.mqtt, self.world.reader(), self.cloud, count)
        self.connect(0)

    def connect(self, present: int) -> None:
        self.wire: list[bytes] = []
        self.answers: list[bytes] = []
        self.mqtt.connect()
        for _ in self.mqtt.receive(bytes((0x20, 2, present, 0))):
            self.outbox.connected(bool(present))

    def step(self, kind: str, n: int) -> None:
        if kind in ("put", "local", "flood"):
            self.put(n, kind)
        elif kind == "flow" or kind == "pile":
            for _ in range(n):
                self.flow(stored=kind == "flow")
        elif kind == "write":
            self.write(n + 1)
        elif kind == "take":
            for _ in range(min(n + 1, len(self.wire))):
                self.take()
        elif kind == "answer" and self.answers:
            self.answer(n % len(self.answers))
        elif kind == "keep" and self.queue:
            self.keep(n % len(self.queue))
        elif kind == "tell":
            self.outbox.stored(self.told)
        elif kind == "pass":
            self.outbox.elapsed(1000 * n)
            self.world.wait(1000 * n)
        elif kind == "connect":
            self.connect(n)
        elif kind == "lose" and self.ack == "store":
            self.queue.clear()  # a broker that forgets what it has acknowledged
            self.connect(n)
        elif kind == "restart":
            self.world.boot()
            self.power()
        self.judge()

    def put(self, n: int, kind: str) -> None:
        journal = self.journal
        if kind == "local":
            journal.switch(False)
        for _ in range(n):
            if kind != "local":
                self.durable.add(journal.next)
            cursor = journal.cursor
            self.world.put(0, "x" * 200 if kind == "flood" else n)
            self.dropped.update(range(cursor + 1, journal.cursor + 1))
        cursor = journal.cursor
        journal.flush()
        if kind == "local":
            journal.switch(True)
        self.dropped.update(range(cursor + 1, journal.cursor + 1))

    def write(self, most: int) -> bool:
        for _ in range(most):
            before = len(self.mqtt.in_flight)
            packet = self.outbox.next()
            if packet is None:
                return False
            self.wire.append(bytes(packet))
            if len(self.mqtt.in_flight) > before:
                token = self.mqtt.in_flight[-1][2]
                self.order(token)
                self.previous = token[0]
        return True

    def order(self, token: tuple[int, int]) -> None:
        # Few packs of the backlog are on the way, and another one follows only if nothing new waits, or only since the
        # last pack, which was new.
        backlog = self.outbox._backlog
        if not backlog or token[0] > backlog.end:
            return
        flying = [entry[2][0] for entry in self.mqtt.in_flight if entry[2]]
        assert sum(first <= backlog.end for first in flying) <= _OLD
        waiting = [seq for seq in self.durable if seq > max(self.outbox.sent, backlog.end)]
        assert not waiting or self.outbox.interval or self.previous > backlog.end

    def take(self) -> None:
        ident, payload = publish_parts(self.wire.pop(0))
        records = json.loads(payload)
        numbers = [record["seq"] for record in records]
        self.taken.update(numbers)
        self.queue.append((records[0].get("after", numbers[0] - 1), numbers))
        self.answers.append(ident)

    def answer(self, which: int) -> None:
        for kind, token, _ in self.mqtt.receive(b"\x40\x02" + self.answers.pop(which)):
            assert kind == mqtt.ACKED
            self.outbox.acked(token)

    def keep(self, which: int) -> None:
        after, numbers = self.queue.pop(which)
        self.kept.update(numbers)
        if self.ack == "highest":
            self.told = max(self.kept)
            return
        self.spans.append((after, numbers[-1]))
        for low, high in sorted(self.spans):
            if low <= self.told < high:
                self.told = high
        missing = {seq for seq in self.durable if seq <= self.told} - self.kept - self.dropped
        assert not missing or self.ack == "broker", "the store says what is not true"

    def judge(self) -> None:
        safe = self.kept if self.ack == "store" else self.taken
        lost = {seq for seq in self.durable if seq <= self.journal.cursor} - safe - self.dropped
        assert not lost, "the cursor is ahead"

    def flow(self, stored: bool) -> None:
        self.write(8)
        while self.wire:
            self.take()
        while self.answers:
            self.answer(0)
        while self.queue and stored:
            self.keep(0)
        self.outbox.stored(self.told)

    def drain(self) -> None:
        for _ in range(600):
            self.flow(stored=True)
            self.judge()
            self.outbox.elapsed(1000)
            self.world.wait(1000)
            if not self.journal.waiting() and not self.outbox.more:
                break


@pytest.mark.parametrize("ack", ["broker", "store", "highest"])
@settings(max_examples=120, deadline=None)
@given(
    steps=st.lists(_STEPS, min_size=12, max_size=60),
    cloud=st.sampled_from([{}, {}, {"backlog": 30}, {"interval": 3000}, {"interval": 3000, "backlog": 30}]),
)
def test_nothing_is_lost_and_nothing_new_waits(ack: str, steps: list[tuple[str, int]], cloud: dict[str, int]) -> None:
    line = Line(ack, **cloud)
    for kind, n in steps:
        line.step(kind, n)
    line.put(1, "put")
    line.drain()
    assert line.journal.cursor == line.journal.durable, "stuck"
    assert line.durable <= line.kept | line.dropped


def publish_parts(packet: bytes) -> tuple[bytes, bytes]:
    """Packet id and payload of a QoS 1 publish."""
    at = 1
    while packet[at] & 0x80:
        at += 1
    at += 1
    size = struct.unpack(">H", packet[at : at + 2])[0]
    return packet[at + 2 + size : at + 4 + size], packet[at + 4 + size :]


ROOT = f"kobler/{UNIT_ID}"


@pytest.fixture(scope="module")
def broker(loop: Loop, ca: Ca) -> Iterator[Broker]:
    broker = Broker(loop, ca.context())
    yield broker
    broker.stop()


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_a_unit_that_was_away_for_long_is_live_at_once(broker: Broker, files: Path, interpreter: str) -> None:
    """The value of a new sample is how many packs had been sent when it was taken."""
    broker.drain()
    old = 5000
    with unit(
        interpreter,
        files,
        {"port": broker.port},
        backlog=old,
        sectors=32,
        period_ms=2,
        until={"acked": old + 20},
        seconds=60,
    ) as one:
        one.ended(60)
    packs = [json.loads(payload) for topic, payload in broker.drain() if topic == f"{ROOT}/telemetry"]
    is_old = [pack[0]["seq"] <= old for pack in packs]
    behind = [
        sum(is_old[record["v"] : index]) for index, pack in enumerate(packs) for record in pack if record["seq"] > old
    ]
    among = sum(pack[0]["seq"] > old for pack in packs[: old // 24])
    assert among >= 5, "there was something new while the backlog went up"
    assert max(behind) <= 2, "it waits for what is being written, and lets one more pass at most"
    numbers = [record["seq"] for pack in packs for record in pack]
    assert len(numbers) == len(set(numbers)) and set(range(1, old + 21)) <= set(numbers)
    assert [seq for seq in numbers if seq <= old] == list(range(1, old + 1)), "the oldest first"


def test_the_rate_of_a_backlog_is_the_configurations(tmp_path: Path) -> None:
    make = Site(tmp_path)
    assert "backlog" not in compiled(make(CONTRACT))["cloud"]
    assert compiled(make(CONTRACT.replace("[cloud]", "[cloud]\nbacklog = 50")))["cloud"]["backlog"] == 50
    for wrong in ("-1", "1.5", '"50"', "100001"):
        with pytest.raises(UsageError, match="backlog"):
            compiled(make(CONTRACT.replace("[cloud]", f"[cloud]\nbacklog = {wrong}")))

"""Each durable sample of a unit is in a real store exactly once, under kills of broker, store and unit (SIGKILL).

The unit is the firmware's session on its journal, whose flash is a file: killing the process is a power cut. It says
what it puts and what is durable in a log of its own, which is the oracle.
"""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brokers import CLUSTER_NAME, NODES, Broker, Cluster, Mosquitto, Names, Nats, started, unit_files
from kobler.pki import Authority
from sqlite_store import Store
from store_process import StoreProcess
from uplink_world import INTERPRETERS, UNIT_ID, Loop, Unit

both = pytest.mark.parametrize("interpreter", INTERPRETERS)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority.open_or_create(tmp_path_factory.mktemp("authority") / "pki")
    authority.issue_client("store")
    return authority


@pytest.fixture(scope="module")
def files(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unit_files(authority, tmp_path_factory.mktemp("unit"))


class Powered:
    """The unit through its power cuts: flash and log stay, each start is a boot."""

    def __init__(self, interpreter: str, files: Path, folder: Path, cloud: dict[str, Any], **settings: Any) -> None:
        self._interpreter, self._files, self._cloud = interpreter, files, cloud
        self._settings = {"flash": str(folder / "flash"), "log": str(folder / "log"), "capacity": 2000, **settings}
        self.log = folder / "log"
        self.boot = 0
        self.now: Unit | None = None

    def start(self, **settings: Any) -> Unit:
        self.boot += 1
        # patience_ms: a broker that is killed in the middle of a handshake must not cost the test ten seconds.
        given = {"seconds": 600, "patience_ms": 4000, "boot": self.boot, **self._settings, **settings}
        self.now = Unit(self._interpreter, self._files, self._cloud, **given)
        return self.now

    def kill(self) -> None:
        if self.now:
            self.now.kill()
            self.now = None

    def dead(self) -> bool:
        """Whether its power failed within an operation of its flash."""
        return self.now is not None and self.now._process.poll() is not None

    def drain(self, seconds: float) -> None:
        """One more start, until all that the journal holds is acknowledged. With one more sample: what a cut has torn
        may have been samples, so numbers are passed over there, and only the next one shows that they are empty."""
        self.kill()
        try:
            self.start(samples=1, until={"waiting": 0}).ended(seconds)
        finally:
            self.kill()

    def oracle(self) -> tuple[set[tuple[int, int, int]], dict[int, tuple[int, int]]]:
        """What was put as (seq, point, value), and what was durable as seq -> (point, value)."""
        put: set[tuple[int, int, int]] = set()
        durable: dict[int, tuple[int, int]] = {}
        for line in self.log.read_text().splitlines():
            parts = line.split()
            if len(parts) == 4 and line[0] in "pd":  # the last line before a kill may be torn
                seq, point, value = map(int, parts[1:])
                if line[0] == "p":
                    put.add((seq, point, value))
                else:
                    assert durable.setdefault(seq, (point, value)) == (point, value), f"number {seq} was given twice"
        return put, durable


def judge(unit: Powered, store: StoreProcess, at_least: int) -> None:
    """Nothing that was durable is missing, nothing is twice, nothing is there that was never put, no value is wrong."""
    put, durable = unit.oracle()
    kept = store.history(UNIT_ID)
    acked, shown, gaps = store.figures(UNIT_ID)
    assert len(durable) >= at_least, f"only {len(durable)} samples: too few to show anything"
    lost = {seq: value for seq, (point, value) in durable.items() if point == 1 and kept.get(seq) != value}
    assert not lost, (lost, unit.boot)
    assert all((seq, 1, value) in put for seq, value in kept.items()), "records that nobody put"
    # What was under way at a power cut may be durable without having been told of: at most one at each.
    live = sum(point == 0 for point, _ in durable.values())
    assert live <= shown <= live + unit.boot
    assert sum(point == 1 for point, _ in durable.values()) <= len(kept)
    assert acked >= max(durable) and not gaps, "the acknowledgement got stuck"


def settled(unit: Powered, store: StoreProcess) -> None:
    """Until the store has what the broker holds for it."""
    _, durable = unit.oracle()
    until(lambda: store.figures(UNIT_ID)[0] >= max(durable), 40)


def until(reached: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("interpreter", "ack"),
    [
        ("micropython", "broker"),
        pytest.param("cpython", "store", marks=pytest.mark.long),
        pytest.param("micropython", "store", marks=pytest.mark.long),
        pytest.param("cpython", "broker", marks=pytest.mark.long),
    ],
)
def test_a_node_that_dies_under_load_costs_the_cluster_nothing(
    loop: Loop, authority: Authority, files: Path, tmp_path: Path, interpreter: str, ack: str
) -> None:
    names = Names(loop)
    try:
        with started(Cluster(authority, tmp_path / "cluster")) as cluster:
            issued = authority.issue_client("store")
            hosts = [NODES[2], NODES[1], NODES[0]]
            with StoreProcess(tmp_path, issued, cluster.wss, hosts=hosts, acknowledges=ack == "store") as store:
                store.connected(seconds=30)
                cloud = {"port": cluster.wss, "host": CLUSTER_NAME, "ack": ack}
                unit = Powered(interpreter, files, tmp_path, cloud, dns=[names.server], period_ms=2)
                one = unit.start()
                try:
                    before = one.acked(200, 40)["status"]["address"]
                    cluster.kill(NODES.index(before))
                    # To another node, and on from there.
                    after = one.until(lambda r: r["status"]["state"] == "online" and r["status"]["address"] != before)
                    assert after["status"]["address"] != before
                    one.acked(after["acked"] + 500, 60)
                finally:
                    unit.kill()
                unit.drain(60)
                settled(unit, store)
                judge(unit, store, 700)
    finally:
        names.close()


class Link:
    """A broker between one unit and a Store, on a clock of its own: everything is delivered, late by up to `late`
    seconds, in any order, some of it twice."""

    def __init__(self, dice: random.Random, path: Path) -> None:
        self.dice, self._path = dice, path
        self.now, self.late = 0.0, 4.0
        self._wires: list[tuple[float, bytes]] = []
        self.acked = self.last = 0
        self.exist: set[int] = set()
        self.restart()

    def restart(self) -> None:
        self.store = Store(str(self._path))
        self.store.connected()

    def send(self, numbers: list[int]) -> None:
        records = [{"n": "a", "v": n, "seq": n, **({"h": True} if n % 3 else {})} for n in numbers]
        if numbers[0] != self.last + 1:
            records[0]["after"] = self.last
        self.last = numbers[-1]
        payload = json.dumps([{**records[0], "bn": "urn:dev:kobler:u:", "bt": 5}, *records[1:]]).encode()
        for _ in range(self.dice.choice((1, 1, 1, 2))):
            delay = self.dice.choice((0, 0, 0, self.dice.uniform(0, self.late)))
            self._wires.append((self.now + delay, payload))
        self.exist.update(numbers)

    def turn(self, seconds: float) -> None:
        self.now += seconds
        due = [wire for wire in self._wires if wire[0] <= self.now]
        self._wires = [wire for wire in self._wires if wire[0] > self.now]
        for _, payload in due:
            self.store.take("kobler/u/telemetry", payload)
        for device, seq in self.store.answers():
            assert device == "u"
            self.acked = max(self.acked, seq)
            here = {n for (n,) in self.rows("SELECT seq FROM history")}
            assert {n for n in self.exist if n <= seq and n % 3} <= here, "acknowledged and not there"

    def rows(self, query: str) -> list[Any]:
        db = sqlite3.connect(self._path)
        try:
            return db.execute(query).fetchall()
        finally:
            db.close()


@pytest.mark.parametrize("seed", range(12))
def test_the_store_acknowledges_nothing_too_early_and_never_gets_stuck(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    link = Link(dice, tmp_path / "store.db")
    number = dice.choice((1, 1, 65600))  # a journal that was lost, or a store that is new to an old unit
    for _ in range(120):
        if dice.random() < 0.1:
            number += dice.choice((1, 7, 400))  # dropped by the ring, or damaged
        pack = [number, *sorted(dice.sample(range(number + 1, number + 12), dice.randrange(11)))]
        number = pack[-1] + 1
        link.send(pack)
        link.turn(dice.uniform(0, 0.6))
        if dice.random() < 0.03:
            link.restart()
    for _ in range(400):
        link.turn(0.5)
    assert link.acked == max(link.exist)
    assert link.rows("SELECT count(*) FROM span") == [(0,)]
    assert {n for (n,) in link.rows("SELECT seq FROM history")} == {n for n in link.exist if n % 3}
    (shown,) = link.rows("SELECT count(*) FROM shown")[0]
    assert shown == sum(n % 3 == 0 for n in link.exist), "counted once"


def test_what_is_no_pack_stops_nothing(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store.db"))
    good = (
        b'[{"bn":"urn:dev:kobler:u:","bt":5,"n":"a","v":1,"seq":1,"h":true},{"n":"a","vs":"x","t":1,"seq":2,"h":true}]'
    )
    bad = [b"", b"{", b"7", b"[1]", b"{}", b'[{"n":"a","v":1}]', b'[{"n":"a","v":1,"seq":true}]', b"\xff", b"[[]]"]
    bad += [
        b'[{"n":"a","v":1,"seq":2},{"n":"a","v":1,"seq":1}]',
        b'[{"n":"a","seq":1}]',
        b'[{"n":"a","v":1,"seq":1e300}]',
    ]
    bad += [b'[{"n":["a"],"v":1,"seq":1,"h":true}]', b'[{"n":"a","v":{},"seq":1,"h":true}]', b"[" * 100000]
    bad += [b'[{"n":"a","v":1,"seq":2,"after":%s}]' % after for after in (b"2", b"-1", b"true", b'"1"', b"null")]
    bad += [b'[{"n":"a","v":1,"t":"x","seq":1}]', b'[{"n":"a","v":1,"t":1' + b"0" * 400 + b',"seq":1}]']
    for payload in bad:
        store.take("kobler/u/telemetry", payload)
    assert store.refused == len(bad) and store.answers() == []
    store.take("kobler/u/telemetry", good)
    assert store.answers() == [("u", 2)] and store.answers() == []
    store.take("kobler/u/telemetry", good)
    assert store.answers() == [("u", 2)], "who sends again has not heard it"


@both
def test_a_store_that_comes_after_the_unit_gets_everything(
    authority: Authority, files: Path, tmp_path: Path, interpreter: str
) -> None:
    """The broker acknowledges what nobody is subscribed to: with ack = "store" the unit must send it again."""
    with started(Mosquitto(authority, tmp_path / "broker")) as broker:
        cloud = {"port": broker.wss, "ack": "store"}
        unit = Powered(interpreter, files, tmp_path, cloud, period_ms=2, samples=400)
        try:
            one = unit.start()
            one.online()
            time.sleep(2)
            with StoreProcess(tmp_path, authority.issue_client("store"), broker.wss) as store:
                store.connected()
                one.acked(400, 12)
                judge(unit, store, 400)
        finally:
            unit.kill()


KINDS: dict[str, tuple[Callable[..., Broker], str]] = {
    # mosquitto keeps what it acknowledged in memory: only the store's word counts there.
    "mosquitto-store": (Mosquitto, "store"),
    "nats-store": (Nats, "store"),
    "nats-broker": (Nats, "broker"),
}


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ack", ["broker", "store"])
@both
def test_each_node_dies_in_turn_and_unit_and_store_in_between(
    loop: Loop, authority: Authority, files: Path, tmp_path: Path, interpreter: str, ack: str
) -> None:
    dice = random.Random(7)
    names = Names(loop)
    try:
        with started(Cluster(authority, tmp_path / "cluster")) as cluster:
            issued = authority.issue_client("store")
            store = StoreProcess(tmp_path, issued, cluster.wss, hosts=list(NODES), acknowledges=ack == "store")
            unit = Powered(
                interpreter,
                files,
                tmp_path,
                {"port": cluster.wss, "host": CLUSTER_NAME, "ack": ack},
                dns=[names.server],
                period_ms=5,
            )
            with store:
                store.connected(seconds=30)
                unit.start().online(30)
                try:
                    for node in (0, 1, 2, 0, 2, 1):
                        dice.shuffle(names.addresses)
                        cluster.kill(node)
                        time.sleep(dice.uniform(0, 3))
                        if dice.random() < 0.7:
                            store.kill()
                            time.sleep(dice.uniform(0, 1))
                            store.start()
                        if dice.random() < 0.7:
                            unit.kill()
                            unit.start()
                        time.sleep(dice.uniform(1, 8))
                        cluster.start(node)
                        cluster.wait([node])
                        time.sleep(5)  # until it has what it missed: two nodes without the latest are no majority
                finally:
                    unit.kill()
                unit.drain(120)
                settled(unit, store)
                judge(unit, store, 1000)
    finally:
        names.close()


@pytest.mark.long
@pytest.mark.parametrize(("kind", "interpreter"), [("mosquitto-store", "micropython"), ("nats-store", "cpython")])
def test_a_backlog_comes_whole_through_kills_while_new_samples_overtake_it(
    authority: Authority, files: Path, tmp_path: Path, kind: str, interpreter: str
) -> None:
    make, ack = KINDS[kind]
    with started(make(authority, tmp_path / "broker")) as broker:
        broker.kill()
        unit = Powered(
            interpreter, files, tmp_path, {"port": broker.wss, "ack": ack, "backlog": 300}, period_ms=1, capacity=9000
        )
        issued = authority.issue_client("store")
        store = StoreProcess(tmp_path, issued, broker.wss, acknowledges=True)
        with store:
            unit.start()
            try:
                until(lambda: unit.log.exists() and len(unit.oracle()[1]) > 3000, 40)
                overtaken = False
                for _ in range(4):
                    broker.start()
                    before = store.figures(UNIT_ID)[0]
                    until(lambda before=before: store.figures(UNIT_ID)[0] > before + 300, 40)
                    acked, _, gaps = store.figures(UNIT_ID)
                    overtaken |= gaps > 0 and max(store.history(UNIT_ID)) > acked + 1000
                    broker.kill()
                    time.sleep(0.5)
                broker.start()
                store.kill()
                store.start()
                assert overtaken, "what is new was there before the backlog"
            finally:
                unit.kill()
            unit.drain(60)
            settled(unit, store)
            judge(unit, store, 3000)


def kills(
    kind: str, interpreter: str, seed: int, seconds: float, authority: Authority, files: Path, folder: Path
) -> None:
    dice = random.Random(seed)
    make, ack = KINDS[kind]
    with started(make(authority, folder / "broker")) as broker:
        issued = authority.issue_client("store")
        store = StoreProcess(folder, issued, broker.wss, acknowledges=ack == "store")
        unit = Powered(interpreter, files, folder, {"port": broker.wss, "ack": ack}, period_ms=3)
        with store:
            store.connected()
            unit.start(cut=[300, 5, 0xA5])
            counts = {"broker": 0, "store": 0, "unit": 0}
            cuts = 0

            def power() -> None:
                # Two of three starts end by themselves: within a program or an erase, which is left half done.
                cut = [dice.randrange(10, 200), dice.randrange(12), dice.choice((0, 0x0F, 0xA5, 0xFF))]
                unit.start(**({"cut": cut} if dice.random() < 0.67 else {}))

            end = time.monotonic() + seconds
            try:
                while time.monotonic() < end:
                    time.sleep(dice.uniform(0.02, 1.5))
                    victims = dice.sample(sorted(counts), dice.choice((1, 1, 1, 2, 3)))
                    again: dict[str, Callable[[], Any]] = {
                        "broker": broker.start,
                        "store": store.start,
                        "unit": power,
                    }
                    if unit.dead():
                        cuts += 1
                        unit.kill()
                        power()
                    for victim in victims:
                        {"broker": broker.kill, "store": store.kill, "unit": unit.kill}[victim]()
                        counts[victim] += 1
                        time.sleep(dice.choice((0, 0, dice.uniform(0, 0.3))))
                    time.sleep(dice.uniform(0, 0.4))
                    for victim in dice.sample(victims, len(victims)):
                        again[victim]()
            finally:
                unit.kill()
            assert min(counts.values()) >= max(1, seconds // 15) and cuts >= seconds // 15, (counts, cuts)
            unit.drain(60)
            settled(unit, store)
            judge(unit, store, int(20 * seconds))


@pytest.mark.parametrize(
    ("kind", "interpreter"),
    [("mosquitto-store", "micropython"), ("nats-store", "cpython"), ("nats-broker", "micropython")],
)
def test_kills_at_random_lose_nothing_and_double_nothing(
    authority: Authority, files: Path, tmp_path: Path, kind: str, interpreter: str
) -> None:
    kills(kind, interpreter, 1, 8, authority, files, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("kind", "interpreter"), list(itertools.product(KINDS, INTERPRETERS)))
def test_kills_at_random_for_long(
    authority: Authority, files: Path, tmp_path: Path, kind: str, interpreter: str, seed: int
) -> None:
    kills(kind, interpreter, 100 + seed, 90, authority, files, tmp_path)

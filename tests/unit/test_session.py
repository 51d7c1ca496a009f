"""What the session sends and when, how it takes what comes down, and how long it waits: everything but the sockets."""

import json

from check import raises
from coupler.uplink import mqtt
from coupler.uplink.mqtt import Mqtt
from coupler.uplink.outbox import Outbox
from coupler.uplink.plain import Plain
from coupler.uplink.session import Session
from journal_world import World
from nor import Nor

CLOUD = {"host": "h", "port": 443, "scheme": "wss", "path": "/mqtt", "dialect": "plain", "ack": "broker"}
COUNT = ("packs", "samples", "acked", "repeated")


class Bench:
    """Journal, outbox and MQTT as the session joins them; write() gives what a pump would have written."""

    def __init__(self, ack="broker", interval=0):
        self.world = World(Nor(4))
        self.world.set_clock(1700000000000)
        self.journal = self.world.journal
        self.mqtt = Mqtt("id", window=8)
        self.count = {name: 0 for name in COUNT}
        cloud = {"ack": ack, "interval": interval}
        self.outbox = Outbox(self.world.hal, Plain("id"), self.mqtt, self.world.reader(), cloud, self.count)
        self.connect()

    def connect(self, present=0):
        self.mqtt.connect()
        for _, session_present, _ in self.mqtt.receive(bytes((0x20, 2, present, 0))):
            self.outbox.connected(session_present)

    def put(self, n, value=1):
        for _ in range(n):
            self.world.put(0, value)
        self.journal.flush()

    def write(self):
        """All packets that may go now, as (DUP, packet id, sequence numbers)."""
        out = []
        while True:
            packet = self.outbox.next()
            if packet is None:
                return out
            packet = bytes(packet)
            at = packet.find(b"kobler/id/telemetry") + 19
            records = json.loads(packet[at + 2 :])
            out.append((packet[0] >> 3 & 1, packet[at] << 8 | packet[at + 1], [r["seq"] for r in records]))

    def puback(self, ident):
        for kind, token, _ in self.mqtt.receive(bytes((0x40, 2, ident >> 8, ident & 255))):
            assert kind == mqtt.ACKED
            self.outbox.acked(token)


def test_an_idle_line_takes_what_is_there_at_once_and_a_busy_one_lets_it_gather():
    b = Bench()
    b.put(2)
    assert b.write() == [(0, 1, [1, 2])]
    b.put(5)
    assert b.write() == []
    b.puback(1)
    assert b.write() == [(0, 2, [3, 4, 5, 6, 7])]


def test_a_backlog_goes_in_full_packs_within_a_window():
    b = Bench()
    b.put(200)
    packs = b.write()
    assert [len(p[2]) for p in packs] == [24, 24, 24, 24] and b.count["packs"] == 4
    b.puback(1)
    assert [p[2][0] for p in b.write()] == [97] and b.journal.waiting() == 176


def test_the_cursor_moves_only_to_what_is_acknowledged_without_a_gap():
    b = Bench()
    b.put(72)
    b.write()
    b.puback(2)
    assert b.journal.cursor == 0
    b.puback(3)
    assert b.journal.cursor == 0
    b.puback(1)
    assert b.journal.cursor == 72 and b.count["acked"] == 72
    b.puback(1)  # a second time: nothing
    assert b.journal.cursor == 72


def test_a_pack_stays_small_whatever_is_in_it():
    b = Bench()
    b.put(60, "x" * 240)
    assert [len(p[2]) for p in b.write()] == [6, 6, 6, 6]
    b = Bench()
    b.put(1, "\x01" * 5000)
    assert [p[2] for p in b.write()] == [[1]], "no text is longer than a device's registers can make it"


def test_after_a_reconnect_the_unacknowledged_goes_first():
    b = Bench()
    b.put(48)
    first = b.write()
    b.put(24)
    b.connect(1)
    again = b.write()
    assert [p[0] for p in again] == [1, 1, 0] and [p[1:] for p in again[:2]] == [p[1:] for p in first]
    assert b.count["repeated"] == 2
    for ident in (1, 2, 3):
        b.puback(ident)
    assert b.journal.cursor == 72


def test_samples_that_the_full_journal_dropped_are_not_sent_and_not_waited_for():
    b = Bench()
    b.put(24)
    b.write()
    while not b.journal.dropped:
        b.put(50, "twelve chars")
    dropped = b.journal.dropped
    for ident in (1, 2, 3, 4):
        b.puback(ident)
    assert b.write()[0][2][0] == dropped + 1


def test_with_the_stores_acknowledgement_a_reconnect_starts_at_the_stores_cursor():
    b = Bench("store")
    b.put(48)
    b.write()
    b.puback(1)
    b.puback(2)
    assert b.journal.cursor == 0
    b.outbox.stored(30)
    assert b.journal.cursor == 30
    b.connect(1)
    assert [p[2] for p in b.write()] == [list(range(31, 49))]
    b.outbox.stored(10)  # late
    b.outbox.stored(999)
    assert b.journal.cursor == 48


def test_a_store_that_never_acknowledges_is_not_flooded():
    b = Bench("store")
    b.put(600)
    sent = 0
    for _ in range(100):
        packs = b.write()
        for _, ident, seqs in packs:
            sent = seqs[-1]
            b.puback(ident)
    assert 200 < sent < 300
    b.outbox.stored(sent)
    assert b.write()[0][2][0] == sent + 1


def test_what_the_store_does_not_acknowledge_goes_again_after_a_while():
    b = Bench("store")
    b.put(10)
    for _, ident, _ in b.write():
        b.puback(ident)
    for _ in range(29):
        assert not b.outbox.elapsed(1000)
    assert b.write() == [] and b.outbox.elapsed(1000)
    ((_, ident, seqs),) = b.write()
    assert seqs == list(range(1, 11)), "it may have come later than we"
    b.puback(ident)
    b.outbox.stored(10)
    for _ in range(100):
        assert not b.outbox.elapsed(1000)
    assert b.write() == []


def test_samples_gather_for_an_interval_and_go_up_together():
    b = Bench(interval=10000)
    b.put(2)
    assert [p[2] for p in b.write()] == [[1, 2]]
    b.puback(1)
    for _ in range(9):
        b.world.wait(1000)
        b.put(3)
        assert b.write() == []
    b.world.wait(1000)
    b.put(3)
    assert [p[2] for p in b.write()] == [list(range(3, 33))], "all that is due, in one pack"
    b.put(300)
    b.puback(2)
    assert b.write() == [], "however many there are"
    b.world.wait(10000)
    for ident, count in ((3, 48), (4, 48), (5, 48), (6, 48), (7, 48), (8, 48), (9, 12)):
        assert [len(p[2]) for p in b.write()] == [count], "all that gathered, one pack after the other"
        b.put(0)
        b.puback(ident)
    assert b.write() == []


def session(**cloud):
    merged = dict(CLOUD)
    merged.update(cloud)
    world = World(Nor(4))
    world.hal.random = b""
    return Session(world.hal, merged, {"id": "id"}, world.reader(), {"boot": 1, "firmware": "x"})


def test_the_back_off_doubles_to_its_cap_and_is_spread_over_the_whole_range():
    s = session()
    limits = []
    for failed in range(8):
        s._failed = failed
        s._hal.random = b"\xff\xff"
        limits.append(s.backoff_ms())
        s._hal.random = b"\0\0"
        assert s.backoff_ms() == 0
        s._hal.random = b"\x80\0"
        assert s.backoff_ms() == min(60000, 2000 << failed) // 2
    for got, want in zip(limits, (2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000)):
        assert want - 2 <= got < want
    s._failed = 100000
    assert s.backoff_ms() <= 60000


def test_an_unknown_dialect_is_refused():
    assert "bluemix" in str(raises(ValueError, lambda: session(dialect="bluemix")))


def test_nothing_is_posted_without_a_connection():
    s = session()
    assert s.post("t", b"") is False
    s.report()
    assert s.status["state"] == "idle" and s.status["error"] is None

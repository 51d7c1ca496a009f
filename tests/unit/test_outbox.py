"""What goes up, in which order, and how far the cursor follows the acknowledgements."""

import json

from coupler.uplink import mqtt
from coupler.uplink.mqtt import Mqtt
from coupler.uplink.outbox import Outbox
from coupler.uplink.plain import Plain
from journal_world import World
from nor import Nor

COUNT = ("packs", "samples", "acked", "repeated")


class Bench:
    """Journal, outbox and MQTT as the session joins them; write() gives what a pump would have written."""

    def __init__(self, ack="broker", sectors=4, **cloud):
        self.world = World(Nor(sectors))
        self.cloud = {"ack": ack}
        self.cloud.update(cloud)
        self.start()

    def start(self):
        self.world.set_clock(1700000000000)
        self.journal = self.world.journal
        self.mqtt = Mqtt("id", window=8)
        self.count = {name: 0 for name in COUNT}
        self.outbox = Outbox(self.world.hal, Plain("id"), self.mqtt, self.world.reader(), self.cloud, self.count)
        self.connect()

    def restart(self):
        """The power fails, and comes back."""
        self.world.boot()
        self.start()

    def connect(self, present=0):
        self.mqtt.connect()
        for _, session_present, _ in self.mqtt.receive(bytes((0x20, 2, present, 0))):
            self.outbox.connected(session_present)

    def put(self, n, value=1):
        for _ in range(n):
            self.world.put(0, value)
        self.journal.flush()

    def write(self, most=1000):
        """All packets that may go now, as (DUP, packet id, sequence numbers)."""
        out = []
        while True:
            packet = self.outbox.next() if len(out) < most else None
            if packet is None:
                if self.outbox.more and len(out) < most:
                    continue
                return out
            packet = bytes(packet)
            at = packet.find(b"kobler/id/telemetry") + 19
            records = json.loads(packet[at + 2 :])
            assert not [r for r in records[1:] if "after" in r]
            self.after = records[0].get("after")
            out.append((packet[0] >> 3 & 1, packet[at] << 8 | packet[at + 1], [r["seq"] for r in records]))

    def drain_some(self, turns, new):
        """So many windows, acknowledged, and `new` samples before each; the numbers that were sent."""
        seen = []
        for _ in range(turns):
            self.put(new)
            for dup, ident, seqs in self.write():
                seen += [] if dup else seqs
                self.puback(ident)
        return seen

    def puback(self, ident):
        for kind, token, _ in self.mqtt.receive(bytes((0x40, 2, ident >> 8, ident & 255))):
            assert kind == mqtt.ACKED
            self.outbox.acked(token)

    def drain(self):
        """The broker acknowledges whatever comes, until nothing comes any more; returns the numbers."""
        numbers = []
        while True:
            packs = self.write()
            if not packs:
                return numbers
            for _, ident, seqs in packs:
                numbers += seqs
                self.puback(ident)


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
    ((_, ident, seqs),) = b.write()
    assert seqs == list(range(31, 49))
    b.outbox.stored(10)  # late
    b.outbox.stored(999)
    assert b.journal.cursor == 30, "the broker has not even taken it"
    b.puback(ident)
    assert b.journal.cursor == 48


def test_a_store_that_acknowledged_what_did_not_exist_is_asked_for_what_comes_later():
    b = Bench("store")
    b.put(5)
    for _, ident, _ in b.write():
        b.puback(ident)
    b.outbox.stored(10**9)
    assert b.journal.cursor == 5
    b.put(5)
    for _, ident, _ in b.write():
        b.puback(ident)
    assert b.journal.cursor == 5
    b.outbox.stored(10)
    assert b.journal.cursor == 10


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


class Store:
    """The highest number up to which it has everything, by what each pack says it follows."""

    def __init__(self, bench):
        self.bench = bench
        self.count = {}
        self.acked = 0
        self.spans = []
        self.loses = lambda seqs: False

    def run(self):
        """Until nothing comes any more."""
        b = self.bench
        while True:
            packs = b.write(1)
            if not packs:
                return self.acked
            self.take(packs[0])
            b.puback(packs[0][1])

    def take(self, packet):
        b = self.bench
        seqs = packet[2]
        if self.loses(seqs):
            return
        for seq in seqs:
            self.count[seq] = self.count.get(seq, 0) + 1
        self.spans.append((seqs[0] - 1 if b.after is None else b.after, seqs[-1]))
        for after, upto in sorted(self.spans):
            if after <= self.acked < upto:
                self.acked = upto
        b.outbox.stored(self.acked)


def behind(n=500, **settings):
    """A unit that finds n samples at its connect."""
    b = Bench(**settings)
    b.put(n)
    b.connect()
    return b


def numbers(packs):
    return [p[2] for p in packs]


def test_what_is_new_waits_for_no_more_of_a_backlog_than_is_on_the_way():
    b = behind()
    assert numbers(b.write()) == [list(range(1, 25)), list(range(25, 49))]
    for i in range(1, 60):
        b.put(1)
        found = b.write()
        assert numbers(found) == [[500 + i]], "at once"
        b.puback(found[0][1])
    assert b.journal.cursor == 0
    b.put(2)
    b.puback(1)
    assert numbers(b.write()) == [[560, 561], list(range(49, 73))], "first what is new"
    assert b.journal.cursor == 24
    b.put(1)
    b.put(1)
    b.puback(2)
    assert numbers(b.write()) == [[562, 563], list(range(73, 97))], "also while something new is on the way"
    b.put(5)
    b.write()
    b.put(5)
    assert b.write() == [], "what is new gathers while three packs of it are on the way"


def test_a_backlog_is_joined_without_sending_anything_twice():
    b = behind()
    seen = []
    for i in range(100):
        b.put(1)
        for _, ident, seqs in b.write():
            seen += seqs
            b.puback(ident)
    seen += b.drain()
    assert sorted(seen) == list(range(1, 601)) and b.journal.waiting() == 0
    b.put(200)
    assert [len(p[2]) for p in b.write()] == [24, 24, 24, 24], "in its order, with the whole window"


def test_without_a_backlog_there_is_no_second_reader():
    b = Bench()
    made = []
    b.outbox.source.another = lambda: made.append(1)
    b.put(96)
    b.connect()
    assert [len(p[2]) for p in b.write()] == [24, 24, 24, 24] and not made
    b.put(300)
    for _, ident, _ in b.write():
        b.puback(ident)
    b.drain()
    assert not made, "whoever is only slow sends in order"


def test_without_memory_for_a_second_reader_all_goes_in_its_order():
    def another():
        raise MemoryError()

    b = Bench()
    b.outbox.source.another = another
    b.put(500)
    b.connect()
    b.put(1)
    assert b.drain() == list(range(1, 502))


def test_a_backlog_goes_no_faster_than_its_rate():
    b = behind(backlog=10)
    b.drain()
    sent = []
    for _ in range(30):
        assert b.outbox.elapsed(1000), "asks to be asked"
        b.put(1)
        found = b.drain()
        assert found[0] > 500
        sent += [seq for seq in found if seq <= 500]
    assert 250 <= len(sent) <= 330
    before = len(sent)
    b.outbox.elapsed(3600000)
    sent += [seq for seq in b.drain() if seq <= 500]
    assert len(sent) - before <= 48, "what was not sent in time is not made good for"


def test_a_reconnect_in_between_does_not_repeat_what_went_up_while_it_was_new():
    b = behind(1000, sectors=8)
    seen = b.drain_some(5, 3)
    for _ in range(3):
        b.put(200)  # while offline
        b.connect(1)
        seen += b.drain_some(5, 3)
    seen += b.drain()
    assert sorted(seen) == list(range(1, b.journal.durable + 1)) and b.journal.waiting() == 0
    # More outages than are remembered: something comes again, and nothing is missing.
    seen = []
    first = b.journal.durable + 1
    b.put(1000)
    for _ in range(12):
        b.connect(1)
        seen += b.drain_some(2, 1)
        b.put(150)
    seen += b.drain()
    assert sorted(set(seen)) == list(range(first, b.journal.durable + 1)) and b.journal.waiting() == 0
    assert 0 < len(seen) - len(set(seen)) < 40


def test_after_a_short_break_what_is_new_just_goes_on():
    b = behind()
    b.put(1)
    assert numbers(b.write())[0] == [501]
    b.put(20)
    b.connect(1)
    packs = b.write()
    assert [p[0] for p in packs] == [1, 1, 1, 0] and packs[3][2] == list(range(502, 522))
    for _, ident, _ in packs:
        b.puback(ident)
    assert b.drain() == list(range(49, 501)) and b.journal.waiting() == 0


def test_numbers_that_are_missing_are_told():
    b = behind()
    b.write()
    assert b.after is None, "25 follows 24"
    b.put(1)
    assert numbers(b.write()) == [[501]] and b.after is None
    b.restart()
    b.write(1)
    assert b.after is None, "1 is the first of all"
    b = Bench()
    b.put(30)
    for _, ident, _ in b.write():
        b.puback(ident)
    b.drain()
    b.journal.switch(False)
    b.put(5)
    b.journal.switch(True)
    b.put(2)
    assert numbers(b.write()) == [[36, 37]] and b.after == 30
    b.journal.settle()
    b.puback(3)
    b.restart()
    b.put(1)
    b.write(1)
    assert b.after == 0, "nothing below waits to be acknowledged"


def test_where_numbers_are_missing_at_the_end_of_a_backlog_one_sample_comes_twice_to_tell():
    b = Bench("store")
    b.put(300)
    b.journal.switch(False)
    b.put(50)
    b.journal.switch(True)
    b.journal.flush()
    store = Store(b)
    b.connect()
    b.put(1)
    ((_, ident, seqs),) = b.write(1)
    assert seqs == [351]
    store.take((0, ident, seqs))
    b.puback(ident)
    b.put(30)
    assert store.run() == 381 == b.journal.cursor
    assert store.count[351] <= 2 and sum(store.count.values()) <= 300 + 31 + 1


def test_nothing_new_follows_a_backlog_that_ends_with_missing_numbers():
    b = Bench("store")
    b.put(300)
    b.journal.switch(False)
    b.put(50)
    b.journal.switch(True)
    b.connect()
    store = Store(b)
    assert store.run() == 300
    b.put(1)
    assert store.run() == 351 == b.journal.cursor
    for _ in range(100):
        assert not b.outbox.elapsed(1000)
    assert sum(store.count.values()) == 301


def test_with_the_stores_acknowledgement_the_cursor_follows_the_backlog():
    b = behind(1000, ack="store", sectors=8)
    store = Store(b)
    b.put(1)
    packs = b.write()
    assert numbers(packs)[0] == [1001]
    for _, ident, _ in packs:
        b.puback(ident)
    b.put(300)
    while not b.outbox.more and b.write(1):
        for ident in [entry[0] for entry in b.mqtt.in_flight]:
            b.puback(ident)
    assert b.outbox.sent == 1301, "what is new goes on although the store is silent"
    assert b.journal.cursor == 0 and b.count["samples"] < 301 + 256 + 24, "the backlog does not"
    b.connect()
    assert store.run() == 1000 and b.journal.cursor == 1000, "the new part came to another store"
    for _ in range(30):
        b.outbox.elapsed(1000)
    assert store.run() == 1301 == b.journal.cursor
    assert sum(store.count.values()) == 1301


def test_what_the_broker_loses_before_it_is_stored_goes_again():
    b = behind(1000, ack="store", sectors=8)
    store = Store(b)
    store.loses = lambda seqs: 400 in seqs or 1010 in seqs
    b.put(24)
    store.run()
    assert b.journal.cursor < 400
    store.loses = lambda seqs: False
    for _ in range(3):
        b.put(10)
        store.run()
        for _ in range(30):
            b.outbox.elapsed(1000)
    assert store.run() == 1054 == b.journal.cursor
    assert sorted(store.count) == list(range(1, 1055))


def test_a_reconnect_in_between_goes_back_to_the_stores_cursor_only_in_the_backlog():
    b = behind(1000, ack="store", sectors=8)
    store = Store(b)
    b.put(48)
    for _ in range(8):
        ((_, ident, seqs),) = b.write(1)
        store.take((0, ident, seqs))
        b.puback(ident)
    b.put(5)
    assert len(b.write()) == 3  # that never arrive
    b.put(100)
    b.connect()
    assert store.run() == 1153 == b.journal.cursor
    assert max(store.count.values()) == 1, "what the broker has is not sent again"


def test_a_backlog_that_waits_for_its_rate_is_not_taken_for_a_silent_store():
    b = behind(ack="store", interval=1000, backlog=1)
    store = Store(b)
    for _ in range(600):
        b.outbox.elapsed(1000)
        b.world.wait(1000)
        b.put(1)
        store.run()
    assert b.journal.cursor > 1000 and max(store.count.values()) == 1


def test_the_cursor_also_follows_what_the_backlog_only_passes():
    b = behind()
    b.drain_some(3, 10)
    b.journal.switch(False)
    b.put(200)
    b.journal.switch(True)
    b.connect(1)
    b.drain()
    assert b.journal.cursor == 530 and b.journal.durable == 730


def test_a_store_that_acknowledges_the_highest_it_saw_moves_the_cursor_no_further_than_the_broker_has():
    b = behind(ack="store")
    b.put(1)
    packs = b.write()
    b.puback(packs[0][1])
    b.outbox.stored(501)
    assert b.journal.cursor == 0
    b.puback(packs[1][1])
    assert b.journal.cursor == 24
    b.puback(packs[2][1])
    assert b.drain()[-1] == 500 and b.journal.waiting() == 0


def test_beside_a_backlog_samples_gather_for_an_interval():
    b = behind(interval=10000)
    assert [len(seqs) for seqs in numbers(b.write())] == [48], "a full pack of it, one at a time"
    b.put(3)
    b.puback(1)
    assert numbers(b.write()) == [list(range(49, 97))]
    b.world.wait(10000)
    b.put(3)
    assert numbers(b.write()) == [list(range(501, 507))], "together"
    b.put(1)
    b.puback(2)
    b.puback(3)
    assert numbers(b.write()) == [list(range(97, 145))], "until the next interval is over"
    b.puback(4)
    assert b.drain()[-1] == 500
    b.world.wait(10000)
    assert b.drain() == [507] and b.journal.waiting() == 0


def test_a_backlog_that_the_ring_drops_is_not_waited_for():
    b = behind(400)
    b.put(1)
    seen = b.drain_some(2, 1)
    while not b.journal.dropped:
        b.put(20, "twelve chars")
    first = b.journal.dropped + b.count["acked"]
    seen += b.drain()
    assert b.journal.waiting() == 0
    assert set(range(first + 1, b.journal.durable + 1)) <= set(seen)


def test_after_a_restart_the_backlog_begins_at_the_cursor():
    b = behind(600, sectors=8)
    b.drain_some(8, 1)
    b.journal.settle()
    cursor = b.journal.cursor
    assert cursor > 0
    b.restart()
    b.put(1)
    assert numbers(b.write(2)) == [[b.journal.durable], list(range(cursor + 1, cursor + 25))]
    b.drain()

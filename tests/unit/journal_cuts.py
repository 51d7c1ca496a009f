"""Power cuts in a journal, cheaply: one run is recorded, operation by operation; the flash as a cut at any byte of any
of them left it is made from the record, booted and compared with what had been put."""

import struct

from bus_fakes import Hal
from journal_world import Point, World
from nor import SECTOR, Nor, PowerCut

UNIX = 1764000000000
POINTS = 5
_GROWN = 200


class Dice:
    """The same numbers on every interpreter, single floats included."""

    def __init__(self, seed):
        self._state = seed * 7919 + 12345 & 0x3FFFFFFF

    def below(self, n):
        self._state = (self._state * 1103515245 + 12345) & 0x3FFFFFFF
        return (self._state >> 8) % n

    def value(self):
        """(value, quality) of a sample, all kinds of them."""
        kind = self.below(16)
        if kind < 4:
            return self.below(40) - 20, None
        if kind < 7:
            return (self.below(4000) - 1000) / 10, None
        if kind == 7:
            return self.below(1 << 20) / 1024 + 0.5, None
        if kind == 8:
            return (self.below(1 << 20) + 1) / 3, None
        if kind == 9:
            return self.below(2) == 1, None
        if kind == 10:
            return self.below(1 << 20) * (1 << 30), None
        if kind == 11:
            return -self.below(1 << 22), None
        if kind == 12:
            return None, ("timeout", "crc", "exception:2", "not-available")[self.below(4)]
        if kind == 13 and not self.below(8):
            return "long %d " % self.below(1000) + "x\xe4" * (10 + self.below(110)), None
        return "state %d of a text" % self.below(1000), None


class Recorder(Nor):
    """Nor whose operations are kept: (address, bytes, what was known before it)."""

    def __init__(self, sectors):
        Nor.__init__(self, sectors)
        self.trace = []
        self.known = None

    def _operation(self, at, new):
        self.trace.append((at, bytes(new), self.known()))
        Nor._operation(self, at, new)


class Unit(World):
    """A World whose flash, boots and NVS are those of before."""

    def __init__(self, flash, boots=0, reserved=None, history=True):
        self.flash = flash
        self.first = 0
        self.sectors = flash.sectors
        self.points = [Point("p%d" % i, None, history or i != 1) for i in range(POINTS)]
        self.hal = Hal()
        if reserved is not None:
            self.hal.numbers["seq"] = reserved
        self.boots = boots
        self.names = 1
        self.old = {}
        self.model = {}  # number: (point, value, quality, Unix ms, whether the clock was known then)
        self.journal = None
        self.boot()

    def take(self, index, value, quality):
        journal = self.journal
        if journal.cloud or self.points[index].history:
            self.model[journal.next] = (index, value, quality, self.hal.unix or self.now, self.hal.unix is not None)
        self.put(index, value, quality)

    now = UNIX  # of the world

    def wait(self, ms):
        World.wait(self, ms)
        self.now += ms


class Record:
    """A run of n samples on a ring of so many sectors."""

    def __init__(self, seed, n, sectors, every=3):
        dice = Dice(seed)
        self.flash = flash = Recorder(sectors)
        self.reported = self.settled = 0
        self.unit = unit = Unit(flash, history=False)
        flash.known = self._known
        unit.set_clock(unit.now)
        for _ in range(n):
            kind = dice.below(12)
            unit.wait(0 if kind < 3 else dice.below(200000) if kind == 3 else 997 + dice.below(7))
            unit.take(dice.below(POINTS), *dice.value())
            self.reported = unit.journal.durable
            if not dice.below(every):
                unit.journal.flush()
                self.reported = unit.journal.durable
            self._sometimes(dice, unit)
        unit.journal.flush()
        self.reported = unit.journal.durable

    def _sometimes(self, dice, unit):
        journal = unit.journal
        if journal.ring.due() and not dice.below(4):
            journal.ring.prepare()
        if not dice.below(15) and journal.next % 3000 < 500:
            journal.ack(journal.durable - dice.below(400))
        if not dice.below(25):
            journal.settle()
            self.settled = journal.cursor
        if not dice.below(150):
            unit.now += dice.below(7200000) - 3600000
            unit.set_clock(unit.now)
        if not dice.below(120):
            journal.switch(not journal.cloud)
        if not dice.below(300):
            journal.flush()
            unit.boot(journal.cloud)
            if dice.below(2):
                for i in range(3):
                    unit.wait(1000)
                    unit.take(i, i, None)
            unit.set_clock(unit.now)
        self.reported = unit.journal.durable

    def _known(self):
        journal = self.unit.journal
        return (
            self.reported,
            journal.next,  # at most the sample that is being put
            self.settled,
            journal.cursor,
            journal.dropped,
            self.unit.hal.numbers.get("seq"),
            self.unit.boots,
        )


class Cuts:
    """Goes through the operations of a record: at each of them `check` takes what a cut within it leaves."""

    def __init__(self, record):
        self.record = record
        self.model = record.unit.model
        self.sectors = record.flash.sectors
        self.data = bytearray(b"\xff" * (self.sectors * SECTOR))  # before the operation
        self._firsts = {}  # place: number of its first sample
        self.images = 0

    def operations(self):
        """For each its bytes, 4096 for an erase; `data` is the flash before it."""
        for at, new, known in self.record.flash.trace:
            self._known = known
            self.at = at
            self.new = new
            place = at // SECTOR
            if len(new) == SECTOR:
                self._firsts.pop(place, None)
            yield len(new)
            self.data[at : at + len(new)] = new
            if at % SECTOR == 0 and len(new) < SECTOR:
                self._firsts[place] = struct.unpack_from("<Q", new, 6)[0]

    def torn(self, n, mask=0xFF, rest=None):
        """The flash after n bytes of the operation, of the last of them only the bits of the mask; rest: what became
        of the other bytes."""
        flash = Nor(self.sectors)
        flash.data[:] = self.data
        new = self.new[:n]
        at = self.at
        if n:
            last = at + n - 1
            flash.data[last] ^= (flash.data[last] ^ new[-1]) & mask
            flash.data[at:last] = new[:-1]
        if rest is not None:
            flash.data[at + n : at + len(self.new)] = rest[n : len(self.new)]
        return flash

    def check(self, flash, whole=False, grow=_GROWN, again=None):
        """Boot and compare; write `grow` samples more, boot and compare. again: a Dice: cut that, too, somewhere."""
        self.images += 1
        reported, following, settled, cursor, dropped, reserved, boots = self._known
        unit = Unit(flash, boots, reserved)
        journal = unit.journal
        # A new ring begins behind what NVS knows, a byte that a cut left may have been a sample.
        most = max(following + 300, 1 + journal.reserved)
        assert reported < journal.next <= most, (journal.next, reported, following)
        assert settled <= journal.cursor, "behind what was settled"
        first = min(self._firsts.values()) if self._firsts else 1
        assert journal.cursor <= max(cursor, first - 1) or journal.ring.serial < 0, (
            "ahead of what was acknowledged or dropped"
        )
        assert journal.dropped <= dropped + SECTOR, (journal.dropped, dropped)
        since = 0 if whole else max(0, reported - 300)
        self._compare(unit, following + 1, since, (first, reported))
        if not grow:
            return
        begun = journal.next
        between = (1, 0)
        if again is not None:
            unit, durable = self._cut_again(unit, again)
            between = (begun, durable)
        low = unit.journal.next
        self._write(unit, grow)
        end = unit.journal.durable
        # A torn header's sector is left out, which takes one more of the oldest.
        ring = unit.journal.ring
        oldest = ring.oldest
        while ring.anchor(oldest) is None:
            oldest += 1
        first = max(first, struct.unpack_from("<Q", ring.anchor(oldest))[0])
        for _ in range(2):
            self._compare(unit, begun, since, (first, reported), (max(first, between[0]), between[1]), (low, end))
            unit.boot()
            # Garbage may look like a frame, once in 200 sectors: then numbers are left out, and none comes twice.
            assert unit.journal.next in (end + 1, end + 1 + SECTOR)
            end = unit.journal.next - 1

    def _write(self, unit, n):
        unit.now += 5000000
        for i in range(n):
            if i == 5:
                unit.set_clock(unit.now)
            unit.wait(1000)
            unit.take(i % POINTS, i * 7919 % 1000 / 10, None)
            unit.journal.flush()
            if i == 3:
                unit.journal.ack(unit.journal.durable - 4)
                unit.journal.settle()

    def _cut_again(self, unit, dice):
        # Returns the unit after that, and the last number that was durable before.
        flash = unit.flash
        reserved = unit.hal.numbers.get("seq")
        flash.cut_after(dice.below(6), dice.below(12), dice.below(256))
        early = dice.below(3)
        try:
            # What a unit does first may be a mark, not a sample.
            if not early:
                unit.set_clock(unit.now)
            if early == 1:
                unit.journal.ack(unit.journal.durable)
                unit.journal.settle()
            self._write(unit, 8)
        except PowerCut:
            pass
        flash.power()
        model = unit.model
        durable = unit.journal.durable
        following = unit.journal.next
        unit = Unit(flash, unit.boots, unit.hal.numbers.get("seq", reserved))
        assert unit.journal.next > durable, "a number would come again"
        for number in range(unit.journal.next, following + 1):
            model.pop(number, None)
        unit.model = model
        return unit, durable

    def _compare(self, unit, begun, since, *required):
        # begun: from this number on it is the unit's own. required: pairs of numbers: all between them must be there.
        last = since
        found = set()
        for seq, index, value, quality, time in unit.all(False, since):
            assert seq > last, "%d after %d" % (seq, last)
            expected = unit.model.get(seq) or (self.model.get(seq) if seq < begun else None)
            assert expected, "number %d is nobody's" % seq
            assert (index, value) == expected[:2], (seq, index, value, expected)
            assert isinstance(value, bool) == isinstance(expected[1], bool), (seq, value, expected)
            assert quality == expected[2] or quality == "time" and not expected[4], (seq, quality, expected)
            if expected[4]:
                assert time == expected[3], (seq, time, expected)
            found.add(seq)
            last = seq
        for first, end in required:
            for seq in range(max(first, since + 1), end + 1):
                assert seq in found or seq not in unit.model and seq not in self.model, "%d of %d to %d is lost" % (
                    seq,
                    first,
                    end,
                )

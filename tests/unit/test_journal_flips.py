"""The journal on flash that has lost bits: what it still delivers is right, and it goes on."""

import binascii

from coupler.store.ring import _crc
from coupler.store.samples import Samples
from journal_cuts import UNIX, Dice, Unit
from nor import SECTOR, Nor

_LONGEST = 1 + 239  # bytes of a frame of samples that its CRC covers


def test_one_wrong_bit_in_a_frame_is_always_seen_and_two_in_a_frame_of_up_to_91_bytes():
    # A CRC is linear: what a wrong bit does to it is the same in every frame of that length. No bit may do nothing, no
    # two the same. In the longest frame 20 pairs of 1.9 million do.
    for n, alike in ((91, 0), (_LONGEST, 18)):
        zero = _plain(bytes(n))
        seen = {}
        for bit in range(8 * n):
            data = bytearray(n)
            data[bit >> 3] = 1 << (bit & 7)
            seen[_plain(data) ^ zero] = bit
        for bit in range(16):
            seen[1 << bit] = bit
        assert 0 not in seen and 0xFFFF not in seen  # 0xFFFF is written as 0
        assert len(seen) == 8 * n + 16 - alike, (n, len(seen))


def _plain(data):
    crc = binascii.crc32(data, 5)
    crc = (crc ^ crc >> 16) & 0xFFFF
    assert _crc(data, 5) == crc % 0xFFFF
    return crc


def _full():
    unit = Unit(Nor(4))
    dice = Dice(3)
    unit.set_clock(UNIX)
    while unit.journal.ring.serial < 5 or unit.journal.ring.at < 2500:
        unit.wait(1000 + dice.below(5))
        unit.take(dice.below(5), *dice.value())
        if dice.below(2):
            unit.journal.flush()
        if not dice.below(100):
            unit.journal.flush()
            unit.boot()
            unit.set_clock(unit.now)
    unit.journal.flush()
    return unit


def _check(flash, unit, there, places):
    reads = [0]
    read = flash.read

    def counting(at, buf):
        reads[0] += 1
        read(at, buf)

    flash.read = counting
    other = Unit(flash, unit.boots, unit.hal.numbers["seq"])
    assert reads[0] < 1500, reads[0]
    reader = other.reader(False)
    reader.seek(0)
    found = {}
    last = first = 0
    while True:
        sample = reader.read()
        if sample is None:
            break
        seq, point, value, quality, time = sample
        assert seq > last, (seq, last)
        assert (other.points.index(point), value, quality, time) == unit.model[seq][:4], (seq, sample)
        found[seq] = True
        first = first or seq
        last = seq
    assert other.journal.next > unit.journal.durable, "a number would come again"
    lost = [seq for seq in there if seq not in found]
    for seq in lost:
        assert there[seq] in places, (seq, there[seq], places)
    assert reader.missing >= len([seq for seq in lost if first < seq < last])
    begun = other.journal.next
    for i in range(20):
        other.put(0, i)
        other.journal.flush()
    assert [sample[2] for sample in other.all(True, begun - 1)] == list(range(20))
    other.boot()
    assert [sample[2] for sample in other.all(True, begun - 1)] == list(range(20))
    return len(lost)


def _places(unit):
    # number: the sector it lies in
    reader = unit.reader(False)
    reader.seek(0)
    there = {}
    while True:
        sample = reader.read()
        if sample is None:
            return there
        there[sample[0]] = reader._frames.serial % 4


def _damaged(unit, dice, bursts):
    flash = Nor(4)
    flash.data[:] = unit.flash.data
    places = []
    for _ in range(1 + dice.below(3)):
        at = dice.below(len(flash.data))
        if not dice.below(4):
            at = at // SECTOR * SECTOR + dice.below(60)  # a header
        if bursts:
            for i in range(at, min(len(flash.data), at + 1 + dice.below(40))):
                flash.data[i] = dice.below(256)
                places.append(i // SECTOR)
        else:
            flash.flip(at, dice.below(8))
            places.append(at // SECTOR)
    return flash, places


def test_flipped_bits_cost_at_most_their_sector():
    unit = _full()
    there = _places(unit)
    dice = Dice(5)
    lost = 0
    for i in range(40):
        flash, places = _damaged(unit, dice, i % 2)
        lost += _check(flash, unit, there, places)
    assert lost


def test_a_damaged_header_of_the_last_sector_shows_nothing_wrong():
    unit = _full()
    unit.flash.flip(unit.journal.ring.serial % 4 * SECTOR + 20, 3)
    unit.take(0, 1, None)
    unit.journal.flush()
    for _ in range(2):
        last = 0
        for sample in unit.all(False):
            assert sample[1:] == unit.model[sample[0]][:4], sample
            assert sample[0] > last
            last = sample[0]
        unit.boot()
        unit.set_clock(unit.now)
        unit.take(0, "after", None)
        unit.journal.flush()
        assert unit.all()[-1][2] == "after"


def test_decoding_anything_ends_and_raises_nothing_else():
    dice = Dice(9)
    known = Samples(5)
    buf = bytearray(256)
    for i in range(1500):
        for j in range(len(buf)):
            buf[j] = dice.below(256) if i % 3 else 0xFF if j % (1 + i % 7) else 0xC0 + dice.below(64)
        known.reset()
        at = 0
        while at < 240:
            try:
                end = known.decode(buf, at)
            except (ValueError, IndexError):
                break
            assert at < end <= len(buf)
            at = end

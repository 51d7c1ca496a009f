"""The journal when power fails: a part of the cuts here, on every interpreter; all of them in tests/host."""

from journal_cuts import UNIX, Cuts, Dice, Record, Unit
from journal_world import World
from nor import SECTOR, Nor, PowerCut


def _tail(world, index=0):
    # The last frame is torn.
    world.wait(1000)
    world.put(index, 12345)
    world.flash.cut_after(0, 3)
    try:
        world.journal.flush()
    except PowerCut:
        pass
    world.flash.power()
    world.boot()


def _filled(sectors=8, n=20):
    world = World(Nor(sectors))
    world.set_clock(UNIX)
    for i in range(n):
        world.wait(1000)
        world.put(i % 3, i)
        world.journal.flush()
    return world


def test_a_cut_anywhere_costs_nothing_that_was_durable():
    record = Record(8, 2600, 3, 5)
    assert record.unit.journal.ring.serial >= 5 and record.unit.journal.dropped
    cuts = Cuts(record)
    dice = Dice(1)
    i = 0
    for size in cuts.operations():
        i += 1
        if i % 29 == 0 or size > 250 or cuts.at % SECTOR == 0:
            n = dice.below(size + 1)
            whole = i % 5 == 0
            cuts.check(cuts.torn(n, dice.below(256)), whole, 20, dice if i % 2 else None)
            if size == SECTOR:
                rest = bytes([dice.below(256) for _ in range(256)]) * 16
                cuts.check(cuts.torn(n, 0xFF, rest), True, 200)
    assert cuts.images > 40, cuts.images


def test_a_mark_behind_a_torn_frame_hides_no_sample():
    for mark in ("cursor", "clock"):
        world = _filled()
        _tail(world)
        if mark == "cursor":
            world.journal.ack(5)
            world.journal.settle()
        else:
            world.set_clock(UNIX)
        for i in range(5):
            world.put(i % 3, 100 + i)
            world.journal.flush()
        for _ in range(2):
            assert [sample[2] for sample in world.all()] == list(range(20)) + list(range(100, 105)), mark
            world.boot()
        assert world.journal.cursor == (5 if mark == "cursor" else 0)


def test_a_start_uses_up_no_numbers():
    world = _filled()
    _tail(world)
    world.put(0, 1)
    world.journal.flush()
    following = world.journal.next
    for _ in range(5):
        world.boot()
        assert world.journal.next == following


def test_an_anchor_that_the_flash_refuses_is_no_anchor():
    world = _filled()
    world.boot()
    program = world.flash.program
    refused = []

    def refuse(at, buf):
        if not refused:
            refused.append(at)
            raise OSError(5)
        program(at, buf)

    world.flash.program = refuse
    for i in range(5):
        world.put(i % 3, 100 + i)
        world.journal.flush()
    durable = world.journal.durable
    for _ in range(2):
        found = world.all()
        assert [sample[2] for sample in found] == list(range(20)) + list(range(100, 105))
        assert found[-1][0] == durable
        world.boot()


def test_what_lies_behind_a_refused_frame_is_read_from_old_sectors_too():
    world = _filled()
    program = world.flash.program

    def refuse(at, buf):
        raise OSError(5)

    world.flash.program = refuse
    world.put(0, 1000)
    world.journal.flush()
    world.flash.program = program
    for i in range(3000):
        world.put(i % 3, i)
        world.journal.flush()
    assert world.journal.ring.serial > 1
    assert [sample[2] for sample in world.all()] == list(range(20)) + list(range(3000))


def test_a_refusing_flash_raises_nowhere():
    world = _filled(4)

    def refuse(*args):
        raise OSError(5)

    world.flash.program = world.flash.erase = refuse
    for i in range(2000):
        world.wait(1000)
        world.put(i % 3, i * 7919 % 100000)
        if i % 3:
            world.journal.flush()
        if i % 100 == 0:
            world.set_clock(UNIX + i)
        world.journal.ack(i)
        world.journal.settle()
    assert world.journal.failed > 1900


def test_wear_stays_even_through_cuts():
    for cut in (1, 0):
        world = World(Nor(5), 1)
        dice = Dice(cut)
        headers = 0
        for i in range(700):
            # Near a change of sectors nearly every time: there are the erases and the headers.
            ring = world.journal.ring
            if ring.at > SECTOR - 600:
                world.flash.cut_after(dice.below(5), dice.below(53) if cut else 0)
                headers += 1
            try:
                for _ in range(12):
                    world.put(0, "%d is a text" % dice.below(1000))
                    world.journal.flush()
            except PowerCut:
                world.flash.power()
                world.boot()
            world.flash.power()
        erases = world.flash.erases
        assert min(erases) > 2 and headers > 40, (erases, headers)
        assert max(erases) - min(erases) <= 1, erases


def test_what_a_cut_during_an_erase_had_not_reached_the_cursor_counts_as_dropped():
    # The sector that was given up is gone, and the cursor that went with it was in memory only.
    record = Unit(Nor(4))
    record.set_clock(UNIX)
    while record.journal.ring.serial < 3:
        record.take(0, "%d is a text" % record.journal.next, None)
        record.journal.flush()
    first = record.all(True)[0][0]
    record.journal.ring.prepare()
    dropped = record.journal.dropped
    assert first == 1 or first > 65536
    assert dropped
    record.boot()
    assert record.journal.dropped == dropped
    assert record.journal.waiting() == len(record.all())

from array import array

from check import raises
from journal_world import World
from nor import Nor

UNIX = 1764000000000


def filled(n=100, sectors=16, points=3, step=1000):
    world = World(Nor(sectors), points)
    world.set_clock(UNIX)
    for i in range(n):
        world.wait(step)
        world.put(i % points, i)
        world.journal.flush()
    return world


def peek(reader, n):
    found = reader.peek(n)
    while reader.more and len(found) < n:
        found = reader.peek(n)
    return found


def test_samples_come_back_as_they_went_in_with_their_times():
    world = World(Nor(8))
    world.set_clock(UNIX)
    expected = []
    for i, value in enumerate((5, 5.5, 231.4, -0.125, True, False, "text", 1 << 40, -7, 1e30, 3.3e-9, "x" * 240, 0)):
        world.wait(1000 + i)
        world.put(i % 3, value)
        expected.append((i + 1, i % 3, value, None, world.hal.unix))
        world.put(2, None, "exception:%d" % i)
        expected.append((i + 1, 2, None, "exception:%d" % i, world.hal.unix))
    world.journal.flush()
    found = world.all()
    assert [sample[1:] for sample in found] == [sample[1:] for sample in expected]
    assert [sample[0] for sample in found] == list(range(1, len(expected) + 1))
    world.boot()
    assert world.all() == found, "a restart changes nothing"


def test_the_floats_of_registers_are_exact():
    world = World(Nor(8), 1)
    cell = array("f", [0.0])
    values = []
    for i in range(500):
        cell[0] = 230 + (i * 7919 % 1000) / 137
        values.append(cell[0])
        values.append((i * 31 - 4000) / 10)
        values.append(i / 3)
    for value in values:
        world.put(0, value)
    world.journal.flush()
    found = [sample[2] for sample in world.all()]
    assert len(found) == len(values)
    for sent, got in zip(values, found):
        assert sent == got, (repr(sent), repr(got))


def test_what_is_not_flushed_is_not_seen():
    world = World(Nor(8))
    world.put(0, 1)
    assert world.all() == [] and not world.journal.waiting()
    woken = []
    world.journal.on_flush = lambda: woken.append(world.journal.durable)
    assert world.journal.flush() and not world.journal.flush()
    assert woken == [1] and len(world.all()) == 1


def test_numbers_go_on_after_every_restart():
    world = filled(50)
    for _ in range(30):
        world.boot()
        world.put(0, 1.5)
        world.journal.flush()
        world.put(0, 2.5)  # never durable
    numbers = [sample[0] for sample in world.all()]
    assert numbers == list(range(1, 81))


def test_a_full_ring_drops_the_oldest_counts_and_tells():
    world = filled(0, sectors=4)
    told = []
    world.journal.on_drop = told.append
    for i in range(20000):
        world.wait(1000)
        world.put(i % 3, i * 7 % 1000)
        world.journal.flush()
    journal = world.journal
    assert journal.dropped == sum(told) > 0
    found = world.all()
    assert found[-1][0] == 20000 and found[0][0] == journal.dropped + 1
    assert [sample[0] for sample in found] == list(range(journal.dropped + 1, 20001))
    assert journal.waiting() == len(found)
    erases = world.flash.erases
    assert max(erases) - min(erases) <= 1 and max(erases) > 2
    dropped = journal.dropped
    world.boot()
    assert world.journal.dropped == dropped and world.all() == found


def test_what_was_acknowledged_is_not_dropped():
    world = filled(0, sectors=4)
    for i in range(20000):
        world.put(0, i * 7 % 1000)
        world.journal.flush()
        world.journal.ack(world.journal.durable)
    assert world.journal.dropped == 0


def test_the_cursor_survives_and_is_never_ahead():
    world = filled(300)
    journal = world.journal
    journal.ack(10)
    world.boot()
    assert world.journal.cursor == 0, "not yet written down"
    world.journal.ack(10)
    world.journal.settle()
    world.journal.ack(9)
    world.boot()
    assert world.journal.cursor == 10
    world.journal.ack(290)
    world.put(0, 1)
    world.journal.flush()  # writes it with the samples, since it went far
    world.boot()
    assert world.journal.cursor == 290
    world.journal.ack(10000)
    assert world.journal.cursor == 301, "nobody can have what was never durable"


def test_a_reader_goes_on_from_the_cursor_and_can_go_back():
    world = filled(5000)
    world.journal.ack(4321)
    reader = world.reader()
    assert reader.peek(3) == [] and reader.more, "what it passes over is passed over in pieces"
    assert [sample[0] for sample in peek(reader, 3)] == [4322, 4323, 4324]
    reader.skip(2)
    assert [sample[0] for sample in reader.peek(2)] == [4324, 4325]
    reader.seek(17)
    assert reader.read()[0] == 18
    reader.seek(5000)
    assert peek(reader, 5) == []
    world.put(1, 7)
    assert peek(reader, 5) == []
    world.journal.flush()
    assert [(sample[0], sample[2]) for sample in peek(reader, 5)] == [(5001, 7)]


def test_a_reader_that_is_overtaken_goes_on_with_the_oldest_and_counts():
    world = filled(10, sectors=4)
    reader = world.reader()
    assert reader.read()[0] == 1
    for i in range(20000):
        world.put(0, i * 7 % 1000)
        world.journal.flush()
    rest = []
    while True:
        sample = reader.read()
        if sample is None:
            break
        rest.append(sample[0])
    assert rest[-1] == 20010
    assert reader.missing == 20010 - 1 - len(rest)


def test_samples_from_before_the_clock_was_known_get_their_time_later():
    world = World(Nor(8))
    world.wait(5000)
    world.put(0, 1)
    world.journal.flush()
    assert [sample[4] for sample in world.all()] == [None]
    world.wait(60000)
    world.set_clock(UNIX)
    assert [sample[3:] for sample in world.all()] == [(None, UNIX - 60000)]
    world.wait(1000)
    world.put(0, 2)
    world.journal.flush()
    world.wait(10)
    world.set_clock(UNIX - 3600000)  # the clock is set back
    world.wait(5)
    world.put(0, 3)
    world.journal.flush()
    expected = [UNIX - 60000, UNIX + 1000, UNIX - 3600000 + 5]
    assert [sample[4] for sample in world.all()] == expected
    world.boot()
    assert [sample[4] for sample in world.all()] == expected


def test_samples_that_were_looked_at_before_the_clock_was_known_have_their_time_after():
    world = filled(3)
    world.boot()
    reader = world.reader()
    for i in range(3):
        world.wait(1000)
        world.put(0, i)
    world.journal.flush()
    assert [sample[4] is None for sample in reader.peek(9)] == [False] * 3 + [True] * 3
    reader.skip(1)
    world.set_clock(UNIX + 60000)
    assert [sample[4] for sample in reader.peek(9)][2:] == [UNIX + 60000 - 2000, UNIX + 59000, UNIX + 60000]
    assert [sample[0] for sample in reader.peek(9)] == [2, 3, 4, 5, 6]


def test_a_clock_that_becomes_known_many_sectors_later_dates_all():
    world = World(Nor(32))
    for i in range(4000):
        world.wait(1000)
        world.put(i % 3, i * 7919 % 100000)
        if i % 3 == 2:
            world.journal.flush()
    assert world.journal.ring.serial > 3
    world.set_clock(UNIX)
    world.boot()
    world.put(0, 1)
    for i in range(4000):
        world.wait(1000)
        world.put(i % 3, i * 7919 % 100000)
    world.set_clock(UNIX + 20000000)
    world.journal.flush()
    found = world.all()
    assert [(sample[4], sample[3]) for sample in found[:4000]] == [(UNIX - 1000 * i, None) for i in range(3999, -1, -1)]
    assert [sample[4] for sample in found[4001:]] == [UNIX + 20000000 - 1000 * i for i in range(3999, -1, -1)]


def test_time_of_a_start_that_never_knew_it_is_estimated_and_says_so():
    world = World(Nor(8))
    world.set_clock(UNIX)
    world.put(0, 1)
    world.journal.flush()
    world.boot()
    world.wait(1000)
    world.put(0, 2)
    world.put(1, None, "timeout")
    world.wait(7000)
    world.put(0, 3)
    world.journal.flush()
    world.boot()
    assert [sample[4] for sample in world.all()] == [UNIX, None, None, None]
    world.wait(2000)
    world.set_clock(UNIX + 100000)
    # As if the power had been off for no time.
    later = UNIX + 100000 - 2000
    assert [sample[2:] for sample in world.all()] == [
        (1, None, UNIX),
        (2, "time", later - 7000),
        (None, "timeout", later - 7000),
        (3, "time", later),
    ]


def test_ticks_that_wrap_and_long_silence_do_not_bend_time():
    world = World(Nor(8))
    world.set_clock(UNIX)
    expected = []
    for days in (1, 3, 5, 6, 2):
        for _ in range(4 * days):
            world.wait(6 * 3600000)
            world.journal.settle()
        world.put(0, days)
        world.journal.flush()
        expected.append(world.hal.unix)
    assert [sample[4] for sample in world.all()] == expected


def test_without_the_cloud_only_history_is_kept_and_never_sent():
    world = World(Nor(8))
    world.points[1].history = False
    world.set_clock(UNIX)
    journal = world.journal
    for i in range(3):
        world.put(i, 10 + i)
    journal.switch(False)
    for i in range(3):
        world.put(i, 20 + i)
    journal.switch(True)
    for i in range(3):
        world.put(i, 30 + i)
    journal.flush()
    for _ in range(2):
        assert [sample[2] for sample in world.all()] == [10, 11, 12, 30, 31, 32]
        assert [sample[2] for sample in world.all(cloud=False)] == [10, 12, 20, 22, 30, 32]
        world.boot()
    world.boot(cloud=False)
    world.put(0, 40)
    world.put(1, 41)
    world.journal.flush()
    assert [sample[2] for sample in world.all(cloud=False)] == [10, 12, 20, 22, 30, 32, 40]
    assert [sample[2] for sample in world.all()] == [10, 11, 12, 30, 31, 32]


def test_samples_of_a_former_configuration_keep_their_names():
    world = filled(10)
    old = world.points
    world.old[1] = old
    world.names = 2
    world.points = old[:1]
    world.boot()
    world.put(0, 99)
    world.journal.flush()
    reader = world.reader()
    found = reader.peek(20)
    assert [sample[1] for sample in found] == [old[i % 3] for i in range(10)] + old[:1]
    world.old.clear()
    reader = world.reader()
    reader.seek(0)
    assert [sample[2] for sample in reader.peek(20)] == [99] and reader.missing == 10


def test_an_erased_journal_goes_on_behind_what_nvs_knows():
    world = filled(10)
    world.flash = Nor(16)
    world.boot()
    world.put(0, 1)
    world.journal.flush()
    assert world.all()[0][0] > 10


def test_recovery_reads_little():
    world = World(Nor(64), 10)
    world.put(0, 0)
    world.set_clock(UNIX)
    while world.journal.ring.serial < 80:
        world.put(world.journal.next % 10, world.journal.next * 7919 % 100000)
        world.journal.flush()
    flash = world.flash
    reads = [0]
    read = flash.read

    def counting(at, buf):
        reads[0] += 1
        read(at, buf)

    flash.read = counting
    end = world.journal.next
    journal = world.boot()
    assert journal.next == end
    frames = 4096 // 5
    assert reads[0] < 40 + 2 * frames, reads[0]
    before = reads[0]
    reader = world.reader()
    reader.seek(end - 10000)
    assert reader.read()[0] == end - 9999
    assert reads[0] - before < 40 + frames


def test_a_flash_that_refuses_costs_samples_but_not_the_unit():
    world = filled(100)
    program = world.flash.program

    def refuse(at, buf):
        raise OSError(5)

    world.flash.program = refuse
    for i in range(10):
        world.put(0, 1000 + i)
        world.journal.flush()
    assert world.journal.failed == 10
    world.flash.program = program
    world.wait(61000)
    for i in range(10):
        world.put(1, 2000 + i)
        world.journal.flush()
    values = [sample[2] for sample in world.all()]
    assert values == list(range(100)) + list(range(2000, 2010))
    world.boot()
    found = [sample[2] for sample in world.all()]
    assert len(found) == len(values)
    for sent, got in zip(values, found):
        assert sent == got, (repr(sent), repr(got))


def test_a_sector_that_is_dead_is_gone_round():
    world = World(Nor(8), 1)
    world.set_clock(UNIX)
    program = world.flash.program

    def refuse(at, buf):
        if at // 4096 == 3:
            raise OSError(5)
        program(at, buf)

    world.flash.program = refuse
    for i in range(30000):
        world.wait(1000)
        world.put(0, i * 7919 % 100000)
        world.journal.flush()
    assert world.journal.failed < 10
    found = [sample[0] for sample in world.all()]
    assert found[-1] == 30000 and len(found) > 3000
    world.boot()
    assert [sample[0] for sample in world.all()] == found and world.journal.next == 30001


def test_numbers_are_never_used_twice_when_the_newest_sector_is_lost():
    world = filled(5000)
    ring = world.journal.ring
    world.flash.erase(ring.serial % ring.count)
    world.boot()
    assert world.journal.next > 5000


def test_long_times_without_the_cloud_are_passed_over_quickly():
    world = World(Nor(64))
    world.set_clock(UNIX)
    world.put(0, 1)
    for switched in range(3):
        world.journal.switch(False)
        until = world.journal.ring.serial + 15
        while world.journal.ring.serial < until:
            world.put(world.journal.next % 3, world.journal.next * 7919 % 1000)
        world.journal.switch(True)
        world.put(0, 10 + switched)
        world.journal.flush()
    reads = [0]
    read = world.flash.read

    def counting(at, buf):
        reads[0] += 1
        read(at, buf)

    world.flash.read = counting
    reader = world.reader()
    calls = 1
    found = reader.peek(10)
    while reader.more:
        found = reader.peek(10)
        calls += 1
    assert [sample[2] for sample in found] == [1, 10, 11, 12]
    assert reads[0] < 400 and calls < 400, (reads[0], calls)
    assert world.journal.dropped == 0


def test_names_that_cannot_be_read_now_are_asked_for_again():
    world = filled(10)
    old = world.points
    world.points = old[:1]
    world.names = 2
    world.boot()
    world.put(0, 99)
    world.journal.flush()
    asked = []

    def names(number):
        asked.append(number)
        if len(asked) < 3:
            raise MemoryError
        return old

    from coupler.store.reader import Reader

    reader = Reader(world.journal, names)
    for _ in range(2):
        raises(MemoryError, reader.peek, 20)
    assert [sample[2] for sample in peek(reader, 20)] == list(range(10)) + [99]

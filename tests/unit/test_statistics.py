"""What samples come to in hours and days: by hand, and against a model, through restarts, clocks and power cuts."""

from coupler.store import cells as cells_module
from coupler.store import entries
from coupler.store.cells import DAY, HOUR, Cells
from history_world import UNIX, Unit, points
from nor import PowerCut

MINUTE = 60000
P0 = "field/unit/p0"
P1 = "field/unit/p1"


def started(**options):
    unit = Unit(**options)
    unit.set_clock(UNIX)
    return unit


def close(a, b, by=1e-6):
    return abs(a - b) <= by


def test_a_value_weighs_as_long_as_it_holds():
    unit = started()
    for minutes, value in ((0, 10), (6, 20), (30, 40), (12, 10)):
        unit.sample(minutes * MINUTE, 0, value)
    unit.sample(12 * MINUTE, 0, 99)  # exactly at the next hour
    unit.settle()
    rows = unit.hours(P0)
    # 6 min 10, 30 min 20, 12 min 40, 12 min 10
    time, low, high, mean, count, first, last, duration = rows[0]
    assert (time, low, high, count, first, last, duration) == (UNIX, 10, 40, 4, 10, 10, HOUR)
    assert close(mean, (6 * 10 + 30 * 20 + 12 * 40 + 12 * 10) / 60, 30e-6)
    assert rows[1] == (UNIX + HOUR, 99, 99, 99, 1, 99, 99, 0) and len(rows) == 2
    unit.check()


def test_what_held_at_the_full_hour_holds_on():
    unit = started()
    unit.sample(50 * MINUTE, 0, 5)
    unit.sample(40 * MINUTE, 0, 8)
    unit.sample(15 * MINUTE, 1, 0)
    unit.settle()
    assert unit.hours(P0) == [
        (UNIX, 5, 5, 5, 1, 5, 5, 10 * MINUTE),
        (UNIX + HOUR, 5, 8, unit.hours(P0)[1][3], 1, 5, 8, 45 * MINUTE),
    ]
    assert close(unit.hours(P0)[1][3], (30 * 5 + 15 * 8) / 45)
    unit.check()


def test_an_hour_without_samples_has_what_held():
    unit = started()
    unit.sample(MINUTE, 0, 7.5)
    unit.sample(3 * HOUR, 0, 8)
    unit.settle()
    assert [row[1:] for row in unit.hours(P0)] == [
        (7.5, 7.5, 7.5, 1, 7.5, 7.5, 59 * MINUTE),
        (7.5, 7.5, 7.5, 0, 7.5, 7.5, HOUR),
        (7.5, 7.5, 7.5, 0, 7.5, 7.5, HOUR),
        (7.5, 8, 7.5, 1, 7.5, 8, MINUTE),
    ]
    unit.check()


def test_a_bad_quality_ends_what_held_and_is_no_sample():
    unit = started()
    unit.sample(0, 0, 10)
    unit.sample(10 * MINUTE, 0, None, "timeout")
    unit.sample(20 * MINUTE, 0, None, "exception:2")
    unit.sample(10 * MINUTE, 0, 30)
    unit.sample(20 * MINUTE, 1, 1)
    unit.sample(10 * MINUTE, 0, None, "timeout")
    unit.sample(3 * HOUR, 0, None, "timeout")
    unit.sample(MINUTE, 0, 50)
    unit.settle()
    rows = unit.hours(P0)
    assert [row[0] for row in rows] == [UNIX, UNIX + HOUR, UNIX + 4 * HOUR]
    assert rows[0][1:3] + rows[0][4:] == (10, 30, 2, 10, 30, 30 * MINUTE)
    assert close(rows[0][3], (10 * 10 + 20 * 30) / 30, 20e-6)
    assert rows[1][1:] == (30, 30, 30, 0, 30, 30, 10 * MINUTE)
    assert rows[2][1:] == (50, 50, 50, 1, 50, 50, 0)
    unit.check()


def test_switches_texts_and_great_numbers():
    unit = started(points=4)
    great = 18446744073709551000
    for i in range(30):
        unit.sample(5 * MINUTE, 0, i % 3 == 0)
        unit.sample(0, 1, "text %d" % i)
        unit.sample(0, 2, great + 5 * i)
        unit.sample(0, 3, 1e30 if i % 2 else -2.5e-7)
    unit.settle()
    rows = unit.hours(P0)
    assert [row[4] for row in rows] == [11, 12, 7]
    assert rows[1][1:3] == (False, True) and close(rows[1][3], 1 / 3)
    assert unit.hours(P1)[1] == (UNIX + HOUR, None, None, None, 12, None, None, 0)
    # The 11 samples of the first hour are the numbers 0 to 10; number 10 holds on.
    row = unit.hours("field/unit/p2")[1]
    assert row[1:3] == (great + 55, great + 110) and row[5:7] == (great + 55, great + 110), row
    for _ in range(2):
        unit.check(tolerance=1)  # the mean of numbers around 2 ** 64 has no more digits
        unit.boot()
        unit.settle()


def test_every_place_for_a_restart_within_the_hour():
    def play(restart):
        unit = started()
        for i in range(40):
            if i == restart:
                unit.boot()
                unit.set_clock(UNIX + 4 * i * MINUTE)
            unit.sample(4 * MINUTE, i % 2, i * 7 % 11 if i % 5 else None, None if i % 5 else "timeout")
            if i % 3:
                unit.settle()
        unit.settle()
        unit.check()
        return unit

    for restart in range(40):
        unit = play(restart)
        before = [unit.hours(P0), unit.hours(P1), unit.days(P0)]
        unit.boot()
        unit.settle()
        assert [unit.hours(P0), unit.hours(P1), unit.days(P0)] == before, restart


def test_nothing_holds_across_a_power_failure():
    unit = started()
    unit.sample(0, 0, 10)
    unit.sample(20 * MINUTE, 1, 1)
    unit.settle()
    unit.boot()
    unit.set_clock(UNIX + 30 * MINUTE)
    unit.sample(10 * MINUTE, 1, 1)
    unit.sample(10 * MINUTE, 0, 20)
    unit.sample(5 * MINUTE, 1, 1)
    unit.settle()
    ((_, low, high, mean, count, first, last, duration),) = unit.hours(P0)
    assert (low, high, count, first, last, duration) == (10, 20, 2, 10, 20, 25 * MINUTE)
    assert close(mean, (20 * 10 + 5 * 20) / 25)
    unit.check()


def test_a_clock_that_is_set_never_makes_a_value_wrong():
    for step in (1, -1, 30 * MINUTE, -30 * MINUTE, 5 * HOUR, -5 * HOUR, 30 * DAY, -30 * DAY, -4000, 59 * MINUTE):
        unit = started()
        for i in range(100):
            unit.sample(3 * MINUTE, i % 2, i * 13 % 31)
            if i in (20, 60):
                unit.set_clock(unit.hal.unix + step)
            if i == 80:
                unit.set_clock(unit.hal.unix - 2 * step)
            if i % 7 == 0:
                unit.settle()
        unit.settle()
        unit.check()
        total = sum([row[7] for row in unit.hours(P0)])
        assert total == 99 * 3 * MINUTE, (step, total)
        assert sum([row[4] for row in unit.hours(P0)]) == 50
        before = unit.hours(P0), unit.days(P0), unit.hours(P1)
        unit.boot()
        unit.settle()
        assert (unit.hours(P0), unit.days(P0), unit.hours(P1)) == before, step


def test_without_a_clock_it_waits_and_loses_nothing():
    unit = Unit()
    for i in range(200):
        unit.sample(MINUTE, i % 2, i)
        unit.settle()
    assert unit.hours(P0) == [] and unit.days(P0) == []
    unit.set_clock(UNIX)
    unit.settle()
    assert [row[0] for row in unit.hours(P0)] == [UNIX - 4 * HOUR, UNIX - 3 * HOUR, UNIX - 2 * HOUR, UNIX - HOUR]
    unit.check()
    # Nor where the power fails before the clock is known: the times are estimated, the samples are good.
    unit.boot()
    for i in range(50):
        unit.sample(MINUTE, i % 2, i)
        unit.settle()
    unit.boot()
    unit.settle()
    unit.set_clock(UNIX + 10 * HOUR)
    unit.settle()
    assert sum([row[4] for row in unit.hours(P0)]) == 125
    unit.check()


def test_another_configuration_goes_on_under_the_points_names():
    unit = started(points=3)
    for i in range(20):
        unit.sample(2 * MINUTE, i % 3, i)
    unit.settle()
    before = unit.hours(P1)
    unit.configure(points("new", "p1"))
    unit.set_clock(UNIX + 45 * MINUTE)
    unit.settle()
    assert unit.hours(P1) == before
    for i in range(20):
        unit.sample(2 * MINUTE, i % 2, 100 + i)
    unit.settle()
    unit.check()
    first, second = unit.hours(P1)
    assert first[1] == 1 and first[2] == 105 and first[5] == 1
    assert second[0] == UNIX + HOUR
    assert unit.days(P1)[0][4] == first[4] + second[4]
    assert unit.hours(P0) and not unit.hours(P0, UNIX + HOUR)
    assert unit.hours("field/unit/new")
    # Names that are lost take their hours with them, no more.
    unit.old.clear()
    unit.boot()
    unit.set_clock(UNIX + 2 * HOUR)
    unit.sample(0, 1, 7)
    unit.settle()
    rows = unit.hours(P1)
    assert [row[0] for row in rows] == [UNIX, UNIX + HOUR, UNIX + 2 * HOUR] and rows[0][5] == 101


def test_points_without_history_have_none():
    unit = started(points=3)
    unit.points[1].history = False
    for i in range(100):
        unit.sample(MINUTE, i % 3, i)
    unit.settle()
    unit.check()
    assert unit.hours(P1) == [] and unit.raw(P1) == [] and len(unit.hours("field/unit/p2")) == 2


def test_the_journal_may_lap_within_the_hour():
    unit = started(sectors=4)
    n = 20000
    for i in range(n):
        unit.wait(100)
        unit.put(i % 2, i * 7919 % 100000)
        if i % 10 == 9:
            unit.journal.flush()
        if i % 200 == 199:
            unit.settle(200)
    unit.settle()
    unit.boot()
    unit.settle()
    assert unit.journal.ring.oldest > 8, "several laps"
    assert sum([row[4] for row in unit.hours(P0)]) == n // 2
    assert sum([row[7] for row in unit.hours(P0)]) == (n - 1) * 100
    assert [row[4] for row in unit.days(P0)] == [n // 2]


def test_many_days_fit_and_the_oldest_leave():
    unit = started(points=3, hours=4, days=4, sectors=4)
    days = 250
    for i in range(days * 24):
        unit.sample(HOUR // 2, 0, i)
        unit.sample(0, 1, i % 24 + 0.5)
        unit.sample(HOUR // 2, 2, 231.4 + i % 10 / 10)
        unit.settle()
        for ring in unit.history.hours.ring, unit.history.days.ring:
            if ring.due():
                ring.prepare()
        if i % 1000 == 77:
            unit.boot()
            unit.set_clock(UNIX + (i + 1) * HOUR)
    rows = unit.days(P1)
    assert rows[-1][0] == (UNIX + days * DAY) // DAY * DAY
    times = [row[0] for row in rows]
    assert times == [times[0] + i * DAY for i in range(len(times))] and len(times) > 100, len(times)
    assert all([row[1:3] == (0.5, 23.5) and row[4] == 24 for row in rows[1:-1]])
    hours = unit.hours(P0)
    times = [row[0] for row in hours]
    assert times == [times[0] + i * HOUR for i in range(len(times))] and len(times) > 100, len(times)
    assert unit.history.figures() == {
        "hours": unit.history.hours.number,
        "days": unit.history.days.number,
        "behind": 0,
        "failed": 0,
    }
    wear = unit.flash.erases
    for first, count in ((0, 4), (4, 4)):
        assert max(wear[first : first + count]) - min(wear[first : first + count]) <= 1
    for _ in range(2):
        unit.boot()
        unit.settle()
        assert unit.days(P1) == rows and unit.hours(P0) == hours


def test_a_flash_that_refuses_costs_no_hour():
    unit = started()
    program = unit.flash.program
    refused = []

    def refuse(at, buf):
        if at < 16 * 4096 and len(refused) % 3 < 2:
            refused.append(at)
            raise OSError(5)
        refused.append(at)
        program(at, buf)

    for i in range(200):
        unit.flash.program = program
        unit.sample(15 * MINUTE, i % 2, i)
        unit.flash.program = refuse
        for _ in range(5):
            unit.settle()
    unit.flash.program = program
    unit.settle()
    assert unit.history.failed > 10
    unit.check()
    unit.boot()
    unit.settle()
    unit.check()


def test_a_flipped_bit_costs_its_group_and_at_its_end_the_next_one():
    unit = started(points=40, hours=4)
    for i in range(2400):
        unit.sample(MINUTE, i % 40, 2300 + i % 7)
    unit.settle()
    rows = unit.hours(P0)
    ring = unit.history.hours.ring
    assert ring.serial - ring.oldest > 1
    lost = []
    for at in range(100, 4090, 57):
        at += (ring.oldest + 1) % ring.count * 4096
        unit.flash.flip(at, 3)
        left = unit.hours(P0)
        lost.append(len(rows) - len(left))
        assert all([row in rows for row in left])
        unit.flash.flip(at, 3)
    assert unit.hours(P0) == rows
    assert set(lost) == {1, 2} and sum(lost) < 1.5 * len(lost), lost


def test_while_an_hour_and_a_day_are_written_the_answers_stand():
    unit = started(points=30)
    for i in range(30):
        unit.sample(15 * MINUTE, i % 30, i)
    unit.settle()
    unit.sample(31 * MINUTE, 0, 1000)  # UNIX is 16:00: a day ends
    steps = 0
    hours = days = None
    while unit.history.step(1):
        steps += 1
        found = unit.hours(P1, 0, UNIX + 8 * HOUR), unit.days(P1)[:1]
        if steps > 1:
            assert hours in (None, found[0]) and days in (None, found[1]), steps
            hours, days = found
    assert steps > 8 and unit.history.days.number == 1
    unit.check()


def test_a_journal_that_was_erased_goes_on():
    unit = started()
    for i in range(100):
        unit.sample(MINUTE, i % 2, i)
    unit.settle()
    before = unit.hours(P0)
    for at in range(16 * 4096, 40 * 4096):
        unit.flash.data[at] = 255
    unit.boot()
    unit.set_clock(UNIX + 110 * MINUTE)
    for i in range(100):
        unit.sample(MINUTE, i % 2, i)
        unit.settle()
    rows = unit.hours(P0)
    assert rows[0] == before[0] and [row[0] for row in rows] == [UNIX + i * HOUR for i in range(4)]
    # What was not yet written of the second hour is gone with the journal.
    assert sum([row[4] for row in rows]) == before[0][4] + 50


def test_a_power_cut_at_every_operation_of_a_group():
    """Exhaustive: each flash operation, several parts of it; the answers are those of a run without a cut."""

    def prepare():
        # So late that a day ends with the next samples, and so far that a sector is full then.
        unit = started(points=20, hours=4, days=4, sectors=8)
        unit.set_clock(UNIX + 5 * HOUR + 10 * MINUTE)
        while unit.history.hours.ring.at < 3500:
            for i in range(24 * 6):
                unit.sample(10 * MINUTE, i % 20, i * 7 % 13 + 0.5)
                unit.settle()
        return unit

    def play(unit, cut):
        try:
            if cut:
                unit.flash.cut_after(*cut)
            for i in range(10):
                unit.sample(20 * MINUTE, i % 20, i)
                unit.settle(3)
            return False
        except PowerCut:
            return True

    unit = prepare()
    saved = bytes(unit.flash.data)
    before = unit.flash.operations
    now = unit.hal.unix
    rings = unit.history.hours.ring.serial, unit.history.days.number
    assert not play(unit, None)
    assert (unit.history.hours.ring.serial, unit.history.days.number) == (rings[0] + 1, rings[1] + 1)
    operations = unit.flash.operations - before
    cuts = 0
    flash = unit.flash
    for operation in range(operations):
        for within, torn in ((0, 255), (1, 0x0F), (7, 0x55), (200, 255)):
            flash.data[:] = saved
            flash.power()
            unit = Unit(points=20, hours=4, days=4, sectors=8, flash=flash)
            unit.settle()
            unit.set_clock(now)
            if play(unit, (operation, within, torn)):
                cuts += 1
                flash.power()
                unit.boot()
                unit.settle(3)
                unit.check()
                unit.set_clock(now + 4 * HOUR)
                for i in range(40):
                    unit.sample(7 * MINUTE, i % 20, i)
                unit.settle()
                unit.check()
    assert cuts > 3 * operations, (cuts, operations)


def test_a_power_cut_while_a_group_goes_on_in_the_next_sector():
    def begin(flash=None):
        unit = Unit(points=131, hours=4, days=4, sectors=12, flash=flash)
        unit.settle()
        return unit

    unit = begin()
    unit.set_clock(UNIX)
    for i in range(130):
        unit.sample(1000, i, 1000 * i + 0.5)
    hours = unit.history.hours
    while not 3300 < hours.ring.at < 3900:
        unit.sample(HOUR, 0, 1)
        unit.settle()
    flash = unit.flash
    saved = bytes(flash.data)
    now = unit.hal.unix
    names = (P0, "field/unit/p60", "field/unit/p129")
    crossed = operation = 0
    whole = False
    while not whole:
        flash.data[:] = saved
        flash.power()
        unit = begin(flash)
        unit.set_clock(now)
        flash.cut_after(operation // 2, operation % 2 * 5)
        operation += 1
        try:
            unit.sample(0, 0, 3)
            unit.sample(0, 129, 4)
            unit.sample(HOUR, 129, 5)
            unit.settle(5)
            whole = True
        except PowerCut:
            pass
        hours = unit.history.hours
        crossed += 1 < hours.parts < 0x8000 and hours.ring.at < 1000
        flash.power()
        unit.boot()
        unit.settle()
        unit.check(names=names)
        unit.set_clock(now + DAY)
        unit.sample(HOUR, 9, 6)
        unit.sample(HOUR, 129, 7)
        unit.settle()
        unit.check(names=names)
    assert crossed > 1 and operation > 20, (crossed, operation)


def test_an_entry_comes_back_as_it_went_in():
    out = bytearray(80)
    for low, last, high, first in (
        (5, 5, 5, 5),
        (-7, 0, 7, 3),
        (2.5, 2.5, 2.5, 2.5),
        (0.1, 231.4, 231.5, 17),
        (1 << 60, (1 << 60) + 5, (1 << 61), (1 << 60) + 1),
        (-1e30, 1e30, 1e30, 0.0),
        (1 / 3, 2 / 3, 0.75, 0.5),
        (None, None, None, None),
    ):
        for count, duration, part, held, step in ((60, HOUR, 0.5, 1, 1), (0, 0, 0, 0, 300), (90000, 86399999, 1, 1, 2)):
            if low is None:
                duration = part = held = 0
            entry = [count, duration, first, last, low, high, part, held]
            end = entries.encode(out, 3, step, entry, HOUR)
            assert end - 3 <= entries.MOST
            assert entries.step_at(out, 3) == step and end == 4 + out[3]
            found = entries.decode(out, 3, HOUR)
            assert found[:6] == entry[:6], (found, entry)
            assert bool(found[7]) == bool(held)
            if low != high and duration:
                assert close(found[6], part, 1e-7)


def test_numbers_with_few_digits_take_few_bytes():
    unit = started(points=40, hours=8, sectors=16)
    for i in range(40 * 60 * 3):
        unit.wait(1500)
        index = i % 40
        unit.put(index, [230 + i * 7919 % 97 / 10, 21.5 + i // 400 / 100, 123456 + i, i % 7][index % 4])
        if index == 39:
            unit.journal.flush()
            unit.settle(40)
    unit.settle()
    ring = unit.history.hours.ring
    assert ring.serial == 0 and unit.history.hours.number == 3
    bytes_each = (ring.at - ring.start) / 3 / 40
    print("bytes a point and hour:", bytes_each)
    assert bytes_each <= 16, bytes_each


def test_the_chips_floats_lose_no_whole_number():
    before = cells_module._FLOAT
    cells_module._FLOAT = "f"
    try:
        cells = Cells(points("a"))
        for i in range(100):
            cells.take(0, (1 << 24) + 1 + 2 * i, 1000 * i)
        entry = cells.entry(0)
        assert entry[:6] == [100, 99000, 16777217, 16777415, 16777217, 16777415]
        assert close(entry[6] * (entry[5] - entry[4]), 98, 1e-3)
        cells.begin()
        cells.take(0, 1.5, 1000)
        assert cells.entry(0)[2:6] == [16777415, 1.5, 1.5, 16777415]
        cells.take(0, 2.5, 2000)
        cells.take(0, 1e6 + 0.5, 3000)
        assert cells.entry(0)[2:6] == [16777415, 1000000.5, 1.5, 16777415]
    finally:
        cells_module._FLOAT = before

"""What one can ask of the past: ranges, resolutions, pages; in the order of time, with few reads and little memory."""

import gc
import json

from bus_fakes import run
from check import tidy
from coupler.access import history as access
from coupler.access import methods
from coupler.store import history
from history_world import DAY, HOUR, UNIX, Unit

MINUTE = 60000
P0 = "field/unit/p0"
P1 = "field/unit/p1"


def filled(length=60, every=10, points=2, **options):
    tidy()
    unit = Unit(points=points, **options)
    unit.set_clock(UNIX)
    for i in range(length * 60 // every):
        unit.sample(every * MINUTE, i % points, i * 7 % 101)
        unit.settle()
    return unit


def counted(unit):
    """Counts the reads of flash from now on."""
    reads = [0]
    read = unit.flash.read

    def counting(at, buf):
        reads[0] += 1
        read(at, buf)

    unit.flash.read = counting
    return reads


def test_a_range_has_what_overlaps_it():
    unit = filled()
    rows = unit.hours(P0)
    assert [row[0] for row in rows] == [UNIX + i * HOUR for i in range(60)]
    assert unit.hours(P0, UNIX + 5 * HOUR, UNIX + 7 * HOUR) == rows[5:7]
    assert unit.hours(P0, UNIX + 5 * HOUR + 1, UNIX + 7 * HOUR + 1) == rows[5:8]
    assert unit.hours(P0, UNIX + 59 * HOUR) == rows[59:]
    assert unit.hours(P0, UNIX + 60 * HOUR) == [] and unit.hours(P0, 0, UNIX) == []
    assert unit.hours("field/unit/none") == []
    days = unit.days(P0)
    assert len(days) == 4 and sum([row[4] for row in days]) == 180
    assert unit.days(P0, UNIX + DAY) == days[1:] and unit.days(P0, 0, UNIX + HOUR) == days[:1]
    samples = unit.raw(P0)
    assert len(samples) == 180
    assert unit.raw(P0, samples[7][0], samples[9][0]) == samples[7:9]
    assert unit.raw(P0, samples[7][0], after=samples[9][3]) == samples[10:]


def test_raw_tells_values_and_qualities():
    unit = Unit()
    unit.set_clock(UNIX)
    unit.sample(1500, 0, 21.5)
    unit.sample(1000, 1, 5)
    unit.sample(1000, 0, None, "timeout")
    unit.boot()
    unit.sample(1000, 0, "text")
    assert unit.raw(P0) == [(UNIX + 1500, 21.5, None, 1), (UNIX + 3500, None, "timeout", 3)]
    unit.boot()
    unit.set_clock(UNIX + HOUR)
    assert unit.raw(P0)[2:] == [(UNIX + HOUR, "text", "time", 4)]


def test_where_the_clock_was_set_back_nothing_is_missing_nor_out_of_order():
    unit = filled(20)
    unit.set_clock(UNIX + 5 * HOUR)
    for i in range(300):
        unit.sample(10 * MINUTE, i % 2, 1000 + i)
        unit.settle()
        if i == 20:
            unit.set_clock(UNIX + 100 * HOUR)
        if i == 40:
            unit.set_clock(UNIX + 8 * HOUR + 10 * MINUTE)
    unit.check()
    rows = unit.hours(P0)
    times = [row[0] for row in rows]
    assert times == sorted(set(times))
    assert sum([row[4] for row in rows]) == 60 + 150
    assert unit.hours(P0, UNIX + 6 * HOUR, UNIX + 9 * HOUR) == rows[6:9]
    assert rows[6][1] < 200 and rows[6][2] >= 1000
    days = unit.days(P0)
    assert sum([row[4] for row in days]) == 60 + 150
    assert unit.days(P0, UNIX + DAY, UNIX + 2 * DAY) == [
        row for row in days if UNIX + DAY - 16 * HOUR <= row[0] < UNIX + 2 * DAY
    ]
    samples = unit.raw(P0)
    assert len(samples) == 60 + 150
    numbers = [row[3] for row in samples]
    assert numbers == sorted(numbers)
    wanted = [row for row in samples if UNIX + 6 * HOUR <= row[0] < UNIX + 9 * HOUR]
    assert unit.raw(P0, UNIX + 6 * HOUR, UNIX + 9 * HOUR) == wanted and len(wanted) > 18


def test_a_query_finds_its_place_with_few_reads():
    unit = filled(24 * 100, 60, points=8, hours=20, days=8, sectors=20)
    assert unit.history.hours.ring.serial > 40
    reads = counted(unit)
    assert len(unit.hours(P0, UNIX + 2300 * HOUR, UNIX + 2310 * HOUR)) == 10
    assert reads[0] < 120, reads[0]
    reads[0] = 0
    assert len(unit.days(P0, UNIX + 50 * DAY, UNIX + 52 * DAY)) == 3
    assert reads[0] < 120, reads[0]
    reads[0] = 0
    assert len(unit.raw(P0, UNIX + 2000 * HOUR, UNIX + 2020 * HOUR)) == 3
    assert reads[0] < 900, reads[0]  # a sector of samples, each in a frame


def collects():
    # In JavaScript it does so only when the script has ended.
    if not hasattr(gc, "mem_alloc"):
        return False
    gc.collect()
    before = gc.mem_alloc()
    for _ in range(10):
        bytearray(10000)
    gc.collect()
    return gc.mem_alloc() < before + 10000


def test_a_query_takes_the_same_memory_for_many_rows():
    if not collects():
        return
    unit = filled(24 * 60, 60, points=2, hours=24, days=4, sectors=24)
    for ask in (history.hours, history.days, history.raw):
        peaks = []
        for days in (38, 58):
            gc.collect()
            before = gc.mem_alloc()
            peak = 0
            for _ in ask(unit.history, P0, UNIX + DAY, UNIX + DAY * (1 + days)):
                gc.collect()
                peak = max(peak, gc.mem_alloc() - before)
            peaks.append(peak)
        print(ask, peaks)
        assert peaks[1] < peaks[0] + 500 and peaks[1] < 9000, peaks


class Table:
    def __init__(self, points):
        self.points = points

    def find(self, name):
        for point in self.points:
            if point.name == name:
                return point
        return None


class App:
    """What the method needs of the unit."""

    def __init__(self, unit, ms=0):
        self.hal = self
        self.history = unit.history
        self.table = Table(unit.points)
        self._hal = unit.hal
        self._ms = ms  # that each pause takes
        self.pauses = 0

    def ticks_ms(self):
        return self._hal.ticks_ms()

    def ticks_diff(self, end, start):
        return self._hal.ticks_diff(end, start)

    def now_ms(self):
        return self._hal.unix

    async def sleep_ms(self, ms):
        self.pauses += 1
        self._hal.us += 1000 * self._ms

    def ask(self, point, resolution, **arguments):
        arguments["point"] = point
        arguments["resolution"] = resolution
        if "since" in arguments:
            arguments["from"] = arguments.pop("since")
        return run(methods.call(self, "history", arguments, "viewer"))

    def all(self, point, resolution, **arguments):
        rows = []
        pages = 0
        while True:
            status, answer = self.ask(point, resolution, **arguments)
            assert status == 200, answer
            json.dumps(answer)
            assert len(answer["rows"]) <= 100
            rows += answer["rows"]
            pages += 1
            if "next" not in answer:
                return rows, pages
            arguments["after"] = answer["next"]


def test_pages_go_on_where_the_last_one_ended():
    unit = filled(24 * 10)
    for ms in (0, 900):
        app = App(unit, ms)
        rows, pages = app.all(P0, "hour", since=UNIX // 1000)
        assert pages >= 5 and rows == [[row[0] // 1000] + list(row[1:7]) + [row[7] // 1000] for row in unit.hours(P0)]
        rows, _ = app.all(P0, "day", since=UNIX / 1000)
        assert [row[0] for row in rows] == [row[0] // 1000 for row in unit.days(P0)]
        rows, pages = app.all(P1, "raw", since=UNIX // 1000, to=UNIX // 1000 + 86400)
        assert [row[:2] for row in rows] == [[row[0] // 1000, row[1]] for row in unit.raw(P1, UNIX, UNIX + DAY)]
        assert pages > (10 if ms else 1)
        assert app.pauses


def test_a_page_says_what_it_has():
    unit = filled(3)
    app = App(unit)
    status, answer = app.ask(P0, "hour", since=UNIX // 1000, to=UNIX // 1000 + 3600)
    rows = answer.pop("rows")
    assert (status, answer) == (
        200,
        {
            "point": P0,
            "unit": "W",
            "resolution": "hour",
            "columns": ("time", "min", "max", "mean", "count", "first", "last", "seconds"),
        },
    )
    assert len(rows) == 1 and rows[0][0] == UNIX // 1000 and rows[0][7] == 3000
    unit.sample(1234, 0, None, "timeout")
    unit.settle()
    rows = app.ask(P0, "raw")[1]["rows"]  # of the last hour
    assert rows[-1] == [(unit.hal.unix / 1000), None, "timeout"] and len(rows) == 4
    assert len(app.ask(P0, "hour")[1]["rows"]) == 4
    assert len(app.ask(P0, "day")[1]["rows"]) == 1


def test_what_cannot_be_answered_is_refused():
    unit = filled(1)
    app = App(unit)
    assert app.ask("field/unit/none", "hour")[0] == 404
    unit.points[1].history = False
    status, answer = app.ask(P1, "hour")
    assert status == 409 and "history = true" in answer["error"]
    for arguments in (
        {"since": "now"},
        {"since": True},
        {"to": -1},
        {"to": float("inf")},
        {"since": float("nan")},
        {"since": 20, "to": 10},
        {"after": "x"},
        {"after": -1},
    ):
        assert app.ask(P0, "hour", **arguments)[0] == 400, arguments
    assert app.ask(P0, "minute")[0] == 400
    app.history = None
    assert app.ask(P0, "hour")[0] == 409


def test_milliseconds_need_no_float():
    assert repr(access._Seconds(1764000000007)) == "1764000000.007"
    if hasattr(gc, "mem_alloc"):
        assert json.dumps([access._Seconds(1764000000120)]) == "[1764000000.120]"

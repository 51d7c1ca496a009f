"""The rows of a file: counted, and then the same ones; in parts; and what happens while the journal goes on."""

import json

from bus_fakes import run
from coupler.access import upload
from coupler.net.errors import NetError
from history_world import HOUR, LATEST, UNIX, Unit

NAMES = ["field/unit/p0", "field/unit/p1"]


class Coupler:
    """What an upload needs of the app."""

    def __init__(self, count=200, sectors=24):
        world = self.world = Unit(points=3, sectors=sectors)
        world.set_clock(UNIX)
        world.points[2].history = False
        world.boot()
        world.set_clock(UNIX)
        self.take(count)
        self.hal = self
        self.history = world.history
        self.upload = {}

    def take(self, count):
        for i in range(count):
            self.world.sample(HOUR // 20, i % 3, i % 7)
            self.world.settle()

    async def sleep_ms(self, ms):
        pass

    def lines(self, resolution="raw", since=0, until=LATEST, after=None, most=None):
        found = upload.Lines(self, NAMES, resolution, since, until, after)
        if most:
            found.most = most
        return found


async def content(lines):
    """(all the pieces, how long they were to be)"""
    await lines.count()
    found = b""
    while True:
        piece = await lines.piece()
        if not piece:
            assert not lines.changed and len(found) == lines.length
            return found
        found += piece


def rows(data):
    return [json.loads(line) for line in data.decode().split("\n")[:-1]]


def test_raw_rows_are_in_the_order_of_time_of_all_points_with_history_and_in_parts_no_others():
    unit = Coupler()
    whole = run(content(unit.lines()))
    found = rows(whole)
    times = [row["time"] for row in found]
    assert len(found) == 134 and times == sorted(times) and set([row["point"] for row in found]) == set(NAMES)
    for most in (1, 500, 3000, len(whole)):
        parts = []
        after = None
        while True:
            lines = unit.lines(after=after, most=most)
            parts.append(run(content(lines)))
            assert len(parts[-1]) <= most + 100
            after = lines.next
            if after is None:
                break
        assert b"".join(parts) == whole and (len(parts) > 1) == (most < len(whole))


def test_statistics_are_point_by_point_and_a_part_ends_with_a_point():
    unit = Coupler()
    whole = run(content(unit.lines("hour")))
    found = rows(whole)
    assert [row["point"] for row in found] == [name for name in NAMES for row in found if row["point"] == name]
    assert found[1]["count"] in (6, 7) and found[1]["seconds"] == 3600
    lines = unit.lines("hour", most=1)
    first = run(content(lines))
    assert lines.next == 1 and set([row["point"] for row in rows(first)]) == set(NAMES[:1])
    lines = unit.lines("hour", after=1, most=1)
    assert first + run(content(lines)) == whole and lines.next is None


def test_nothing_is_an_empty_file():
    unit = Coupler(30)
    lines = unit.lines(since=LATEST - 1)
    assert run(content(lines)) == b"" and lines.rows == lines.length == 0 and lines.next is None


def test_what_comes_after_the_count_is_not_in_the_file():
    unit = Coupler(60)

    async def whole():
        lines = unit.lines()
        await lines.count()
        length = lines.length
        unit.take(30)
        found = b""
        while len(found) < length:
            found += await lines.piece()
        assert await lines.piece() == b"" and not lines.changed and len(found) == length

    run(whole())


def test_what_was_overwritten_after_the_count_is_noticed():
    unit = Coupler(600, sectors=4)

    async def whole():
        lines = unit.lines()
        await lines.count()
        oldest = unit.world.journal.ring.oldest
        while unit.world.journal.ring.oldest == oldest:
            unit.take(50)
        found = 0
        while True:
            piece = await lines.piece()
            found += len(piece)
            if not piece or found > lines.length:
                break
        assert lines.changed and found != lines.length

    run(whole())


def test_then_it_begins_anew_but_not_for_ever():
    unit = Coupler(30)
    tries = []
    send = upload._send

    async def fails(unit, lines, url):
        tries.append(lines.length)
        lines.changed = len(tries) != wanted
        raise NetError("http", "the body is not as long as announced")

    try:
        upload._send = fails
        for wanted, expected in ((1, 1), (2, 2), (9, 3)):
            del tries[:]
            unit.upload = {}
            run(upload._run(unit, unit.lines(), "https://x/"))
            assert len(tries) == expected, (wanted, tries)
            assert unit.upload["state"] == "failed" and "announced" in unit.upload["error"]
    finally:
        upload._send = send

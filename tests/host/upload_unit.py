"""A unit with history, its methods and its cloud link, on whatever interpreter runs it; test_upload starts it.

usage: upload_unit.py FIRMWARE_DIR SETTINGS_JSON_FILE
Its past is made up before it connects. Prints JSON lines: how late a task that wakes every 5 ms was, and the memory.
"""
# ruff: noqa: PTH123, UP031, UP041 - MicroPython has not all of these

import asyncio
import gc
import json
import sys
import time

sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[1] + "/../tests/unit")

from history_world import Unit as World
from net_hal import MICROPYTHON, Hal

with open(sys.argv[2]) as _f:
    SETTINGS = json.load(_f)
HOUR = 3600000


class Bus:
    """The serial bus: whoever has a turn has it alone."""

    def __init__(self):
        self.turns = 0
        self._taken = False

    async def turn(self):
        while self._taken:
            await asyncio.sleep(0.001)
        self._taken = True
        self.turns += 1

    def done(self):
        assert self._taken
        self._taken = False


class Health:
    def __init__(self):
        self.parts = {}

    def add(self, room, name, stats):
        self.parts.setdefault(room, {})[name] = stats

    def report(self):
        found: dict = {room: {name: stats() for name, stats in parts.items()} for room, parts in self.parts.items()}
        found["revision"] = "abc"
        return found


class Table:
    def __init__(self, points):
        self.points = points

    def find(self, name):
        for point in self.points:
            if point.name == name:
                return point
        return None


def lived():
    """A unit with so many hours behind it: p0 and p1 have history, p2 has none, p1 once had a name to be quoted."""
    hours = SETTINGS["hours"]
    world = World(points=3, sectors=SETTINGS.get("sectors", 64), hours=8, days=8)
    world.points[2].history = False
    world.boot()
    world.set_clock((int(time.time()) * 1000 // HOUR - hours) * HOUR)
    count = SETTINGS["samples"]
    step = hours * HOUR // count
    for i in range(count):
        private = count // 2 <= i < count // 2 + SETTINGS.get("private", 0)
        if private == world.journal.cloud:
            world.journal.switch(not private)
        value, quality = i * 7 % 101 / 4, None
        if i % 13 == 5:
            value, quality = None, "timeout"
        elif i % 17 == 3:
            value = 'a "quoted",\nvalue'
        world.sample(step, i % 3, value, quality)
        if not i % 8:
            world.settle()
    world.settle()
    world.journal.ack(world.journal.durable)  # only uploads are of interest here
    return world


class Coupler:
    """What methods need of the app."""

    def __init__(self, world):
        from coupler.store.reader import Reader
        from coupler.uplink.session import Session

        self.hal = Hal(SETTINGS["files"])
        self.config = {"cloud": SETTINGS["cloud"]}
        self.journal = world.journal
        self.history = world.history
        self.table = Table(world.points)
        self.health = Health()
        self.serial = Bus()
        self.upload = None
        identity = {"id": SETTINGS["id"]}
        for part in ("cert", "key", "ca"):
            identity[part] = self.hal.read_file("/etc/%s.der" % part)
        info = {"boot": 1, "firmware": "test", "reported": self.health.report}
        self.session = Session(self.hal, SETTINGS["cloud"], identity, Reader(self.journal, None), info)
        self.session.base_ms = self.session.cap_ms = 200
        self.session.bus = self.serial
        self.session.inbox.call = self.call

    async def call(self, name, arguments):
        from coupler.access import methods

        if name == "switch":  # the owner's wish, at once
            self.journal.switch(arguments["cloud"])
            return 200, {}
        return await methods.call(self, name, arguments, SETTINGS.get("role", "operator"))


async def beat(unit):
    late = []
    peak = 0
    hal = unit.hal
    last = hal.ticks_ms()
    while True:
        before = hal.ticks_ms()
        await asyncio.sleep(0.005)
        now = hal.ticks_ms()
        late.append(hal.ticks_diff(now, before) - 5)
        if MICROPYTHON and SETTINGS.get("collect"):
            gc.collect()
            peak = max(peak, gc.mem_alloc())
        if hal.ticks_diff(now, last) > 300:
            last = now
            late.sort()
            print(json.dumps({"late_p99": late[len(late) * 99 // 100], "turns": unit.serial.turns, "peak": peak}))
            late = []
            peak = 0


async def main():
    gc.collect()
    unit = Coupler(lived())
    gc.collect()
    print(json.dumps({"lived": True}))
    task = asyncio.create_task(beat(unit))
    try:
        await asyncio.wait_for(unit.session.run(), SETTINGS.get("seconds", 90))
    except asyncio.TimeoutError:
        pass
    task.cancel()


asyncio.run(main())

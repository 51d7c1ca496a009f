"""A unit's cloud link and nothing else, on whatever interpreter runs it; the tests of the session start it.

usage: uplink_unit.py FIRMWARE_DIR SETTINGS_JSON_FILE
Prints a JSON line whenever the session's status or cursor changed.
"""
# ruff: noqa: PTH123, UP041 - MicroPython has neither

import asyncio
import gc
import json
import os
import sys
import time

sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[1] + "/../tests/unit")
with open(sys.argv[2]) as _f:
    SETTINGS = json.load(_f)
MICROPYTHON = sys.implementation.name == "micropython"


_CAPACITY = 200


class Hal:
    """The parts of the hal that the uplink uses, over the real sockets."""

    doubt = None

    def __init__(self):
        if MICROPYTHON:
            from coupler.hal import micropython_net as net
        else:
            from coupler.hal import cpython_net as net
        from coupler import RELEASED_MS

        self.net = net
        self.floor_ms = SETTINGS.get("floor_ms", RELEASED_MS)

    def ticks_ms(self):
        return time.ticks_ms() if MICROPYTHON else time.monotonic_ns() // 1000000

    def ticks_add(self, a, b):
        return time.ticks_add(a, b) if MICROPYTHON else a + b

    def ticks_diff(self, a, b):
        return time.ticks_diff(a, b) if MICROPYTHON else a - b

    def now_ms(self):
        return int(time.time() * 1000)

    def urandom(self, n):
        return os.urandom(n)

    def get_number(self, _name):
        return None

    def put_number(self, _name, _value):
        pass

    def forget(self, *_modules):
        gc.collect()

    def network_info(self):
        return {"dns": SETTINGS.get("dns", [])}


class Bus:
    """The serial bus: whoever has a turn has it alone."""

    def __init__(self):
        self.turns = 0
        self._taken = False

    async def turn(self):
        assert not self._taken
        self._taken = True
        self.turns += 1
        await asyncio.sleep(0.01)

    def done(self):
        assert self._taken
        self._taken = False


class Point:
    name = "field/meter/" + SETTINGS.get("point", "power")
    unit = "W"
    history = False


def read(name):
    with open(SETTINGS["files"] + "/" + name, "rb") as f:
        return f.read()


async def produce(hal, source):
    period = SETTINGS.get("period_ms", 50)
    for i in range(SETTINGS.get("samples", 1000000)):
        while source.waiting() >= _CAPACITY:
            await asyncio.sleep(0.005)
        source.put(0, i, None, hal.ticks_ms())
        source.flush()
        if period:
            await asyncio.sleep(period / 1000)


async def watch(source, session, done):
    last = None
    longest = 0
    until = SETTINGS.get("until", {})
    while True:
        before = session._hal.ticks_ms()
        await asyncio.sleep(0.005)
        longest = max(longest, session._hal.ticks_diff(session._hal.ticks_ms(), before))
        status = session.status
        count = session.count
        now = (status["state"], status["error"], source.cursor, count["attempts"], count["received"])
        if now != last:
            last = now
            memory = gc.mem_alloc() if MICROPYTHON else 0
            print(json.dumps({"status": status, "acked": source.cursor, "longest_ms": longest, "memory": memory}))
        for key, value in until.items():
            if source.cursor >= value if key == "acked" else count[key] >= value:
                done.set()
                return


async def ask_time(hal):
    from coupler.net import sntp
    from coupler.net.errors import NetError

    try:
        now, server, round_trip = await sntp.query(hal, SETTINGS["ntp"])
        print(json.dumps({"now": now, "server": server, "round_trip": round_trip}))
    except NetError as error:
        print(json.dumps({"no_time": str(error)}))


async def main():
    gc.collect()
    hal = Hal()
    if "ntp" in SETTINGS:
        return await ask_time(hal)
    from coupler.store.journal import Journal
    from coupler.store.opening import recover
    from coupler.store.reader import Reader
    from coupler.uplink.link import Link
    from coupler.uplink.session import Session
    from nor import Nor

    if "patience_ms" in SETTINGS:
        Link.tcp_ms = Link.tls_ms = Link.http_ms = Session.patience_ms = SETTINGS["patience_ms"]
    identity = {"id": SETTINGS["id"]}
    for part in ("cert", "key", "ca"):
        identity[part] = read(part + ".der")
    flash = Nor(8)
    source = Journal(hal, flash, 0, flash.sectors, [Point()], 7, 1, True)
    recover(source)
    source.clock(hal.now_ms())
    info = {"boot": 7, "firmware": "test", "reported": lambda: {"revision": "abc"}}
    session = Session(hal, SETTINGS["cloud"], identity, Reader(source, None), info)
    source.on_flush = session.wake
    session.bus = Bus()
    session.base_ms = SETTINGS.get("base_ms", 100)
    session.cap_ms = SETTINGS.get("cap_ms", 400)

    async def call(name, arguments):
        return 200, {"method": name, "got": arguments}

    session.inbox.call = call
    done = asyncio.Event()
    tasks = [asyncio.create_task(produce(hal, source)), asyncio.create_task(watch(source, session, done))]
    running = asyncio.create_task(session.run())
    try:
        await asyncio.wait_for(done.wait(), SETTINGS.get("seconds", 20))
    except asyncio.TimeoutError:
        pass
    session.stop()
    await asyncio.wait_for(running, 5)
    for task in tasks:
        task.cancel()
    print(json.dumps({"status": session.status, "acked": source.cursor, "turns": session.bus.turns, "ended": True}))


asyncio.run(main())

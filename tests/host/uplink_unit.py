"""A unit's cloud link and nothing else, on whatever interpreter runs it; the tests of the session start it.

usage: uplink_unit.py FIRMWARE_DIR SETTINGS_JSON_FILE
Prints a JSON line whenever the session's status or cursor changed. With `flash`, a file, the journal outlives the
process, and killing it is a power cut. With `log`, another file, that gets a line for each sample: p before it is put,
d when it is durable.
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

    async def sleep_ms(self, ms):
        await asyncio.sleep(ms / 1000)

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
    def __init__(self, name, history=False):
        self.name = "field/meter/" + name
        self.unit = "W"
        self.history = history


def points():
    found = [Point(SETTINGS.get("point", "power"))]
    if "log" in SETTINGS:
        found.append(Point("energy", True))
    return found


def flash():
    from nor import SECTOR, Nor, PowerCut

    class File(Nor):
        """Each operation of the chip is one write to the file, in its order. `cut`, as of cut_after(): the power fails
        within an operation."""

        def __init__(self, sectors, path):
            super().__init__(sectors)
            try:
                with open(path, "rb") as f:
                    self.data = bytearray(f.read())
            except OSError:
                with open(path, "wb") as f:
                    f.write(self.data)
            self._file = open(path, "r+b") if MICROPYTHON else open(path, "r+b", buffering=0)  # noqa: SIM115
            assert len(self.data) == sectors * SECTOR
            if "cut" in SETTINGS:
                self.cut_after(*SETTINGS["cut"])

        def _operation(self, at, new):
            try:
                super()._operation(at, new)
            except PowerCut:
                self._save(at, len(new))
                os.system("kill -9 $PPID")  # MicroPython has no other way
                raise
            self._save(at, len(new))

        def _save(self, at, n):
            self._file.seek(at)
            self._file.write(memoryview(self.data)[at : at + n])

    if "flash" in SETTINGS:
        return File(SETTINGS.get("sectors", 64), SETTINGS["flash"])
    return Nor(8)


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


async def produce_logged(hal, source):
    # Two of three samples are of the point with history. The value tells number and start, so that a number that is
    # given twice shows.
    with open(SETTINGS["log"], "a") as log:
        for _ in range(SETTINGS.get("samples", 1000000)):
            while source.waiting() >= SETTINGS.get("capacity", _CAPACITY):
                await asyncio.sleep(0.005)
            seq = source.next
            index = 1 if seq % 3 else 0
            value = seq * 1000 + SETTINGS["boot"]
            log.write(f"p {seq} {index} {value}\n")
            log.flush()
            source.put(index, value, None, hal.ticks_ms())
            source.flush()
            log.write(f"d {seq} {index} {value}\n")
            log.flush()
            await asyncio.sleep(SETTINGS.get("period_ms", 50) / 1000)


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
            if key == "waiting":
                reached = source.waiting() <= value and session.status["state"] == "online"
            else:
                reached = source.cursor >= value if key == "acked" else count[key] >= value
            if reached:
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
    from coupler.uplink.outbox import Outbox
    from coupler.uplink.session import Session

    if "patience_ms" in SETTINGS:
        Link.tcp_ms = Link.tls_ms = Link.http_ms = Session.patience_ms = SETTINGS["patience_ms"]
        Outbox.repeat_ms = SETTINGS["patience_ms"]
    identity = {"id": SETTINGS["id"]}
    for part in ("cert", "key", "ca"):
        identity[part] = read(part + ".der")
    chip = flash()
    boot = SETTINGS.get("boot", 7)
    source = Journal(hal, chip, 0, chip.sectors, points(), boot, 1, True)
    recover(source)
    source.clock(hal.now_ms())
    info = {"boot": boot, "firmware": "test", "reported": lambda: {"revision": "abc"}}
    session = Session(hal, SETTINGS["cloud"], identity, Reader(source, None), info)
    source.on_flush = session.wake
    session.bus = Bus()
    session.base_ms = SETTINGS.get("base_ms", 100)
    session.cap_ms = SETTINGS.get("cap_ms", 400)

    async def call(name, arguments):
        return 200, {"method": name, "got": arguments}

    session.inbox.call = call

    def tell(**what):
        print(json.dumps(dict(what, status=session.status, acked=source.cursor)))

    session.inbox.desired = lambda content: tell(desired=content)
    if "scope" in SETTINGS["cloud"]:
        session.dialect.assigned = lambda *hub: tell(assigned=hub)
        session.dialect.assign(*SETTINGS.get("assigned", (None, None)))
    done = asyncio.Event()
    producing = produce_logged if "log" in SETTINGS else produce
    tasks = [asyncio.create_task(producing(hal, source)), asyncio.create_task(watch(source, session, done))]
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

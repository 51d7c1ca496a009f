"""A unit's cloud link and nothing else, on whatever interpreter runs it; the tests of the session start it.

usage: uplink_unit.py FIRMWARE_DIR SETTINGS_JSON_FILE
Prints a JSON line whenever the session's status or cursor changed. With `flash`, a file, the journal outlives the
process, and killing it is a power cut. With `log`, another file, that gets a line for each sample: p before it is put,
d when it is durable. With `backlog`, so many samples wait when it starts; those that come while it is online have for
value how many packs it had sent then. With `offline_h`, its clock starts so many hours ago; they pass, and `samples` of
`points` points are taken, at once when the link is lost.
"""
# ruff: noqa: PTH123, PTH208, UP041 - MicroPython has none of it

import asyncio
import gc
import json
import os
import sys
import time

sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[1] + "/../tests/unit")

from net_hal import Bus

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
        self.ahead_ms = 0  # of the time that really passed
        self._began_ms = -3600000 * SETTINGS.get("offline_h", 0)

    def ticks_ms(self):
        return self.ahead_ms + (time.ticks_ms() if MICROPYTHON else time.monotonic_ns() // 1000000)

    def ticks_add(self, a, b):
        return time.ticks_add(a, b) if MICROPYTHON else a + b

    def ticks_diff(self, a, b):
        return time.ticks_diff(a, b) if MICROPYTHON else a - b

    async def sleep_ms(self, ms):
        await asyncio.sleep(ms / 1000)

    def now_ms(self):
        return int(time.time() * 1000) + self._began_ms + self.ahead_ms

    def urandom(self, n):
        return os.urandom(n)

    def get_number(self, _name):
        return None

    def put_number(self, _name, _value):
        pass

    def forget(self, *_modules):
        gc.collect()

    def network_info(self):
        return {"dns": SETTINGS.get("dns", []), "ip6": SETTINGS.get("ip6")}


class Point:
    def __init__(self, name, history=False):
        self.name = "field/meter/" + name
        self.unit = "W"
        self.history = history


def points():
    if "offline_h" in SETTINGS:
        return [Point(f"p{i}") for i in range(SETTINGS["points"])]
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
    return Nor(SETTINGS.get("sectors", 8))


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


def fill(hal, source):
    for i in range(SETTINGS["backlog"]):
        source.put(0, i, None, hal.ticks_ms())
        if i % 50 == 0:
            source.flush()
    source.flush()


async def produce_beside(hal, source, session):
    while True:
        if session.status["state"] == "online":
            source.put(0, session.count["packs"], None, hal.ticks_ms())
            source.flush()
        await asyncio.sleep(SETTINGS.get("period_ms", 50) / 1000)


async def produce_offline(hal, source, session):
    # Hours pass as fast as they can once the link is lost.
    while session.status["state"] != "online" or source.cursor < 2:
        source.put(0, 0, None, hal.ticks_ms())
        source.flush()
        await asyncio.sleep(0.1)
    print(json.dumps({"offline_after": source.next - 1}))
    while session.status["state"] == "online":
        await asyncio.sleep(0.01)
    number = SETTINGS["points"]
    for i in range(SETTINGS["samples"]):
        hal.ahead_ms = 3600000 * SETTINGS["offline_h"] * (i + 1) // SETTINGS["samples"]
        source.put(i % number, i, None, hal.ticks_ms())
        if i % number == 0:
            source.flush()
            await asyncio.sleep(0)
    source.flush()
    print(json.dumps({"online_after": source.next - 1, "waiting": source.waiting(), "dropped": source.dropped}))


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
            line = {"status": status, "acked": source.cursor, "longest_ms": longest, "memory": memory}
            if SETTINGS.get("count_files"):
                line["files"] = len(os.listdir("/proc/self/fd"))
            print(json.dumps(line))
        for key, value in until.items():
            if key == "state":
                reached = session.status["state"] == value
            elif key == "waiting":
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
    if "offline_h" in SETTINGS:
        producing = produce_offline(hal, source, session)
    elif "backlog" in SETTINGS:
        fill(hal, source)
        producing = produce_beside(hal, source, session)
    else:
        producing = produce_logged(hal, source) if "log" in SETTINGS else produce(hal, source)
    tasks = [asyncio.create_task(producing), asyncio.create_task(watch(source, session, done))]
    running = asyncio.create_task(session.run())
    try:
        await asyncio.wait_for(done.wait(), SETTINGS.get("seconds", 20))
    except asyncio.TimeoutError:
        pass
    await asyncio.sleep(SETTINGS.get("settle", 0))
    stage = session.status["state"]
    began = hal.ticks_ms()
    session.stop()
    await asyncio.wait_for(running, 5)
    took = hal.ticks_diff(hal.ticks_ms(), began)
    for task in tasks:
        task.cancel()
    end = {"status": session.status, "acked": source.cursor, "turns": session.bus.turns, "ended": True}
    end.update({"stopped_in": stage, "stop_ms": took})
    print(json.dumps(end))
    await asyncio.sleep(SETTINGS.get("linger", 0))


asyncio.run(main())

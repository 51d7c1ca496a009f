"""A unit's certificate and nothing else, on whatever interpreter runs it; test_est starts it.

usage: est_unit.py FIRMWARE_DIR SETTINGS_JSON_FILE
`files`: the folder that is its /etc. Takes `steps` steps of what is due, without the pauses between, and prints a JSON
line for each. With `cloud`, a real session runs beside. With `app`, on CPython, it is the whole unit with `files` for
its file system, until it is killed.
"""
# ruff: noqa: PTH107, PTH123, PTH208 - MicroPython has no pathlib

import asyncio
import gc
import json
import os
import sys

sys.path.insert(0, sys.argv[1])
sys.path.insert(0, sys.argv[1] + "/../tests/unit")

import net_hal
from nor import Nor

with open(sys.argv[2]) as _f:
    SETTINGS = json.load(_f)


class Hal(net_hal.Hal):
    doubt = None

    def __init__(self):
        net_hal.Hal.__init__(self, SETTINGS["files"])
        self.nor = Nor(64)

    def unique_id(self):
        return b"\x24\x6f\x28\xaa\xbb\xcc"

    def flash(self):
        return self.nor

    def now_ms(self):
        return net_hal.Hal.now_ms(self) + 1000 * SETTINGS.get("later_s", 0)

    def _path(self, path):
        return self._files + "/" + path.split("/")[-1]

    def read_file(self, path):
        try:
            with open(self._path(path), "rb") as f:
                return f.read()
        except OSError:
            return None

    def write_file(self, path, data):
        with open(self._path(path), "wb") as f:
            f.write(data)

    def remove(self, path):
        try:
            os.remove(self._path(path))
        except OSError:
            pass

    def get_number(self, _name):
        return None

    def put_number(self, _name, _value):
        pass


class Unit:
    session = None
    journal = None

    def __init__(self, hal):
        self.hal = hal
        self.serial = net_hal.Bus()
        self.changes = 0

    def changed(self):
        self.changes += 1


class Point:
    name = "field/meter/power"
    unit = "W"
    history = False


def session(unit):
    from coupler.store.journal import Journal
    from coupler.store.opening import recover
    from coupler.store.reader import Reader
    from coupler.uplink.session import Session

    hal = unit.hal
    unit.journal = Journal(hal, Nor(8), 0, 8, [Point()], 7, 1, True)
    recover(unit.journal)
    identity = {"id": "246f28aabbcc"}
    for name in ("cert", "key", "ca"):
        identity[name] = hal.read_file(f"/etc/{name}.der")
    made = Session(hal, SETTINGS["cloud"], identity, Reader(unit.journal, None), {"boot": 7, "firmware": "test"})
    made.base_ms = 50
    made.cap_ms = 200
    made.bus = unit.serial
    return made


def tell(unit, one, pause):
    hal = unit.hal
    line = {"pause": pause, "report": one.report(), "turns": unit.serial.turns, "changes": unit.changes}
    line["files"] = sorted(os.listdir(SETTINGS["files"]))
    line["memory"] = gc.mem_alloc() if net_hal.MICROPYTHON else 0
    line["modules"] = sorted([name for name in sys.modules if name.startswith("coupler.trust.")])
    if unit.session:
        line["status"] = unit.session.status
        line["ours"] = unit.session.identity["cert"] == hal.read_file("/etc/cert.der")
    print(json.dumps(line))


async def main():
    hal = Hal()
    unit = Unit(hal)
    from coupler.trust import switch

    switch.recover(hal)  # as boot.py does
    if "cloud" in SETTINGS:
        unit.session = session(unit)
        running = asyncio.create_task(unit.session.run())
        for _ in range(100):
            if unit.session.status["state"] == "online" or unit.session.count["attempts"] > 2:
                break
            await asyncio.sleep(0.05)
    from coupler.trust.expiry import Expiry

    one = Expiry(unit, SETTINGS["url"])
    one.look = SETTINGS.get("look", 1000000)
    for i in range(SETTINGS.get("steps", 1)):
        if i in SETTINGS.get("renew", ()):
            one.renew()
        pause = await one._step()
        if unit.session:
            for _ in range(SETTINGS.get("settle", 100)):
                if unit.session.status["state"] == "online":
                    break
                await asyncio.sleep(0.05)
        gc.collect()
        tell(unit, one, pause)
    if unit.session:
        unit.session.stop()
        await asyncio.wait_for(running, 5)


def run_app():
    from coupler import app
    from coupler.hal.cpython import Hal

    class Whole(Hal):
        def reset_cause(self):
            return "power"

        def watchdog(self, _ms):
            return self

        def feed(self):
            pass

        def relax(self):
            pass

        async def network_up(self, _net, _board):
            return True

        def network_info(self):
            return {"kind": "ethernet", "ip": "127.0.0.1", "dns": []}

    app.main(Whole(SETTINGS["files"]))


if SETTINGS.get("app"):
    run_app()
else:
    asyncio.run(main())

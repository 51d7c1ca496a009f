"""The unit's doctor over the real sockets of this computer, on whatever interpreter runs it, for test_doctor_unit.py.

usage: doctor_unit.py FIRMWARE_DIR SETTINGS_JSON_FILE
"""
# ruff: noqa: PTH123 - MicroPython has nothing else

import asyncio
import json
import sys

sys.path.insert(0, sys.argv[1])
with open(sys.argv[2]) as _f:
    SETTINGS = json.load(_f)

if sys.implementation.name == "micropython":
    from coupler.hal.micropython import Hal
else:
    from coupler.hal.cpython import Hal


class Unit(Hal):
    known = not SETTINGS.get("no_clock")

    def now_ms(self):
        return super().now_ms() if self.known else None

    def set_time(self, unix_ms):
        self.known = True
        super().set_time(unix_ms)

    def unique_id(self):
        return bytes(int(SETTINGS["id"][i : i + 2], 16) for i in range(0, 12, 2))

    async def network_up(self, net, board):
        return SETTINGS.get("up", True)

    def network_info(self):
        kind = SETTINGS.get("kind", "ethernet")
        return {"kind": kind, "ip": "127.0.0.1", "mask": "255.0.0.0", "gateway": "127.0.0.1", "dns": SETTINGS["dns"]}


def tell(line):
    print(json.dumps(line))


from coupler.doctor import Doctor  # noqa: E402 - behind the path

Doctor.answer_s = 1
asyncio.run(Doctor(Unit(SETTINGS["root"]), tell).run())

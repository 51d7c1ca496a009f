"""Who may write what, what happens when the device does not answer, and what foreign requests are allowed."""

import asyncio
import binascii

from bus_fakes import Hal
from check import raises
from coupler.access import methods, raw
from coupler.access.errors import Refused
from coupler.access.writes import write
from coupler.bus.errors import BusError
from coupler.points.table import Table
from coupler.trust.roles import allowed

WRITABLE = {"role": "operator", "min": 10, "max": 30, "verify": True}


def config():
    points = [
        {"n": "field/ahu/setpoint", "o": 0, "t": "i16", "w": "ABCD", "k": 0.1, "u": "Cel", "wr": dict(WRITABLE)},
        {"n": "field/ahu/fan", "o": 1, "t": "u16", "w": "ABCD", "wr": {"role": "operator", "ms": 5000}},
        {"n": "field/ahu/limit", "o": 2, "t": "u16", "w": "ABCD", "wr": {"role": "admin"}},
        {"n": "field/ahu/state", "o": 3, "t": "u16", "w": "ABCD"},
    ]
    block = {"fc": 3, "a": 100, "n": 4, "ms": 1000, "p": points}
    unit = {"id": 1, "name": "ahu", "timeout": 500, "blocks": [block]}
    return {"bus": [{"name": "field", "kind": "rtu", "baud": 19200, "parity": "even", "stop": 1, "units": [unit]}]}


class Device:
    """A client whose device holds registers; `faults` are raised by the next transactions, None: none."""

    def __init__(self, hal):
        self.hal = hal
        self.registers = {100: 210, 101: 5, 102: 0, 103: 7}
        self.faults = []
        self.sent = []
        self.deaf = False  # takes no write

    def _fault(self):
        if self.faults:
            kind = self.faults.pop(0)
            if kind == "exception":
                raise BusError(kind, 1, 6, 100, 1, 3)
            if kind:
                raise BusError(kind, 1, 6, 100, 1)

    async def transact(self, unit, pdu, timeout_ms):
        self.sent.append(bytes(pdu))
        if pdu[0] == 6 and not self.deaf:
            self.registers[pdu[1] << 8 | pdu[2]] = pdu[3] << 8 | pdu[4]
        self._fault()
        return memoryview(pdu)

    async def read(self, unit, fc, address, count, timeout_ms):
        self.sent.append((fc, address, count))
        self._fault()
        return b"".join([self.registers[address + i].to_bytes(2, "big") for i in range(count)])


class Unit:
    """What methods need of the app."""

    def __init__(self):
        self.hal = Hal()
        self.config = config()
        self.samples = []
        self.table = Table(self.config["bus"], self.hal)
        self.table.put = lambda *sample: self.samples.append(sample)
        self.device = Device(self.hal)
        self.clients = {"field": self.device}
        self.health = self

    def report(self):
        return {"boot": 1}

    def write(self, name, value, role="operator"):
        return done(write(self, name, value, role))

    def refused(self, name, value, role="operator"):
        error = raises(Refused, self.write, name, value, role)
        return error.status, str(error)

    def call(self, name, arguments, role="operator"):
        return done(methods.call(self, name, arguments, role))


def done(coroutine):
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")


def test_a_write_is_scaled_sent_read_back_and_shown():
    unit = Unit()
    assert unit.write("field/ahu/setpoint", 21.5) is True
    assert unit.device.sent == [bytes((6, 0, 100, 0, 215)), (3, 100, 1)]
    assert unit.table.find("field/ahu/setpoint").value == 21.5
    assert [sample[:2] for sample in unit.samples] == [(unit.table.find("field/ahu/setpoint").number, 21.5)]


def test_without_verify_nothing_is_read_back():
    unit = Unit()
    assert unit.write("field/ahu/fan", 3) is False
    assert unit.device.sent == [bytes((6, 0, 101, 0, 3))]


def test_what_is_not_allowed_never_reaches_the_bus():
    unit = Unit()
    assert unit.refused("field/ahu/nothing", 1)[0] == 404
    assert unit.refused("field/ahu/state", 1) == (403, "field/ahu/state is not writable")
    assert unit.refused("field/ahu/limit", 1)[0] == 403
    assert unit.refused("field/ahu/setpoint", 21.5, "viewer")[0] == 403
    assert unit.refused("field/ahu/setpoint", 21.5, "somebody")[0] == 403
    status, text = unit.refused("field/ahu/setpoint", 99)
    assert status == 400 and "field/ahu/setpoint" in text and "30" in text
    for value in ("warm", None, True, [], float("nan")):
        assert unit.refused("field/ahu/setpoint", value)[0] == 400, value
    assert unit.device.sent == []
    assert allowed("admin", "operator") and not allowed("operator", "admin") and not allowed("operator", "nonsense")


def test_a_write_comes_as_often_as_the_configuration_says():
    unit = Unit()
    unit.write("field/ahu/fan", 3)
    status, text = unit.refused("field/ahu/fan", 4)
    assert status == 429 and "5000 ms" in text
    unit.hal.us += 5000000
    unit.write("field/ahu/fan", 4)
    assert len(unit.device.sent) == 2


def test_a_write_without_an_answer_is_read_back_and_not_repeated_when_it_took_effect():
    unit = Unit()
    unit.device.faults = ["timeout"]
    assert unit.write("field/ahu/setpoint", 21.5) is True
    assert unit.device.sent == [bytes((6, 0, 100, 0, 215)), (3, 100, 1)]


def test_a_write_that_did_not_arrive_is_repeated_once():
    unit = Unit()
    unit.device.deaf = True
    unit.device.faults = ["timeout", None, "timeout", None]
    status, text = unit.refused("field/ahu/fan", 9)
    assert status == 504 and "timeout" in text and "shows 5" in text
    write = bytes((6, 0, 101, 0, 9))
    assert unit.device.sent == [write, (3, 101, 1), write, (3, 101, 1)]


def test_an_uncertain_write_is_never_repeated_blindly():
    unit = Unit()
    unit.device.faults = ["crc", "timeout"]
    status, text = unit.refused("field/ahu/setpoint", 21.5)
    assert status == 504 and "not known" in text
    assert unit.device.sent == [bytes((6, 0, 100, 0, 215)), (3, 100, 1)]


def test_a_device_that_refuses_or_ignores_is_told_of():
    unit = Unit()
    unit.device.faults = ["exception"]
    status, text = unit.refused("field/ahu/setpoint", 21.5)
    assert status == 409 and "exception 3 (illegal data value)" in text
    unit.device.deaf = True
    status, text = unit.refused("field/ahu/setpoint", 22.5)
    assert status == 409 and "holds 21" in text and len(unit.device.sent) == 3


def test_foreign_requests_read_anything_and_write_what_the_rules_allow():
    unit = Unit()
    bus = unit.config["bus"][0]
    for number, text in ((1, "0300000001"), (9, "04FFFF0001"), (1, "2B0E0100")):
        raw.check(unit.hal, bus, number, binascii.unhexlify(text), False)
    for number, text, status in (
        (1, "0600640001", 405),  # only reading is allowed
        (1, "03000000FF", 400),
        (1, "63", 400),
    ):
        assert raises(Refused, raw.check, unit.hal, bus, number, binascii.unhexlify(text), False).status == status, text
    free = config()["bus"][0]
    Table([free], unit.hal)
    free["units"][0]["blocks"][0]["p"].pop(2)  # the one for administrators
    raw.check(unit.hal, free, 1, binascii.unhexlify("06006400D7"), True)
    for number, text, status in (
        (1, "0600640200", 409),  # 51.2: beyond its limit
        (1, "0600670001", 403),  # not writable
        (2, "0600640001", 403),  # not known
    ):
        assert raises(Refused, raw.check, unit.hal, free, number, binascii.unhexlify(text), True).status == status, text
    assert raises(Refused, raw.check, unit.hal, bus, 1, binascii.unhexlify("0600660001"), True).status == 403


def test_foreign_requests_write_no_oftener_than_the_configuration_says():
    unit = Unit()
    bus = unit.config["bus"][0]
    fan = binascii.unhexlify("0600650003")
    setpoint = binascii.unhexlify("06006400D7")
    raw.check(unit.hal, bus, 1, fan, True)
    for pdu in (fan, binascii.unhexlify("100064000204" + "00D70003"), binascii.unhexlify("1600650000" + "0003")):
        assert raises(Refused, raw.check, unit.hal, bus, 1, pdu, True).status == 429
    assert unit.refused("field/ahu/fan", 4)[0] == 429
    assert unit.call("request", {"bus": "field", "unit": 1, "pdu": "0600650003"})[0] == 429
    assert done(raw.answer(unit.device, bus, 1, fan, True)) == b"\x86\x06"
    assert unit.device.sent == []
    raw.check(unit.hal, bus, 1, setpoint, True)
    raw.check(unit.hal, bus, 1, setpoint, True)
    unit.hal.us += 5000000
    unit.write("field/ahu/fan", 4)
    assert raises(Refused, raw.check, unit.hal, bus, 1, fan, True).status == 429
    raises(Refused, raw.check, unit.hal, bus, 1, binascii.unhexlify("0600660001"), True)
    unit.hal.us += 5000000
    raises(Refused, raw.check, unit.hal, bus, 1, binascii.unhexlify("1000650002" + "0400030001"), True)  # 102: admin's
    unit.write("field/ahu/fan", 4)  # what was refused was not written


def test_a_broadcast_has_to_be_allowed_by_every_unit():
    unit = Unit()
    bus = unit.config["bus"][0]
    bus["units"][0]["blocks"][0]["p"].pop(2)
    raw.check(unit.hal, bus, 0, binascii.unhexlify("06006400D7"), True)
    waited = []

    async def transact(number, pdu, timeout_ms):
        waited.append((number, timeout_ms))

    unit.device.transact = transact
    assert unit.call("request", {"bus": "field", "unit": 0, "pdu": "06006400D7"}) == (200, {"pdu": ""})
    bus["turn"] = 150
    unit.call("request", {"bus": "field", "unit": 0, "pdu": "06006400D7"})
    assert waited == [(0, 100), (0, 150)]
    bus["units"].append({"id": 2, "name": "other", "timeout": 500, "blocks": []})
    error = raises(Refused, raw.check, unit.hal, bus, 0, binascii.unhexlify("06006400D7"), True)
    assert error.status == 403 and str(error).startswith("other: ")


def test_what_a_gateway_answers():
    unit = Unit()
    bus = unit.config["bus"][0]

    def answer(text, number=1, writes=False):
        pdu = binascii.unhexlify(text)
        return binascii.hexlify(done(raw.answer(unit.device, bus, number, pdu, writes))).decode()

    assert answer("0300640001") == "0300640001"
    assert answer("0600640001") == "8601"
    assert answer("6300640001") == "e301"
    assert answer("03006400FF") == "8303"
    assert answer("0300640001", 0) == "830a"
    assert answer("0600670001", 1, True) == "8602"
    unit.device.faults = ["timeout", "crc", "exception", "link"]
    assert [answer("0300640001") for _ in range(4)] == ["830b", "830b", "8303", "830a"]


def test_methods():
    unit = Unit()
    assert unit.call("nonsense", {})[0] == 404
    assert unit.call("read", [])[0] == 400
    assert unit.call("read", {})[0] == 400
    assert unit.call("read", {"point": "x"})[0] == 404
    assert unit.call("write", {"point": "field/ahu/setpoint"}) == (400, {"error": "value: missing"})
    status, answer = unit.call("write", {"point": "field/ahu/setpoint", "value": 22})
    assert (status, answer["verified"]) == (200, True)
    unit.hal.us += 3000000
    status, answer = unit.call("read", {"point": "field/ahu/setpoint"})
    assert answer == {"point": "field/ahu/setpoint", "value": 22.0, "quality": "good", "age": 3, "unit": "Cel"}
    status, answer = unit.call("describe", None)
    assert status == 200 and len(answer["points"]) == 4 and "next" not in answer
    assert answer["points"][0]["write"]["max"] == 30
    assert unit.call("diagnose", None) == (200, {"boot": 1})
    status, answer = unit.call("request", {"bus": "field", "unit": 1, "pdu": "0300640001"})
    assert (status, answer) == (200, {"pdu": "0300640001"})
    assert unit.call("request", {"bus": "field", "unit": 1, "pdu": "xyz"})[0] == 400
    assert unit.call("request", {"bus": "other", "unit": 1, "pdu": "03"})[0] == 404
    assert unit.call("request", {"bus": "field", "unit": True, "pdu": "03"})[0] == 400
    unit.device.faults = ["timeout"]
    assert unit.call("request", {"bus": "field", "unit": 1, "pdu": "0300640001"})[0] == 504
    assert unit.call("scan", {"bus": "field", "parity": "mark"})[0] == 400


def test_a_method_wants_a_role():
    unit = Unit()
    for name in ("restart", "renew", "cloud", "request", "scan", "upload"):
        for role in ("viewer", "nobody", "", None):
            status, answer = unit.call(name, {}, role)
            assert status == 403 and name in answer["error"], (name, role)
    for name in ("read", "describe", "diagnose", "history", "identify", "unlock", "write"):
        assert unit.call(name, {}, "nobody")[0] == 403
    assert unit.call("read", {"point": "field/ahu/setpoint"}, "viewer")[0] == 200
    assert unit.call("write", {"point": "field/ahu/setpoint", "value": 22}, "viewer")[0] == 403
    assert unit.call("write", {"point": "field/ahu/limit", "value": 1}, "operator")[0] == 403


def test_a_renewal_is_begun_once_an_hour_where_there_is_a_server():
    unit = Unit()
    unit.expiry = None
    assert unit.call("renew", {})[0] == 409
    unit.expiry = unit
    unit.url = None
    assert unit.call("renew", {})[0] == 409
    unit.url = "https://est.example.com"
    granted = [True, False]
    unit.renew = lambda: granted.pop(0)
    assert unit.call("renew", {}) == (202, {"boot": 1})
    assert unit.call("renew", {}) == (429, {"error": "it was renewed within the hour"})


def test_a_restart_comes_after_its_answer():
    unit = Unit()
    resets = []
    unit.save = lambda: resets.append("saved")
    unit.hal.reset = lambda: resets.append("reset")

    async def whole():
        status, answer = await methods.call(unit, "restart", {}, "operator")
        assert status == 200 and not resets
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(whole())
    assert resets == ["saved", "reset"]


def test_the_cloud_is_switched_after_the_answer():
    unit = Unit()
    switched = []
    kept = []
    unit.switch = switched.append
    unit.remember = lambda name, value: kept.append((name, value))
    unit.session = None

    async def whole():
        assert (await methods.call(unit, "cloud", {"enabled": True}, "operator"))[0] == 409
        for wrong in ({}, {"enabled": 1}, {"enabled": "no"}, None):
            assert (await methods.call(unit, "cloud", wrong, "operator"))[0] == 400
        unit.session = object()
        for wanted in (False, True):
            assert await methods.call(unit, "cloud", {"enabled": wanted}, "operator") == (200, {"enabled": wanted})
        assert not switched and kept == [("cloud", False), ("cloud", True)]
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(whole())
    assert switched == [False, True]

# Foreign Modbus requests, of the gateway and of `kobler bus` through the unit: reads always, writes by the same rules
# as any write.

from coupler.access.errors import Refused
from coupler.access.writes import may, note
from coupler.bus import request
from coupler.bus.errors import BusError
from coupler.const import const

_TIMEOUT_MS = const(1000)  # of a unit that the configuration does not know
_TURNAROUND_MS = const(100)  # after a broadcast (Modbus over Serial Line V1.02, 2.4.1)
_READS = (1, 2, 3, 4, 43)
_BOTH = const(23)
_KNOWN = _READS + request.WRITES + (_BOTH,)
_ILLEGAL_FUNCTION = const(1)
_ILLEGAL_ADDRESS = const(2)
_ILLEGAL_VALUE = const(3)
_BUSY = const(6)
_NO_PATH = const(10)
_NO_ANSWER = const(11)


def check(hal, bus, number, pdu, writes, role="operator"):
    """Refused unless the request may be sent now to the unit `number` of the bus; what it writes counts as written.

    writes: whether any write is wanted."""
    try:
        request.check_request(pdu)
    except ValueError as error:
        raise Refused(400, str(error))
    fc = pdu[0]
    if fc in _READS:
        return
    if not writes:
        raise Refused(405, "function %d: only reading is allowed" % fc)
    units = [unit for unit in bus["units"] if unit["id"] == number or not number]  # a broadcast: all must take it
    if not units:
        raise Refused(403, "unit %d: the configuration has nothing writable there" % number)
    points = []
    for unit in units:
        points += _written(unit, fc, pdu)
    for point in points:
        may(hal, point, role)
    note(hal, points)


def _written(unit, fc, pdu):
    from coupler.points.write import check_raw

    at = 5 if fc == _BOTH else 1
    try:
        return check_raw(unit, fc, pdu[at] << 8 | pdu[at + 1], pdu[at + 2 :])
    except LookupError as error:
        raise Refused(403, "%s: %s" % (unit["name"], error))
    except ValueError as error:
        raise Refused(409, "%s: %s" % (unit["name"], error))


async def ask(client, bus, number, pdu):
    """The answer's PDU, None after a broadcast (unit 0); BusError."""
    wait = _TIMEOUT_MS
    if not number and bus["kind"] == "rtu":
        wait = bus.get("turn", _TURNAROUND_MS)
    for unit in bus["units"]:
        if unit["id"] == number:
            wait = unit["timeout"]
    return await client.transact(number, pdu, wait)


async def answer(client, bus, number, pdu, writes):
    """What a gateway answers: the device's PDU, or an exception (Messaging on TCP/IP V1.0b, 3.1.3)."""
    try:
        if not 1 <= number <= 247:
            raise BusError("link", number, 0, 0, 0)
        check(client.hal, bus, number, pdu, writes)
        return await ask(client, bus, number, pdu)
    except Refused as refused:
        code = _ILLEGAL_VALUE
        if refused.status == 405 or pdu[0] not in _KNOWN:
            code = _ILLEGAL_FUNCTION
        elif refused.status == 403:
            code = _ILLEGAL_ADDRESS
        elif refused.status == 429:
            code = _BUSY
    except BusError as error:
        code = error.code if error.kind == "exception" else _NO_PATH if error.kind == "link" else _NO_ANSWER
    return bytes((pdu[0] | 0x80, code))

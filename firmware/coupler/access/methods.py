# What can be asked of the unit from afar: each method takes JSON arguments and gives (status as in HTTP, answer).
# Loaded when first asked. `unit` is what app made: hal, table, config, clients, health, history.
import asyncio
import binascii

from coupler.access.errors import Refused
from coupler.bus.errors import BusError
from coupler.const import const
from coupler.trust.roles import allowed

_PAGE = const(16)  # points a describe() gives at once
_SCAN_MS = const(20000)
_RESTART_MS = const(1000)
_GOODBYE_MS = const(300)


def _field(arguments, name, kind, default=None):
    value = arguments.get(name, default)
    if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
        what = "missing" if value is None else "%r is of the wrong kind" % (value,)
        raise Refused(400, "%s: %s" % (name, what))
    return value


def _whole(arguments, name, low, high, default=None):
    value = _field(arguments, name, int, default)
    if not low <= value <= high:
        raise Refused(400, "%s: %d is not from %d to %d" % (name, value, low, high))
    return value


def _point(unit, arguments):
    name = _field(arguments, "point", str)
    point = unit.table.find(name)
    if point is None:
        raise Refused(404, "there is no point %s" % name)
    return point


def _bus(unit, arguments):
    name = _field(arguments, "bus", str)
    for bus in unit.config["bus"]:
        if bus["name"] == name:
            return bus
    raise Refused(404, "there is no bus %s" % name)


async def _read(unit, arguments, role):
    # {"point"} -> its present value, quality and age in seconds
    point = _point(unit, arguments)
    answer = {"point": point.name, "value": point.value, "quality": point.quality or "good"}
    answer["age"] = unit.table.age_ms(point) // 1000
    if point.unit:
        answer["unit"] = point.unit
    return answer


async def _write(unit, arguments, role):
    # {"point", "value"}
    from coupler.access.writes import write

    name = _field(arguments, "point", str)
    if "value" not in arguments:
        raise Refused(400, "value: missing")
    verified = await write(unit, name, arguments["value"], role)
    return {"point": name, "value": arguments["value"], "verified": verified}


async def _describe(unit, arguments, role):
    # {"from": N} -> the points from the Nth on; "next" where there are more
    from coupler.points.describe import describe

    first = _whole(arguments, "from", 0, 100000, 0)
    points = unit.table.points
    answer: dict = {"points": [describe(point) for point in points[first : first + _PAGE]]}
    if first + _PAGE < len(points):
        answer["next"] = first + _PAGE
    return answer


async def _identify(unit, arguments, role):
    unit.hal.identify()
    return {}


async def _diagnose(unit, arguments, role):
    return unit.health.report()


async def _restart(unit, arguments, role):
    async def later():
        await unit.hal.sleep_ms(_RESTART_MS)
        unit.save()
        unit.hal.reset()

    asyncio.create_task(later())
    return {}


async def _unlock(unit, arguments, role):
    # {"token"}: one of the owner's opens the console, whoever brings it; the unit restarts
    from coupler.trust.lock import LockError, TooSoon

    token = _field(arguments, "token", str)
    if not unit.guard:
        raise Refused(409, "the console is not locked")
    try:
        await unit.guard.judge(token)
    except TooSoon as error:
        raise Refused(429, str(error))
    except LockError as error:
        raise Refused(403, str(error))
    unit.guard.restart()
    return {}


async def _renew(unit, arguments, role):
    # asks for the next certificate now; `reported` tells how it goes on
    if not unit.expiry or not unit.expiry.url:
        raise Refused(409, "the configuration names no EST server")
    if not unit.expiry.renew():
        raise Refused(429, "it was renewed within the hour")
    return unit.expiry.report()


async def _cloud(unit, arguments, role):
    # {"enabled": false}: nothing more goes to the cloud, through restarts, until who is at the unit wants it again
    wanted = _field(arguments, "enabled", bool)
    if not unit.session:
        raise Refused(409, "enabled: the configuration does not enable the cloud")
    if wanted:
        unit.remember("cloud", True)

    async def later():
        await unit.hal.sleep_ms(_GOODBYE_MS)  # the answer goes first
        unit.switch(wanted)

    asyncio.create_task(later())
    if not wanted:
        unit.remember("cloud", False)  # should that fail, it is switched off all the same, until the next start
    return {"enabled": wanted}


async def _request(unit, arguments, role):
    # {"bus", "unit", "pdu": hex} -> {"pdu": hex, empty after a broadcast}; writing by the same rules as any write
    from coupler.access import raw

    bus = _bus(unit, arguments)
    number = _whole(arguments, "unit", 0, 255)
    try:
        pdu = binascii.unhexlify(_field(arguments, "pdu", str))
    except ValueError:
        raise Refused(400, "pdu: not hexadecimal")
    raw.check(unit.hal, bus, number, pdu, True, role)
    try:
        answer = await raw.ask(unit.clients[bus["name"]], bus, number, pdu)
    except BusError as error:
        raise Refused(409 if error.kind == "exception" else 504, str(error))
    except ValueError as error:
        raise Refused(400, str(error))
    return {"pdu": binascii.hexlify(answer or b"").decode()}


async def _scan(unit, arguments, role):
    # {"bus", "baud", "parity", "stop", "from", "to", "timeout"} -> the units found, and "next" if time ran out
    from coupler.bus.scan import scan

    bus = _bus(unit, arguments)
    if bus["kind"] != "rtu":
        raise Refused(400, "bus %s is no RTU bus" % bus["name"])
    baud = _whole(arguments, "baud", 300, 1000000, bus["baud"])
    stop = _whole(arguments, "stop", 1, 2, bus["stop"])
    parity = _field(arguments, "parity", str, bus["parity"])
    if parity not in ("even", "odd", "none"):
        raise Refused(400, "parity: even, odd or none")
    first = _whole(arguments, "from", 1, 247, 1)
    last = _whole(arguments, "to", first, 247, 247)
    timeout = _whole(arguments, "timeout", 10, 2000, 200)
    hal = unit.hal
    began = hal.ticks_ms()
    line = (baud, parity, stop)
    client = unit.clients[bus["name"]]
    over = lambda: hal.ticks_diff(hal.ticks_ms(), began) > _SCAN_MS  # noqa: E731
    found, following = await scan(client, hal, line, first, last, timeout, over)
    return {"found": found, "next": following} if following <= last else {"found": found}


async def _history(unit, arguments, role):
    # {"point", "resolution": raw, hour or day, "from", "to": Unix s, "after": "next" of the page before} -> a page
    from coupler.access.history import page

    point = _point(unit, arguments)
    resolution = _field(arguments, "resolution", str, "raw")
    begin, end, after = _range(arguments)
    return await page(unit, point, resolution, begin, end, after)


def _range(arguments):
    begin, end = [_field(arguments, name, (int, float)) if name in arguments else None for name in ("from", "to")]
    return begin, end, _whole(arguments, "after", 0, 1 << 62) if "after" in arguments else None


async def _upload(unit, arguments, role):
    # {"what": history, "point", all without it, "resolution", "from", "to", "after": "next" of the last file, "url"}
    from coupler.access.upload import start

    what, name, resolution, url = [_field(arguments, *each) for each in _FILE]
    if what != "history":
        raise Refused(400, "what: history")
    begin, end, after = _range(arguments)
    return {"name": await start(unit, name or None, resolution, begin, end, after, url)}


_FILE = (("what", str, "history"), ("point", str, ""), ("resolution", str, "raw"), ("url", str, ""))
# The least role for each (trust/roles.py); a point to be written may want more.
_METHODS = {
    "read": (_read, "viewer"),
    "describe": (_describe, "viewer"),
    "diagnose": (_diagnose, "viewer"),
    "history": (_history, "viewer"),
    "identify": (_identify, "viewer"),
    "unlock": (_unlock, "viewer"),  # its token says what it may
    "write": (_write, "viewer"),  # its point says who may
    "restart": (_restart, "operator"),
    "renew": (_renew, "operator"),
    "cloud": (_cloud, "operator"),
    "request": (_request, "operator"),
    "scan": (_scan, "operator"),
    "upload": (_upload, "operator"),
}


async def call(unit, name, arguments, role):
    """(status, answer) of the method `name`."""
    method, least = _METHODS.get(name) or (None, None)
    if method is None:
        return 404, {"error": "no method %s" % name}
    if arguments is None:
        arguments = {}
    try:
        if not isinstance(arguments, dict):
            raise Refused(400, "the arguments are not an object")
        if not allowed(role, least):
            raise Refused(403, "%s: the role %s may not do that" % (name, role))
        answer = await method(unit, arguments, role)
        return 202 if method in (_upload, _renew) else 200, answer  # they have only begun, `reported` tells the end
    except Refused as refused:
        return refused.status, {"error": str(refused)}

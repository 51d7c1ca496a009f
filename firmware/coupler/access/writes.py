# Writing: whoever wishes it, it goes through here, and the client's turns are the one queue there is.
#
# - Only what the configuration makes writable, within its limits, not oftener than it says, by whom it says.
# - A write without an answer is uncertain. It is read back first, and repeated once, only if the device holds another.

from coupler.access.errors import Refused
from coupler.bus.errors import BusError
from coupler.const import const
from coupler.trust.roles import allowed

_TRIES = const(2)


def may(hal, point, role):
    """Refused unless a role may write the point now."""
    rules = point.wr
    if rules is None:
        raise Refused(403, "%s is not writable" % point.name)
    if not allowed(role, rules.get("role", "operator")):
        raise Refused(403, "%s: the role %s may not write it" % (point.name, role))
    if point.written is not None:
        passed = hal.ticks_diff(hal.ticks_ms(), point.written)
        if 0 <= passed < rules["ms"]:
            what = (point.name, passed, rules["ms"])
            raise Refused(429, "%s: written %d ms ago, once in %d ms is allowed" % what)


def note(hal, points):
    """They are written now, whether or not the device answers."""
    for point in points:
        if point.wr.get("ms"):
            point.written = hal.ticks_ms()


async def write(unit, name, value, role):
    """Write a value to the point of that name; True if it was read back. Refused says why not.

    unit: what app made: hal, table, and clients by name of the bus."""
    from coupler.points.write import plan_write

    point = unit.table.find(name)
    if point is None:
        raise Refused(404, "there is no point %s" % name)
    may(unit.hal, point, role)
    bus, device, block = unit.table.place(point)
    try:
        pdu = plan_write(point, block, value, device.get("multi"))
    except ValueError as error:
        raise Refused(400, str(error))
    note(unit.hal, (point,))
    client = unit.clients[bus["name"]]
    why = None
    for _ in range(_TRIES):
        try:
            await client.transact(device["id"], pdu, device["timeout"])
        except BusError as error:
            why = error
            if error.kind == "exception":
                raise Refused(409, "the device refused: %s" % error)
        else:
            if not point.wr.get("verify"):
                return False
            why = None
        if await _holds(unit.table, client, device, point, pdu, why):
            return True
        if why is None:
            raise Refused(409, "%s: the device took the value, but holds %s" % (name, point.value))
    raise Refused(504, "%s, and reading back shows %s" % (why, point.value))


async def _holds(table, client, device, point, pdu, why):
    # Whether the device now has what was written; the point shows what it has.
    from coupler.points.write import holds, read_back

    try:
        data = await client.read(device["id"], *read_back(pdu), device["timeout"])
    except BusError as error:
        if why is None:
            raise Refused(504, "written, but it could not be read back: %s" % error)
        raise Refused(504, "not known whether it was written: %s; reading back: %s" % (why, error))
    table.on_block(device, {"p": (point,)}, data, None, -point.at)
    return holds(pdu, data)

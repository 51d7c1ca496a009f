# Checks one bus of the compiled configuration, as far as the bus is concerned: a broken one is refused as a whole,
# by a ValueError that names the field.

from coupler.bus import pdu


def _need(cfg, key, path, low, high):
    value = cfg.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError("%s.%s: %r is not a whole number from %d to %d" % (path, key, value, low, high))
    return value


def _rows(cfg, key, path):
    if not isinstance(cfg, dict):
        raise ValueError("%s: not a table" % path)
    rows = cfg.get(key)
    if not isinstance(rows, list):
        raise ValueError("%s.%s: not a list" % (path, key))
    return rows


def check(bus, path):
    """ValueError, which names the field below `path`, unless a poller can run this bus."""
    units = _rows(bus, "units", path)
    kind = bus.get("kind")
    if kind == "rtu":
        _need(bus, "baud", path, 300, 1000000)
        _need(bus, "stop", path, 1, 2)
        if bus.get("parity") not in ("even", "odd", "none"):
            raise ValueError("%s.parity: %r is not even, odd or none" % (path, bus.get("parity")))
    elif kind == "tcp":
        if not isinstance(bus.get("host"), str) or not bus["host"]:
            raise ValueError("%s.host: not a name or an address" % path)
        _need(bus, "port", path, 1, 65535)
        _need(bus, "flight", path, 1, 16)
    else:
        raise ValueError("%s.kind: %r, only rtu and tcp are known" % (path, kind))
    low, high = (1, 247) if kind == "rtu" else (0, 255)
    for i, unit in enumerate(units):
        at = "%s.units[%d]" % (path, i)
        blocks = _rows(unit, "blocks", at)
        _need(unit, "id", at, low, high)
        _need(unit, "timeout", at, 1, 60000)
        if "pause" in unit:
            _need(unit, "pause", at, 1, 60000)
        for j, block in enumerate(blocks):
            here = "%s.blocks[%d]" % (at, j)
            if not isinstance(block, dict):
                raise ValueError("%s: not a table" % here)
            fc = _need(block, "fc", here, 1, 4)
            n = _need(block, "n", here, 1, pdu.most(fc))
            _need(block, "a", here, 0, 65536 - n)
            _need(block, "ms", here, 10, 86400000)

# From the rows of the compiled configuration to points. Every field is checked: a broken one is refused by a ValueError
# that names it. Needed at the start only, so app forgets it.

from coupler.const import const
from coupler.points.codec import ORDERS
from coupler.points.kinds import size, span
from coupler.points.report import Report

_BITS = const(2)  # functions 1 and 2 read bits, 3 and 4 registers
_WRITABLE = (1, 3)  # functions that read what can be written: coils and holding registers
_LONGEST = const(246)  # characters: the 123 registers that one request writes
_MAX = const(60000)  # default: an unchanged value is confirmed once a minute
_DAY = const(86400000)  # ms, well inside what a difference of ticks can tell
AGGREGATES = ("last", "mean", "min", "max", "sum", "count")


_forms = []


def load(buses, make, now):
    """The points of all buses, of the class `make`, which take the place of their rows."""
    points = []
    names = set()
    for i, bus in enumerate(buses):
        for j, unit in enumerate(bus["units"]):
            for k, block in enumerate(unit["blocks"]):
                path = "bus[%d].units[%d].blocks[%d].p" % (i, j, k)
                rows = block.get("p")
                if not isinstance(rows, list) or not rows:
                    raise ValueError("%s: not a list of points" % path)
                for m, row in enumerate(rows):
                    rows[m] = point = make(row, block, "%s[%d]" % (path, m), now)
                    if point.name in names:
                        raise ValueError("%s: point %s is there twice" % (path, point.name))
                    names.add(point.name)
                    point.number = len(points)
                    points.append(point)
    return points


def fill(point, cfg, block, path):
    """(name, offset in the block, form, whether it is a number) of a row; also sets what few points have."""
    name = _text(cfg, "n", path)
    kind = _text(cfg, "t", path)
    at = _whole(cfg, "o", path, 0, block["n"] - 1)
    order = cfg.get("w", "ABCD")
    extra = count = 0
    if order not in ORDERS:
        raise ValueError("%s.w: %r is not one of %s" % (path, order, ", ".join(ORDERS)))
    if block["fc"] <= _BITS:
        if kind != "bool":
            raise ValueError("%s.t: %r in a table of bits, only bool is possible" % (path, kind))
        order = None
    else:
        if kind == "bits":
            extra = _whole(cfg, "from", path, 0, 15)
            count = _whole(cfg, "count", path, 1, 16 - extra)
        elif kind == "string":
            extra = _whole(cfg, "len", path, 1, 250)
        try:
            n = size(kind, extra)
        except ValueError as e:
            raise ValueError("%s.t: %s" % (path, e))
        if 2 * at + n > 2 * block["n"]:
            raise ValueError("%s.o: %d, the value ends beyond the block of %d" % (path, at, block["n"]))
    na = _sentinels(cfg["na"], kind, count, path + ".na") if cfg.get("na") is not None else None
    texts = _texts(cfg["e"], kind, count, path + ".e") if cfg.get("e") is not None else None
    numeric = kind not in ("bool", "string") and texts is None
    divisor, scale, offset = _scaling(cfg, numeric, path)
    if cfg.get("u") is not None:
        point.unit = cfg["u"]
    if cfg.get("h"):
        point.history = True
    if cfg.get("wr") is not None:
        _check_write(cfg["wr"], block["fc"], extra if kind == "string" else 0, numeric, path + ".wr")
        point.wr = cfg["wr"]
    form = (kind, order, extra, count, na, texts, divisor, scale, offset)
    for other in _forms:
        if other == form:
            return name, at, other, numeric
    _forms.append(form)
    return name, at, form, numeric


def reporting(cfg, period, numeric, path, now):
    """The Report or Aggregate for cfg, {"min", "max", "db" or "pct", "agg"} or None; period: of the block, ms."""
    if cfg is None:
        cfg = {}
    if not isinstance(cfg, dict):
        raise ValueError("%s: not a table" % path)
    if "db" in cfg and "pct" in cfg:
        raise ValueError("%s: db and pct exclude each other" % path)
    least = _within(cfg, "min", path, 0, 0, _DAY)
    most = _within(cfg, "max", path, max(_MAX, least), 1, _DAY)
    if least > most:
        raise ValueError("%s.min: %d is more than max, %d" % (path, least, most))
    band = _within(cfg, "db", path, 0, 0, 1e30)
    part = _within(cfg, "pct", path, 0, 0, 100) / 100
    aggregate = cfg.get("agg", "last")
    if aggregate not in AGGREGATES:
        raise ValueError("%s.agg: %r is not one of %s" % (path, aggregate, ", ".join(AGGREGATES)))
    if not numeric and (aggregate != "last" or band or part):
        raise ValueError("%s: only numbers have a deadband and an aggregate other than last" % path)
    # A reading that comes half a period early is the one meant: polls are never exact to the millisecond.
    half = period // 2
    most = max(0, most - half)
    if aggregate == "last":
        return Report(max(0, least - half), most, band, part)
    from coupler.points.aggregate import Aggregate  # most sites have none

    return Aggregate(aggregate, least if least > period else 0, half, most, band, part, now)


def _scaling(cfg, numeric, path):
    scale = _number(cfg, "k", path, 1)
    offset = _number(cfg, "b", path, 0)
    if not scale:
        raise ValueError("%s.k: 0 would make every value the same" % path)
    if not numeric and (scale != 1 or offset):
        raise ValueError("%s.%s: only numbers have a scale and an offset" % (path, "k" if scale != 1 else "b"))
    # 214 / 10 is 21.4 where 214 * 0.1 is 21.400000000000002.
    whole = round(1 / scale) if abs(scale) > 1e-30 else 0
    return whole if whole > 1 and abs(scale * whole - 1) < 1e-6 else 0, scale, offset


def _sentinels(raws, kind, count, path):
    # As decode() gives them: signed where the type is. Of floats the bit pattern.
    if kind in ("bool", "string"):
        raise ValueError("%s: only numbers have values that mean not available" % path)
    if not isinstance(raws, list) or not raws:
        raise ValueError("%s: not a list of raw values" % path)
    bits = count or 8 * size(kind)
    for i, raw in enumerate(raws):
        if isinstance(raw, bool) or not isinstance(raw, int) or not 0 <= raw < 1 << bits:
            raise ValueError("%s[%d]: %r is not a whole number of %d bits" % (path, i, raw, bits))
    return [raw - (raw >> bits - 1 << bits) for raw in raws] if kind[0] == "i" else raws


def _texts(rows, kind, count, path):
    limits = span(kind, count)
    if limits is None:
        raise ValueError("%s: only whole numbers and bits are enumerated" % path)
    if not isinstance(rows, dict) or not rows:
        raise ValueError("%s: not a table of texts" % path)
    texts = {}
    for key in rows:
        try:
            raw = int(key)
        except ValueError:
            raw = None
        if raw is None or str(raw) != key or not limits[0] <= raw <= limits[1]:
            raise ValueError("%s: %r is not a whole number from %d to %d" % (path, key, limits[0], limits[1]))
        texts[raw] = _text(rows, key, path)
    return texts


def _check_write(cfg, fc, length, numeric, path):
    if fc not in _WRITABLE:
        raise ValueError("%s: what function %d reads cannot be written, only coils and holding registers" % (path, fc))
    if length > _LONGEST:
        raise ValueError("%s: %d characters, one request writes %d" % (path, length, _LONGEST))
    _text(cfg, "role", path)
    for key in ("min", "max"):
        if key in cfg:
            _number(cfg, key, path, 0)
            if not numeric:
                raise ValueError("%s.%s: only numbers have limits" % (path, key))
    if "min" in cfg and "max" in cfg and cfg["min"] > cfg["max"]:
        raise ValueError("%s.min: %s is more than max, %s" % (path, cfg["min"], cfg["max"]))
    if not isinstance(cfg.get("verify", False), bool):
        raise ValueError("%s.verify: %r is neither true nor false" % (path, cfg["verify"]))
    if "ms" in cfg:
        _whole(cfg, "ms", path, 0, _DAY)


def _text(cfg, key, path):
    value = cfg.get(key) if isinstance(cfg, dict) else None
    if not isinstance(value, str) or not value:
        raise ValueError("%s.%s: %r is not a text" % (path, key, value))
    return value


def _whole(cfg, key, path, low, high):
    value = cfg.get(key) if isinstance(cfg, dict) else None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError("%s.%s: %r is not a whole number from %d to %d" % (path, key, value, low, high))
    return value


def _number(cfg, key, path, default):
    value = cfg.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value - value != 0:
        raise ValueError("%s.%s: %r is not a number" % (path, key, value))
    return value


def _within(cfg, key, path, default, low, high):
    value = _number(cfg, key, path, default)
    if not low <= value <= high:
        raise ValueError("%s.%s: %r is not a number from %s to %s" % (path, key, value, low, high))
    return value

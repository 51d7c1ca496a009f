# The current value of every point, and the way from a block of registers to samples.
# Texts, which codec.decode() may give, have neither scale nor offset:
# pyright: reportOperatorIssue=false

from coupler.const import const
from coupler.points import codec
from coupler.points.report import BOTH, Report

_BITS = const(2)  # functions 1 and 2 read bits, 3 and 4 registers
_STALE_MS = const(10000)  # a good value may be three periods and this old


class Point:
    """value, quality (None: good; "timeout", "exception:2", "crc", "frame", "range", "stale") at `ticks`."""

    def __init__(self, cfg, block, path):
        self.name = _text(cfg, "n", path)
        self.kind = _text(cfg, "t", path)
        self.order = cfg.get("w", "ABCD")
        self.unit = cfg.get("u")
        self.value = None
        self.quality = "stale"
        self.ticks = 0
        self.at = at = _whole(cfg, "o", path, 0, block["n"] - 1)
        self.extra = self.count = 0
        if self.order not in codec.ORDERS:
            raise ValueError("%s.w: %r is not one of %s" % (path, self.order, ", ".join(codec.ORDERS)))
        if block["fc"] <= _BITS:
            if self.kind != "bool":
                raise ValueError("%s.t: %r in a table of bits, only bool is possible" % (path, self.kind))
            self.order = None
        else:
            if self.kind == "bits":
                self.extra = _whole(cfg, "from", path, 0, 15)
                self.count = _whole(cfg, "count", path, 1, 16 - self.extra)
            elif self.kind == "string":
                self.extra = _whole(cfg, "len", path, 1, 250)
            try:
                size = codec.size(self.kind, self.extra)
            except ValueError as e:
                raise ValueError("%s.t: %s" % (path, e))
            if 2 * at + size > 2 * block["n"]:
                raise ValueError("%s.o: %d, the value ends beyond the block of %d" % (path, at, block["n"]))
        numeric = self.kind not in ("bool", "string")
        self.scale = _number(cfg, "k", path, 1, numeric)
        self.offset = _number(cfg, "b", path, 0, numeric)
        # 214 / 10 is 21.4 where 214 * 0.1 is 21.400000000000002.
        whole = round(1 / self.scale) if self.scale else 0
        self.divisor = whole if whole > 1 and abs(self.scale * whole - 1) < 1e-6 else 0
        self.report = Report(cfg.get("r"), block["ms"], numeric, path + ".r")

    def read(self, data):
        """The value in the block's data; None if it is out of the type's range."""
        if self.order is None:
            return codec.decode_bit(data, self.at)
        value = codec.decode(self.kind, self.order, data, self.at, self.extra, self.count)
        if value is None:
            return None
        if self.divisor:
            value = value / self.divisor
        elif self.scale != 1:
            value = value * self.scale
        if self.offset:
            value = value + self.offset
        return value


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


def _number(cfg, key, path, default, numeric):
    value = cfg.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value - value != 0:
        raise ValueError("%s.%s: %r is not a number" % (path, key, value))
    if value != default and not numeric:
        raise ValueError("%s.%s: only numbers have a scale and an offset" % (path, key))
    return value


class Table:
    """buses: the compiled configuration's list; its rows of points are replaced by Points, to have them once.

    put(name, value, quality, unix_ms or None, ticks, unit) is called for each sample. ValueError names a broken field.
    `on_block` is what a Poller calls."""

    def __init__(self, buses, hal, put):
        self._hal = hal
        self._put = put
        self.points = []
        self._blocks = []
        names = set()
        now = hal.ticks_ms()
        for i, bus in enumerate(buses):
            for j, unit in enumerate(bus["units"]):
                for k, block in enumerate(unit["blocks"]):
                    path = "bus[%d].units[%d].blocks[%d].p" % (i, j, k)
                    rows = block.get("p")
                    if not isinstance(rows, list) or not rows:
                        raise ValueError("%s: not a list of points" % path)
                    points = [Point(row, block, "%s[%d]" % (path, m)) for m, row in enumerate(rows)]
                    for point in points:
                        if point.name in names:
                            raise ValueError("%s: point %s is there twice" % (path, point.name))
                        names.add(point.name)
                        point.ticks = now
                    block["p"] = points
                    self._blocks.append(block)
                    self.points += points

    def find(self, name):
        """The point of that full name, or None."""
        for point in self.points:
            if point.name == name:
                return point
        return None

    def on_block(self, unit, block, data, error):
        hal = self._hal
        now = hal.ticks_ms()
        unix_ms = hal.now_ms()
        for point in block["p"]:
            if error is None:
                value = point.read(data)
                self._set(point, value, "range" if value is None else None, now, unix_ms)
            else:
                self._set(point, None, error.quality, now, unix_ms)

    def age(self):
        """Mark good values that were not read again in time as stale; to be called every few seconds."""
        hal = self._hal
        now = hal.ticks_ms()
        for block in self._blocks:
            limit = 3 * block["ms"] + _STALE_MS
            for point in block["p"]:
                if point.quality is None and not 0 <= hal.ticks_diff(now, point.ticks) <= limit:
                    self._set(point, None, "stale", now, hal.now_ms())

    def _set(self, point, value, quality, now, unix_ms):
        point.value = value
        point.quality = quality
        point.ticks = now
        report = point.report
        due = report.feed(value, quality, now, self._hal.ticks_diff)
        if due == BOTH:
            self._put(point.name, report.rest, None, unix_ms, now, point.unit)
        if due:
            self._put(point.name, report.sent, quality, unix_ms, now, point.unit)

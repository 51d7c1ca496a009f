# The current value of every point, and the way from a block of registers to samples.
# Texts, which codec.decode() may give, have neither scale nor offset:
# pyright: reportOperatorIssue=false

from coupler.const import const
from coupler.points import codec
from coupler.points.report import BOTH

_STALE_MS = const(10000)  # a good value may be three periods and this old
_GONE = ()  # what read() gives for a raw value that means "not available"


class Point:
    """value and quality at `ticks`, `now` at first; ValueError names a broken field of the row `cfg`.

    quality: None is good; "timeout", "exception:2", "crc", "frame", "range", "not-available", "stale"."""

    # What most points do not have is no field of each of them.
    unit = None
    history = False  # may be kept
    number = 0  # its place among all points
    wr = None  # {"min", "max", "verify", "role", "ms"}: may be written
    written = None  # ticks of its last write, where wr has "ms"

    def __init__(self, cfg, block, path, now=0):
        from coupler.points.load import fill, reporting  # once: app forgets it

        self.value = None
        self.quality = "stale"
        self.ticks = now
        # at: offset in the block. form: one for all points that are alike: kind, order (None in a table of bits), extra
        # and count as of codec.decode(), the raw values that mean "not available" (of floats the bit pattern),
        # {raw value: text}, divisor, scale, offset.
        self.name, self.at, self.form, numeric = fill(self, cfg, block, path)
        self.report = reporting(cfg.get("r"), block["ms"], numeric, path + ".r", now)

    def read(self, data, shift=0):
        """The value in the block's data; None if it is out of the type's range, () if it is not available.

        shift: what to add to the point's offset, for data that begin elsewhere."""
        at = self.at + shift
        kind, order, extra, count, na, texts, divisor, scale, offset = self.form
        if order is None:
            return codec.decode_bit(data, at)
        value = codec.decode(kind, order, data, at, extra, count)
        if na and (codec.decode("u" + kind[5:], order, data, at) if kind[0] == "f" else value) in na:
            return _GONE
        if value is None:
            return None
        if texts:
            return texts.get(value, value)
        if divisor:
            value = value / divisor
        elif scale != 1:
            value = value * scale
        if offset:
            value = value + offset
        return None if isinstance(value, float) and value - value != 0 else value


class Table:
    """buses: the compiled configuration's list; its rows of points are replaced by Points, to have them once.

    put(number of the point, value, quality, ticks) is called for each sample, done() after those of a block; None:
    nobody wants them. ValueError names a broken field. `on_block` is what a Poller calls."""

    def __init__(self, buses, hal, put=None, done=None):
        from coupler.points.load import load

        self.put = put
        self.done = done
        self._hal = hal
        self._buses = buses
        self.points = load(buses, Point, hal.ticks_ms())

    def find(self, name):
        """The point of that full name, or None."""
        for point in self.points:
            if point.name == name:
                return point
        return None

    def place(self, point):
        """(bus, unit, block) of the configuration that a point is in now; a split moves it to another block."""
        for place in self._places():
            if point in place[2]["p"]:
                return place
        return None

    def age_ms(self, point):
        """Milliseconds since the point's value or quality was last taken."""
        return self._hal.ticks_diff(self._hal.ticks_ms(), point.ticks)

    def split(self, block):
        """The two blocks that now stand for one which the device refuses; None if its points cannot be parted."""
        from coupler.points.split import halves

        for _, unit, each in self._places():
            if each is block:
                return halves(unit["blocks"], block)
        return None

    def on_block(self, unit, block, data, error, shift=0):
        """A block was read, or could not be: data is None when error is not. shift: as of Point.read()."""
        now = self._hal.ticks_ms()
        for point in block["p"]:
            if error is None:
                value = point.read(data, shift)
                quality = None
                if value is None:
                    quality = "range"
                elif value is _GONE:
                    value = None
                    quality = "not-available"
                self._set(point, value, quality, now)
            else:
                self._set(point, None, error.quality, now)
        if self.done:
            self.done()

    def age(self):
        """Mark good values that were not read again in time as stale; to be called every few seconds."""
        hal = self._hal
        now = hal.ticks_ms()
        for _, _, block in self._places():
            limit = 3 * block["ms"] + _STALE_MS
            for point in block["p"]:
                if point.quality is None and not 0 <= hal.ticks_diff(now, point.ticks) <= limit:
                    self._set(point, None, "stale", now)
        if self.done:
            self.done()

    def _places(self):
        for bus in self._buses:
            for unit in bus["units"]:
                for block in unit["blocks"]:
                    yield bus, unit, block

    def _set(self, point, value, quality, now):
        point.value = value
        point.quality = quality
        point.ticks = now
        report = point.report
        due = report.feed(value, quality, now, self._hal.ticks_diff)
        if not due or not self.put:
            return
        # An aggregate that no float can hold has no value.
        if due == BOTH:
            self.put(point.number, report.rest, None if report.rest is not None else "range", now)
        if quality is None and report.sent is None:
            quality = "range"
        self.put(point.number, report.sent, quality, now)

# The method `history`: what a point was in the past, a page at a time.
from coupler.access.errors import Refused
from coupler.const import const
from coupler.store import history

_ROWS = const(50)  # of a page
_TEXT = const(1000)  # characters in them
_WORK_MS = const(2000)
_EVERY = const(8)  # rows between two pauses
_LATEST = const(1 << 50)  # ms
_SINGLE = float("1.000000001") == 1  # floats of this interpreter
_COLUMNS = ("time", "min", "max", "mean", "count", "first", "last", "seconds")
SPANS = {"raw": 3600000, "hour": 86400000, "day": 30 * 86400000}  # ms before the end, unless `from` says it
_STEPS = {"hour": 3600, "day": 86400}


class _Seconds:
    # JSON of ms as seconds: no float of the chip could hold them.

    def __init__(self, ms):
        self._ms = ms

    def __repr__(self):
        return "%d.%03d" % (self._ms // 1000, self._ms % 1000)


def _seconds(ms):
    if not ms % 1000:
        return ms // 1000
    return _Seconds(ms) if _SINGLE else ms / 1000


async def page(unit, point, resolution, begin, end, after):
    """The rows of a point between two times (Unix s, or None), behind the row that was the last of the page before."""
    if resolution not in SPANS:
        raise Refused(400, "resolution: raw, hour or day")
    if not point.history:
        raise Refused(409, "%s has no history: its configuration does not say history = true" % point.name)
    memory = unit.history
    if memory is None:
        raise Refused(409, "this unit keeps no history")
    hal = unit.hal
    until = _LATEST if end is None else as_ms("to", end)
    if begin is not None:
        since = as_ms("from", begin)
    else:
        now = hal.now_ms() or 0
        since = max(0, (now if end is None else until) - SPANS[resolution])
    if since > until:
        raise Refused(400, "from: later than to")
    if resolution == "raw":
        columns = ("time", "value", "quality")
        found = history.raw(memory, point.name, since, until, after, True)
    else:
        columns = _COLUMNS
        if after is not None:
            since = max(since, 1000 * (after + _STEPS[resolution]))
        find = history.hours if resolution == "hour" else history.days
        found = find(memory, point.name, since, until)
    rows, following = await _gather(hal, found)
    answer = {"point": point.name, "resolution": resolution, "columns": columns, "rows": rows}
    if point.unit:
        answer["unit"] = point.unit
    if following is not None:
        answer["next"] = following
    return answer


def as_ms(name, seconds):
    ms = 1000 * seconds if isinstance(seconds, int) else seconds * 1000 + 0.5
    if not 0 <= ms <= _LATEST:  # nor is NaN
        raise Refused(400, "%s: not a time in Unix seconds" % name)
    return int(ms)


async def _gather(hal, found):
    # (rows, where to go on or None)
    began = hal.ticks_ms()
    rows = []
    size = 0
    last = None
    for row in found:
        if isinstance(row, tuple):
            if len(rows) == _ROWS or size > _TEXT:
                return rows, last
            if len(row) == 4:
                time, value, quality, last = row
                if isinstance(value, str):
                    size += len(value)
                rows.append([_seconds(time), value, quality] if quality else [_seconds(time), value])
            else:
                time = last = row[0] // 1000
                rows.append([time] + list(row[1:7]) + [_seconds(row[7])])
            if len(rows) % _EVERY:
                continue
        elif row is not None:
            last = row
        if last is not None and hal.ticks_diff(hal.ticks_ms(), began) > _WORK_MS:
            return rows, last
        await hal.sleep_ms(0)
    return rows, None

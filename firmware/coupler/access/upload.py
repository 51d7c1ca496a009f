# The method `upload`: history as a file of JSON Lines to the cloud's storage, in the background, one at a time.
#
# The storage wants to know the length before, and no heap holds the file. So the history is read twice: once to
# count, once to send, up to the same row. Should it not be the same any more (the oldest was overwritten meanwhile),
# what was sent never becomes a file, and it begins anew.
import asyncio
import json

from coupler.access.errors import Refused
from coupler.access.history import SPANS, as_ms
from coupler.const import const
from coupler.net.errors import NetError
from coupler.store import history
from coupler.store.cells import DAY, HOUR

_PIECE = const(1024)
_EVERY = const(4)  # rows between two pauses
_PAUSE_MS = const(2)
_TRIES = const(3)
_LOOK_MS = const(200)
_LIMIT_MS = const(900000)
_COLUMNS = ("min", "max", "mean", "count", "first", "last")
_UNDER_WAY = ("counting", "sending")


async def start(unit, name, resolution, begin, end, after, url):
    """The file's name. name: of a point, None for all that have history; begin, end: Unix s or None; url: https, or
    None for the hub's storage."""
    if resolution not in SPANS:
        raise Refused(400, "resolution: raw, hour or day")
    session = unit.session
    journal = unit.journal
    if not session or not journal.cloud:
        raise Refused(409, "the cloud is switched off")
    if not unit.history:
        raise Refused(409, "this unit keeps no history")
    if url:
        _check(url)
    elif unit.config["cloud"]["dialect"] != "azure":
        raise Refused(400, "url: missing; only an IoT Hub hands one out")
    elif session.status["state"] != "online":
        raise Refused(409, "the hub is not connected")
    doing = unit.upload
    if doing and doing["state"] in _UNDER_WAY:
        raise Refused(409, "another upload is under way: %s" % doing["name"])
    now = unit.hal.now_ms()
    if now is None:
        raise Refused(409, "the unit does not know the time")
    until = now if end is None else min(now, as_ms("to", end))
    if resolution != "raw":
        until -= until % (HOUR if resolution == "hour" else DAY)  # what is not over changes
    since = max(0, until - SPANS[resolution]) if begin is None else as_ms("from", begin)
    if since > until:
        raise Refused(400, "from: later than to, or than what is over")
    lines = Lines(unit, _points(unit, name), resolution, since, until, after)
    status = {"state": "counting", "name": "history-%s-%d.jsonl" % (resolution, now), "rows": 0, "bytes": 0}
    status["next"] = status["error"] = None
    unit.upload = status
    unit.health.add("cloud", "upload", lambda: unit.upload)
    asyncio.create_task(_watch(unit, asyncio.create_task(_run(unit, lines, url))))
    return status["name"]


def _check(url):
    from coupler.net.http import split

    try:
        split(url)
    except NetError as error:
        raise Refused(400, "url: %s" % error)


def _points(unit, name):
    if name is None:
        return [point.name for point in unit.table.points if point.history]
    point = unit.table.find(name)
    if point is None:
        raise Refused(404, "there is no point %s" % name)
    if not point.history:
        raise Refused(409, "%s has no history: its configuration does not say history = true" % name)
    return [name]


async def _watch(unit, task):
    # The owner's switch ends it at once, and so does time.
    hal = unit.hal
    status = unit.upload
    began = hal.ticks_ms()
    why = None
    while not task.done():
        await hal.sleep_ms(_LOOK_MS)
        if not unit.journal.cloud:
            why = "the cloud was switched off"
        elif hal.ticks_diff(hal.ticks_ms(), began) > _LIMIT_MS:
            why = "it took more than %d min" % (_LIMIT_MS // 60000)
        if why:
            task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        status["state"] = "failed"
        status["error"] = why
    hal.forget("coupler.access.upload", "coupler.uplink.upload", "coupler.net.http", "coupler.access.history")
    hal.forget("coupler.store.history", "coupler.store.groups", "coupler.store.entries")
    unit.session.report()


async def _run(unit, lines, url):
    status = unit.upload
    try:
        left = _TRIES
        while left:
            left -= 1
            try:
                status["state"] = "counting"
                await lines.count()
                status["rows"] = lines.rows
                status["bytes"] = lines.length
                status["next"] = lines.next
                status["state"] = "sending"
                await _send(unit, lines, url)
                break
            except NetError:
                if not lines.changed or not left:
                    raise
        status["state"] = "done"
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends this upload only, and it is named
        status["state"] = "failed"
        status["error"] = str(error) or repr(error)


async def _send(unit, lines, url):
    from coupler.uplink import upload

    hal = unit.hal
    identity = unit.session.identity
    bus = unit.serial
    if url:
        await upload.to_url(hal, identity, url, lines.length, lines.piece, bus)
    else:
        hub = unit.session.dialect.cloud
        await upload.to_hub(hal, hub, identity, unit.upload["name"], lines.length, lines.piece, bus)


class Lines:
    # The rows: count() goes through them, then piece() gives the same ones. A mark is the number of a sample, or how
    # many points there were: what is behind it can be asked for with `after`.

    most = 1048576  # bytes; one row, or one point's statistics, may go beyond

    def __init__(self, unit, names, resolution, since, until, after):
        self._hal = unit.hal
        self._memory = unit.history
        self._names = names
        self._resolution = resolution
        self._range = (since, until)
        self._after = after
        self._last = None  # mark of the last row; None while it is counted
        self._rows = None
        self.rows = self.length = 0
        self.next = None
        self.changed = False
        self._left = 0

    async def count(self):
        self.rows = self.length = 0
        self._last = self.next = None
        self.changed = False
        last = self._after
        for row in self._all():
            if row:
                mark, line = row
                if self.length > self.most and mark != last:
                    self.next = last
                    break
                last = mark
                self.rows += 1
                self.length += len(line)
                if self.rows % _EVERY:
                    continue
            await self._hal.sleep_ms(_PAUSE_MS)
        self._last = last or 0
        self._rows = self._all()
        self._left = self.length

    async def piece(self):
        """Some lines, empty behind the last one."""
        found = bytearray()
        count = 0
        for row in self._rows:
            if row:
                found.extend(row[1])
                if len(found) >= _PIECE:
                    break
                count += 1
                if count % _EVERY:
                    continue
            await self._hal.sleep_ms(_PAUSE_MS)
        self._left -= len(found)
        if self._left < 0 or self._left and not found:
            self.changed = True
        return bytes(found)

    def _all(self):
        # (mark, line), None where a pause may be made
        for row in self._raw() if self._resolution == "raw" else self._statistics():
            if row and self._last is not None and row[0] > self._last:
                return
            yield row

    def _raw(self):
        for row in history.raw(self._memory, None, self._range[0], self._range[1], self._after, True):
            if not isinstance(row, tuple):
                yield None
                continue
            time, value, quality, mark, name = row  # pyright: ignore[reportAssignmentType] - since no name was given
            if name in self._names:
                text = '{"point": %s, "time": %s, "value": %s' % (_text(name), _seconds(time), _text(value))
                yield mark, (text + (', "quality": %s}\n' % _text(quality) if quality else "}\n")).encode()

    def _statistics(self):
        find = history.hours if self._resolution == "hour" else history.days
        for i in range(self._after or 0, len(self._names)):
            name = _text(self._names[i])
            for row in find(self._memory, self._names[i], self._range[0], self._range[1]):
                if not row:
                    yield None
                    continue
                text = '{"point": %s, "time": %d' % (name, row[0] // 1000)
                for j in range(len(_COLUMNS)):
                    text += ', "%s": %s' % (_COLUMNS[j], _text(row[j + 1]))
                yield i + 1, (text + ', "seconds": %s}\n' % _seconds(row[7])).encode()


def _text(value):
    return json.dumps(value)


def _seconds(time):
    # No float of the chip could hold it.
    return "%d.%03d" % (time // 1000, time % 1000)

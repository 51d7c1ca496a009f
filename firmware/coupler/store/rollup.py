# Writes a group, and rolls the hours of a day up into one. Needed once an hour, so app forgets it.
from coupler.const import const
from coupler.store.cells import DAY, ENDED, STATE_SIZE, Cells
from coupler.store.entries import MOST, decode, encode, merge
from coupler.store.groups import by_group, members, walk
from coupler.store.ring import ANCHOR, OVERHEAD, SECTOR, SHORT

_HEAD = const(2)  # bytes that a frame has before its payload
_ALIGN = const(32)  # a group ends at a multiple: there a reader finds its way again, should a frame be damaged
_FULL = const(208)  # SHORT less what aligning may take


def write(groups, cells, following):
    """Write what the cells have come to as a group; `following` is the state after it. Pauses between its frames."""
    ring = groups.ring
    out = bytearray(_HEAD + SHORT + MOST)
    groups.parts = 0
    try:
        if ring.serial < 0 or groups.anchor()[:-2] != groups.told:
            _anchor(groups)
        at = _HEAD
        before = -1
        for slot in range(len(cells.indexes)):
            entry = cells.entry(slot)
            if entry is None:
                continue
            index = cells.indexes[slot]
            end = encode(out, at, index - before, entry, groups.span)
            before = index
            if end > _HEAD + _FULL:
                last = out[at:end]  # the frame's CRC takes its place
                yield from _frame(groups, out, at - _HEAD)
                end = _HEAD + len(last)
                out[_HEAD:end] = last
            at = end
        for i in range(at, len(out)):
            out[i] = 0
        yield from _frame(groups, out, at - _HEAD, _ALIGN)
        _end(groups, following)
    except (OSError, MemoryError):
        groups.told = None
        groups.parts = 0
        ring.at = SECTOR  # it may be this sector
        raise


def _frame(groups, out, n, align=1):
    ring = groups.ring
    while True:
        size = n + (-(ring.at + OVERHEAD + n) % align)
        if ring.at + OVERHEAD + size <= SECTOR:
            break
        ring.prepare()
        yield
        ring.advance()
    if size:
        ring.append(out, size)
        groups.parts += 1
    yield


def _anchor(groups):
    ring = groups.ring
    if ring.serial < 0 or ring.at + STATE_SIZE + 4 > SECTOR:
        ring.advance()
    else:
        ring.put(groups.anchor(), ANCHOR)
    groups.told = groups.anchor()[:-2]


def _end(groups, following):
    before = groups.state()
    groups.begin(*following)
    groups.number += 1
    groups.parts += ENDED
    try:
        _anchor(groups)
    except (OSError, MemoryError):
        groups.begin(*before)
        groups.number -= 1
        raise
    groups.parts = 0


def roll(history):
    """Write the days that are over, from the hours that they had. Pauses in between."""
    hours = history.hours
    days = history.days
    ring = hours.ring
    if ring.serial < 0:
        return
    cells = None
    for found in walk(ring, ring.seek(by_group, 2 * days.seq)):
        if found is None:
            yield
            continue
        number, unix, names, place = found
        if number < days.seq:
            continue
        if cells is None or _other(days, unix, names):
            yield from _day(days, cells, number, unix, names)
            points = history.points(names)
            cells = Cells(points or ())
        if len(cells.indexes):
            for index, buf, at in members(ring, place):
                if index < len(cells.slots):
                    slot = cells.slots[index]
                    if index == cells.indexes[slot]:
                        cells.load(slot, merge(cells.entry(slot), decode(buf, at, hours.span)))
            yield
    if cells and _other(days, hours.unix, hours.names):
        yield from _day(days, cells, hours.number, hours.unix, hours.names)


def _other(days, unix, names):
    return unix // DAY != days.unix // DAY or names != days.names


def _day(days, cells, number, unix, names):
    # What was counted is written; the next day begins with this hour.
    turned = number if unix // DAY < days.unix // DAY else days.turned
    following = (names, number, 0, unix, 0, turned)
    if cells and (any(cells.counts) or any(cells.durations)):
        yield from write(days, cells, following)
    else:
        days.begin(*following)

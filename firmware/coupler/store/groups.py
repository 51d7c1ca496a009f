# Reads a ring of groups. Needed for queries, when a day ends and after a start, so app forgets it.
#
# The state in which a ring goes on, in a sector's header or as an anchor frame, ends a group, or lies within one, or
# begins it once more: what came before was cut off by a power failure.
import struct

from coupler.const import const
from coupler.store.cells import ENDED, STATE
from coupler.store.entries import step_at
from coupler.store.ring import ANCHOR, DATA, END, Frames

_PAUSE = const(8)  # frames between two pauses


def by_time(anchor):
    """When the next group begins, ms Unix."""
    return struct.unpack_from("<Q", anchor, 22)[0]


def by_group(anchor):
    """Twice the number of the next group, one more if a part of it came before."""
    number = struct.unpack_from("<I", anchor, 2)[0]
    return 2 * number + (0 < struct.unpack_from("<H", anchor, 42)[0] < ENDED)


def turned(groups):
    """Whether the clock was set back between the groups that are there: they are not in the order of time then."""
    if not groups.turned:
        return False
    anchor = groups.ring.anchor(groups.ring.oldest)
    return anchor is None or groups.turned > struct.unpack_from("<Q", anchor, 6)[0]


def walk(ring, serial):
    """All whole groups from this sector on: (number, ms Unix, names, place). None: nothing yet, a pause may be made."""
    frames = Frames(ring)
    number = -1
    unix = names = parts = count = 0
    place = None
    while serial <= ring.serial:
        frames.begin(serial)
        anchor = ring.anchor(serial)
        while True:
            if anchor:
                next_names, following, _, _, next_unix, _, _, total = struct.unpack(STATE, anchor)
                if total >= ENDED:
                    if place and total - ENDED == parts and following == number + 1:
                        yield number, unix, names, place + (parts,)
                    total = 0
                    number = -1
                if following != number or total != parts:
                    number = following
                    parts = total
                    place = None
                names = next_names
                unix = next_unix
            at = frames.at
            kind = frames.next()
            if kind == END:
                break
            anchor = None
            if kind == ANCHOR:
                anchor = bytes(memoryview(frames.buf)[frames.start : frames.end])
            elif kind == DATA:
                if not parts:
                    place = serial, at
                parts += 1
            count += 1
            if not count % _PAUSE:
                yield None
        serial += 1


def members(ring, place):
    """(number of the point, buffer, where its entry begins) of each point in the group that lies there."""
    serial, at, parts = place
    frames = Frames(ring)
    frames.begin(serial)
    frames.at = at
    index = -1
    while parts:
        kind = frames.next()
        if kind == END:
            serial += 1
            if serial > ring.serial:
                return
            frames.begin(serial)
        elif kind == DATA:
            parts -= 1
            buf = frames.buf
            at = frames.start
            while at < frames.end and buf[at]:
                index += step_at(buf, at)
                yield index, buf, at
                at += 1 + buf[at]

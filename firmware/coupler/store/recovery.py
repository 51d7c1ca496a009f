# Finds the end of a ring after a start: by search, not by reading all of it. Needed once, so app forgets it.
from coupler.const import const
from coupler.store.ring import ANCHOR, END, SECTOR, Frames

_DAMAGED = const(-2)
_BLANKS = const(3)
_NEAR = const(300)  # bytes, more than a frame of samples has


def open_ring(ring, tail=None):
    """Where to go on writing, and what is the oldest. tail(anchor) -> an object whose frame(kind, frames) is called for
    each frame of the last sector.

    Returns how many bytes behind the last anchor cannot be read, torn by a power cut, or damaged since; and the tail,
    None for a new ring."""
    first = 0
    while first < ring.count and ring.header(first) < 0:
        first += 1
    if first == ring.count:
        return 0, None  # a new ring
    base = ring.header(first) - first
    # In the present lap the serial number minus the place is the same up to the last sector written.
    low = first
    high = ring.count
    while high - low > 1:
        probe = middle = (low + high) // 2
        found = ring.header(probe)
        # A blank one may be one that refused its header.
        while (found == _DAMAGED or found < 0 and probe < middle + _BLANKS) and probe + 1 < high:
            probe += 1
            found = ring.header(probe)
        if found == base + probe:
            low = probe
        else:
            high = middle
    ring.serial = last = base + low
    ring.oldest = max(0, last + 1 - ring.count)
    while ring.header(ring.oldest % ring.count) != ring.oldest:
        ring.oldest += 1
    end = tail(ring.anchor(ring.serial)) if tail else None
    return _end(ring, end), end


def _end(ring, tail):
    ring.at = SECTOR  # until it is known
    frames = Frames(ring)
    frames.begin(ring.serial)
    lost = 0
    while True:
        at = frames.at
        kind = frames.next()
        if kind != END:
            if kind == ANCHOR:
                lost = 0  # it knows the number that follows
            if tail:
                tail.frame(kind, frames)
            continue
        end = ring.blank_from(ring.serial, at)
        if end > at:
            lost += end - at
            at = SECTOR  # to the next one: the torn frame's length may reach over what would follow here
        ring.at = at
        return lost + _hidden(ring)


def _hidden(ring):
    # The sector behind it may have been written too, and only its begin be damaged. Or that was torn, or being erased:
    # then there is no frame of this lap.
    if ring.header((ring.serial + 1) % ring.count) == _DAMAGED:
        frames = Frames(ring)
        frames.serial = ring.serial + 1
        for at in range(ring.start, ring.start + _NEAR):
            if 0 <= frames.look(at) < 0xFF:
                return SECTOR
    return 0

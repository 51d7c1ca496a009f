# The journal: every sample, durable in flash before anyone may send it, from being taken until the ring comes round.
#
# Time in it is the unit's own: milliseconds that never run backwards and stand still while the unit is off. Marks say
# what the clock showed at which of them; so a clock that is set late, or wrongly, changes no record and no difference.
#
# Anchor (in a sector's header, and wherever the thread is taken up again): number of the sample that follows, own time,
# clock minus own time (0: not known), cursor, boot, samples dropped so far, number of the points' names, the period:
# odd when what follows is for this unit alone.
import struct

from coupler.const import const
from coupler.store.ring import ANCHOR, MARK, SECTOR, SHORT, Ring
from coupler.store.samples import MOST, Samples

ANCHORED = "<QQQQIIHB"
ANCHOR_SIZE = const(43)
CLOCK = const(1)  # marks
CURSOR = const(2)
LOCAL = const(1)  # of an anchor's period: what follows is for this unit alone
_MARKED = "<BQ"
_MARK_SIZE = const(9)
_LAST_ANCHOR = const(3950)  # further up in a sector it would leave no room for a sample
_TEXT = const(16)  # characters, 64 bytes at most
_LONGEST = const(250)  # characters: more than registers can hold
_TRIES = const(2)  # sectors that may refuse, one after the other; then there is no use in more,
_REST_MS = const(60000)  # for so long
_EIO = const(5)
_OWED = const(128)  # acknowledged samples, after which the cursor is written down
_FOLD = const(1 << 28)
_HEAD = const(2)  # bytes that a frame has before its payload


def by_number(anchor):
    """Number of the sample that follows an anchor."""
    return struct.unpack_from("<Q", anchor)[0]


class Journal:
    """points: of the configuration, each with name, unit and history. names: the number under which they are kept.

    cloud: whether it wants samples, also those without history. Call recover() of coupler.store.opening first."""

    def __init__(self, hal, flash, first, count, points, boot, names, cloud, on_flush=None, on_drop=None):
        self._hal = hal
        self._boot = boot
        self._ticks = hal.ticks_ms()
        self._later = 0  # ms of own time since _time
        self._time = 0
        self.offset = 0  # of the clock, ms to own time; not known yet
        self._out = bytearray(_HEAD + SHORT + MOST)
        self._at = _HEAD
        self._room = 0
        self._known = Samples(len(points))
        self._fresh = True  # the next sample begins with an anchor
        self._refused = None  # ticks when no sector took anything
        self._told = 0  # the cursor that is written down
        self._shown = 0  # number of the last sample that on_flush was called for
        self.reserved = hal.get_number("seq") or 0
        self.points = points
        self.names = names
        self.cloud = cloud
        self.period = 0 if cloud else LOCAL  # its upper bits count how often that changed
        self.ring = Ring(flash, first, count, ANCHOR_SIZE, self)
        self.next = 1  # number of the next sample
        self.durable = 0  # of the last one in flash
        self.cursor = 0  # of the last one that was acknowledged
        self.dropped = 0  # samples that were never acknowledged
        self.failed = 0  # samples lost to a flash that refused
        self.on_flush = on_flush
        self.on_drop = on_drop  # called with the number of samples

    def waiting(self):
        """How many samples the cloud has not acknowledged."""
        return max(0, self.durable - self.cursor)

    def restart(self, following, cursor, time, dropped, period=0):
        """Where to go on, as found in flash: number of the next sample, cursor, own time, samples dropped so far."""
        self.period = period if period & LOCAL != self.cloud else period + 1 & 0xFF
        self.next = following
        self.durable = self._shown = following - 1
        self.cursor = self._told = min(cursor, self.durable)
        self.dropped = dropped
        self._time = time

    def put(self, index, value, quality, ticks):
        """Take a sample of point `index`. It is durable after flush(), or when enough have come for a frame."""
        if not self.cloud and not self.points[index].history:
            return
        dt = self._hal.ticks_diff(ticks, self._ticks)
        if dt < 0:
            dt = 0
        text = value if isinstance(value, str) else quality
        try:
            if text and len(text) > _TEXT:
                if value:
                    value = value[:_LONGEST]
                end = self._long(index, value, quality, dt, 4 * min(len(text), _LONGEST))
            else:
                end = self._encode(index, value, quality, dt)
        except OSError:
            self.failed += 1  # no sector takes anything: the bus goes on without
            return
        self._took(dt, end)

    def figures(self):
        """What `reported` shows of it."""
        return {
            "last": self.durable,
            "acked": self.cursor,
            "waiting": self.waiting(),
            "dropped": self.dropped,
            "failed": self.failed,
        }

    def flush(self):
        """Make all samples durable; returns whether there were any."""
        if self.next - 1 == self._shown:
            return False
        self._write()
        self._shown = self.durable
        if self.cursor - self._told >= _OWED:
            self.settle()
        if self.on_flush:
            self.on_flush()
        return True

    def ack(self, seq):
        """The cloud has all samples up to seq. Written down now and then: after a power cut some may be sent again."""
        seq = min(seq, self.durable)
        if seq > self.cursor:
            self.cursor = seq

    def settle(self):
        """Write down how far the cursor is, and keep count of time; to be called every few seconds."""
        now = self._hal.ticks_ms()
        passed = self._hal.ticks_diff(now, self._ticks)
        if passed > _FOLD and self.next - 1 == self.durable:
            self._ticks = now
            self._fresh = True  # the time that passed is in the anchor
            self._time += self._later + passed
            self._later = 0
        if self._told != self.cursor:
            self._mark(CURSOR, self.cursor)
            self._told = self.cursor

    def clock(self, unix_ms):
        """The clock was set: it shows this now."""
        self.flush()
        passed = self._hal.ticks_diff(self._hal.ticks_ms(), self._ticks)
        self.offset = unix_ms - self._time - self._later - passed
        if self.ring.serial >= 0:
            self._mark(CLOCK, self.offset)

    def switch(self, cloud):
        """Whether the cloud is wanted from now on. What comes meanwhile is for this unit alone, for good."""
        if cloud != self.cloud:
            self.flush()
            self.cloud = cloud
            self.period = self.period + 1 & 0xFF
            self._fresh = True

    # --- what the ring asks

    def anchor(self):
        return struct.pack(
            ANCHORED,
            self.next,
            self._time + self._later,
            self.offset,
            self.cursor,
            self._boot,
            self.dropped,
            self.names,
            self.period,
        )

    def leaving(self, serial):
        """The ring has come round to this sector: who has not fetched it has lost it."""
        ring = self.ring
        anchor = ring.anchor(serial)
        after = self.next
        while serial < ring.serial:
            serial += 1
            following = ring.anchor(serial)
            if following:
                after = by_number(following)
                break
        first = max(by_number(anchor), self.cursor + 1) if anchor else self.cursor + 1
        lost = after - first
        if lost <= 0:
            return
        self.cursor = after - 1
        if not (anchor and anchor[-1] & LOCAL):
            self.dropped += lost
            if self.on_drop:
                self.on_drop(lost)

    # --- writing

    def _encode(self, index, value, quality, dt):
        if self._fresh or self._room < 1:
            self._begin(1)
        out = self._out
        begun = self._at
        end = self._known.encode(out, begun, index, value, quality, dt)
        need = end - begun
        if end - _HEAD <= self._room:
            return end
        last = out[begun:end]  # the frame's CRC takes its place
        self._write()
        if self._fresh or need > self._room:
            self._begin(need)
            return self._known.encode(out, _HEAD, index, value, quality, dt)
        out[_HEAD : _HEAD + need] = last
        return _HEAD + need

    def _begin(self, need):
        # Of a frame; of a sector, if there is not enough room; of this boot's samples.
        self._write()
        ring = self.ring
        if ring.serial < 0 or ring.room() < need or self._fresh and ring.at > _LAST_ANCHOR:
            self._sector()
        elif self._fresh:
            self._anchor()
        else:
            self._room = ring.room()

    def _anchor(self):
        if self._guard(self.ring.put, self.anchor(), ANCHOR):
            self._taken_up()
        else:
            self._sector()

    def _sector(self):
        hal = self._hal
        if self._refused is not None and 0 <= hal.ticks_diff(hal.ticks_ms(), self._refused) < _REST_MS:
            raise OSError(_EIO)
        self._refused = None
        for left in range(_TRIES - 1, -1, -1):
            try:
                self.ring.advance()
                break
            except OSError:
                if not left:
                    self._room = 0
                    self._refused = hal.ticks_ms()
                    raise
        self._taken_up()
        # Should this sector or the whole journal be lost, numbers go on behind all that it can hold.
        self.reserved = self.next + SECTOR
        self._hal.put_number("seq", self.reserved)

    def _taken_up(self):
        self._known.reset()
        self._fresh = False
        self._told = self.cursor
        self._room = self.ring.room()

    def _took(self, dt, end):
        self._at = end
        self._ticks = self._hal.ticks_add(self._ticks, dt)
        self._later += dt
        if self._later > _FOLD:
            self._time += self._later
            self._later = 0
        self.next += 1

    def _write(self):
        n = self._at - _HEAD
        if n:
            self._at = _HEAD
            self._guard(self.ring.append, self._out, n)
            self._room = self.ring.room()
        self.durable = self.next - 1

    def _guard(self, write, *what):
        try:
            write(*what)
            return True
        except OSError:
            # The chip refused. What follows would build on what is not there: go on behind it.
            self.failed += self.next - 1 - self.durable
            self._fresh = True
            self.ring.at = self.ring.at + 31 & -32

    def _long(self, index, value, quality, dt, length):
        # A text that may need a frame of its own.
        self._begin(1)
        buf = bytearray(_HEAD + MOST + length + 2)
        end = self._known.encode(buf, _HEAD, index, value, quality, dt)
        if self.ring.at + end + 2 > SECTOR:
            self._sector()
            end = self._known.encode(buf, _HEAD, index, value, quality, dt)
        self._guard(self.ring.append, buf, end - _HEAD)
        self._room = self.ring.room()
        return _HEAD

    def _mark(self, kind, value):
        self._write()
        try:
            if self._fresh or self.ring.at > SECTOR - _MARK_SIZE - 4:
                self._fresh = True
                self._begin(1)  # an anchor says it, too, and dates what was taken before the power failed
            else:
                self._guard(self.ring.put, struct.pack(_MARKED, kind, value), MARK)
                self._room = self.ring.room()
        except OSError:
            self._fresh = True

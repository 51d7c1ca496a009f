# Reads the journal from one sample on, as far as it is durable. Several may read at the same time.
import struct

from coupler.const import const
from coupler.store.journal import ANCHORED, CLOCK, LOCAL, by_number
from coupler.store.ring import ANCHOR, DATA, END, MARK, Frames
from coupler.store.samples import Samples

_BEGIN = "<QQQQI"  # of an anchor
_PATIENCE = const(100)  # samples in a row that the cloud must not have


def by_clock(anchor):
    """What the clock showed at an anchor, None where it was not known."""
    _, time, offset = struct.unpack_from("<QQQ", anchor)
    return time + offset if offset else None


class Reader:
    """old(number) -> the points of a former configuration, None if they are no longer known.

    A sample is (seq, point, value, quality, unix_ms): the point has name, unit and history; quality None is good,
    "time": its time is estimated, since the clock was not known until the power failed; unix_ms is None while the clock
    is not known."""

    def __init__(self, journal, old, cloud=True):
        self._journal = journal
        self._old = old
        self._cloud = cloud
        self._frames = Frames(journal.ring)
        self.names = -1  # of the configuration that the last sample is from; its point is points[index]
        self.points = ()
        self.index = 0
        self.time = 0  # own time of the last sample, ms
        self.boot = 0  # the start of the unit in which it was taken
        self.more = False  # read() gave up before the end
        self._known = Samples(0)
        self._at = self._end = 0
        self._buffer = []
        self._undated = False  # there may be samples in it that have their time only now
        self.missing = 0  # numbers that were skipped: dropped, damaged, or torn by a power cut
        self.well = 0  # number of the last sample that was read or passed over; seek() there loses nothing
        self._torn = False  # read() did not come to its end
        self._seq = -1  # of the last sample, whether delivered or not
        self._from = 0
        self._searched = None  # where the journal ended when it said nothing of the clock here
        self.seek(journal.cursor)

    def seek(self, seq):
        """Go on with the first sample whose number is higher than seq."""
        self._buffer = []
        self.well = seq
        self._torn = True  # the way there is part of the next read()

    def _find(self):
        # To where seek() wants to go; or where a read() began that failed, for memory or for the flash.
        ring = self._journal.ring
        self.names = -1
        self._from = self.well
        self._seq = -1
        self._at = self._end = 0
        if ring.serial < 0:
            self._frames.serial = -1
        else:
            self._sector(ring.seek(by_number, self.well + 1))

    def seek_time(self, unix_ms):
        """Go to the sector in which the clock showed this time, or before it."""
        ring = self._journal.ring
        self.seek(0)
        if ring.serial >= 0:
            anchor = ring.anchor(ring.seek(by_clock, unix_ms))
            if anchor:
                self.well = by_number(anchor) - 1

    @property
    def cursor(self):
        return self._journal.cursor

    @property
    def last(self):
        """Number of the last durable sample."""
        return self._journal.durable

    def ack(self, seq):
        self._journal.ack(seq)

    def another(self):
        """One more reader of the same journal."""
        return Reader(self._journal, self._old, self._cloud)

    def peek(self, n):
        """The next n samples, fewer if there are not so many."""
        if self._undated and self._journal.offset:  # the clock was set since they were read
            self._undated = False
            if self._buffer:
                self.seek(self._buffer[0][0] - 1)
        buffer = self._buffer
        while len(buffer) < n:
            sample = self.read(_PATIENCE)
            if sample is None:
                break  # nothing more, or `more`: ask again soon
            if sample[4] is None:
                self._undated = not self._journal.offset
            buffer.append(sample)
        return buffer[:n] if len(buffer) > n else buffer

    def skip(self, n):
        """Go behind the next n samples, which peek() gave."""
        self._buffer = self._buffer[n:]

    def read(self, patience=-1):
        """The next sample behind those of peek(), None behind the last durable one.

        None and `more` after so many samples that were not wanted."""
        self.more = False
        if self._torn:
            self._find()
        self._torn = True
        sample = self._read(patience)
        self._torn = False
        if self._seq > self.well:
            self.well = self._seq
        return sample

    def _read(self, patience):
        while patience:
            known = self._known
            if self._at < self._end:
                try:
                    self._at = known.decode(self._frames.buf, self._at)
                except (ValueError, IndexError):  # the points' names are lost, or a damage that its CRC did not show
                    self._at = self._end
                    patience -= 1
                    continue
                self._seq += 1
                self.time += known.dt
                if self._seq > self._from:
                    point = self.points[known.index]
                    if self._cloud or point.history:
                        return self._sample(point)
            elif not self._next():
                return None
            elif self._wanted:
                continue
            patience -= 1
        self.more = True
        return None

    def again(self):
        """The sample that read() gave last, with its time, if that is known by now."""
        return self._sample(self.points[self.index])

    def _sample(self, point):
        known = self._known
        self.index = known.index
        quality = known.quality
        time = None
        if not self._offset:
            self._resolve()
        if self._offset:
            time = self.time + self._offset
            if self._estimated and quality is None:
                quality = "time"
        return self._seq, point, known.value, quality, time

    def _next(self):
        # The next frame of samples.
        journal = self._journal
        frames = self._frames
        ring = journal.ring
        if frames.serial < ring.oldest:
            if ring.serial < 0:
                return False
            self._sector(ring.oldest)
        while True:
            kind = frames.next()
            if kind == DATA:
                self._end = frames.end
                self._at = frames.start if self._wanted else self._end
                return True
            if kind == ANCHOR:
                try:
                    self._anchor(bytes(memoryview(frames.buf)[frames.start : frames.end]))
                except (OSError, MemoryError):
                    frames.at -= frames.end + 2  # it is still to be read
                    raise
            elif kind == MARK:
                if frames.buf[frames.start] == CLOCK:
                    self._offset = struct.unpack_from("<Q", frames.buf, frames.start + 1)[0]
                    self._estimated = False
            elif kind == END:
                if frames.serial >= ring.serial:
                    return False
                self._sector(frames.serial + 1)

    def _sector(self, serial):
        ring = self._journal.ring
        self._at = self._end = 0
        while serial <= ring.serial:
            anchor = ring.anchor(serial)
            if anchor is not None:
                # Between two sectors of one and the same time without the cloud there is nothing for it.
                local = self._cloud and anchor[-1] & LOCAL and serial < ring.serial
                following = ring.anchor(serial + 1) if local else None
                if following is None or following[-1] != anchor[-1]:
                    self._anchor(anchor)
                    break
                self._seq = -1  # what is passed over is not missing
                self.well = max(self.well, by_number(following) - 1)
            serial += 1
        else:
            # The header of the last sector is damaged: what its frames mean is known from its next anchor on only.
            self._wanted = False
            self._known = Samples(0)
            self.names = -1
        self._frames.begin(min(serial, ring.serial))

    def _anchor(self, anchor):
        first, self.time, offset, _, self.boot, _, names, flags = struct.unpack(ANCHORED, anchor)
        if 0 <= self._seq < first - 1:
            self.missing += first - 1 - self._seq
        self._seq = first - 1
        self._offset = offset
        self._estimated = False
        self._searched = None
        if names != self.names:
            self.points = self._journal.points if names == self._journal.names else self._old(names)
            self._known = Samples(len(self.points or ()))
            self.names = names
        else:
            self._known.reset()
        self._wanted = self.points
        if self._cloud and flags & LOCAL:
            self._wanted = False
            self._seq = -1  # not missing

    def _resolve(self):
        # The clock was not known here: its next mark tells. Headers show in which sector that is.
        ring = self._journal.ring
        if self._searched == (ring.serial, ring.at):
            return
        self._searched = (ring.serial, ring.at)
        frames = Frames(ring)
        frames.serial = serial = self._frames.serial
        frames.at = self._frames.at
        while not self._scan(frames) and serial < ring.serial:
            anchor = None
            while serial < ring.serial and (anchor is None or not self._tells(anchor)):
                serial += 1
                anchor = ring.anchor(serial)
            # What tells may have come earlier: in the sector before, which was read if it is the one we are in.
            if serial - 1 > self._frames.serial:
                frames.begin(serial - 1)
                if self._scan(frames):
                    return
            if anchor and self._dates(anchor):
                return
            frames.begin(serial)

    def _scan(self, frames):
        # Whether something in the rest of a sector tells the time.
        while True:
            kind = frames.next()
            if kind == END:
                return False
            if kind == MARK and frames.buf[frames.start] == CLOCK:
                self._offset = struct.unpack_from("<Q", frames.buf, frames.start + 1)[0]
                return True
            if kind == ANCHOR and self._dates(memoryview(frames.buf)[frames.start : frames.end]):
                return True

    def _tells(self, anchor):
        _, _, offset, _, boot = struct.unpack_from(_BEGIN, anchor)
        return offset or boot != self.boot

    def _dates(self, anchor):
        _, _, offset, _, boot = struct.unpack_from(_BEGIN, anchor)
        if boot != self.boot:
            self._estimated = True  # the power failed in between
        self._offset = offset
        return offset

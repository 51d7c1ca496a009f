# What goes up: samples of the source in packs, a window of them on the way, and the cursor that follows the
# acknowledgements. What is new goes first. When a connection finds much that is older, that becomes a backlog, which is
# drained beside it (docs/decisions/0033).
from coupler.const import const
from coupler.uplink.senml import pack

_PACK = const(24)  # samples
_PACK_BYTES = const(2048)
_WINDOW = const(4)  # packs on the way; the MQTT window has room for other things besides
_BESIDE = const(3)  # while there is a backlog
_GATHERED = const(48)  # samples of a pack when they gather for an interval; then one pack is on the way
_GATHERED_BYTES = const(4096)
_BEHIND = const(96)  # samples: more than that is a backlog
_AHEAD = const(256)  # samples sent but not yet in the store, when the store's acknowledgement counts


class Outbox:
    """source: a Reader of the journal: peek(n), skip(n), seek(seq), more, ack(seq), cursor, last, another().

    cloud: the compiled configuration's part. ack: "broker" - a PUBACK moves the cursor; "store" - stored() does.
    interval: ms in which samples gather, to go up together; 0: each goes at once.
    backlog: samples a second that are sent of a backlog; 0: as many as go."""

    def __init__(self, hal, dialect, mqtt, source, cloud, count):
        self._hal = hal
        self._dialect = dialect
        self._mqtt = mqtt
        self.by_store = cloud["ack"] == "store"
        self._rate = cloud.get("backlog", 0)
        self.interval = cloud.get("interval", 0)
        self._last = None  # ticks when the last interval was over
        self._draining = False  # what had gathered then is not all on its way
        self.count = count
        self.source = source  # of what is new; without a backlog of everything
        self.sent = 0  # seq of the last sample of it that was sent; 0: it began at the cursor
        self.behind = False  # the last packet was of the backlog
        self.more = False  # next() gave up before the source's end: ask again soon
        self._backlog = None
        self._stored = 0  # up to which the store says it has everything
        self._silent = 0  # ms since the cursor moved, while the store could acknowledge something
        self._repeat = iter(())

    repeat_ms = 30000  # what the store has not acknowledged for so long goes again: it may have come later than we

    def connected(self, session_present):
        """A new connection: what was on the way goes again, first and in order."""
        mqtt = self._mqtt
        if self.by_store:
            # From the cursor, but for what the broker took while it was new.
            backlog = self._backlog
            if backlog:
                backlog.rewind()
                self.sent = self._sure(backlog.end, self.sent)
                self.source.seek(self.sent)
            else:
                self._rewind()
            mqtt.in_flight = []
        else:
            # Presence and results are of their moment, only packs are repeated.
            mqtt.in_flight = [entry for entry in mqtt.in_flight if entry[2]]
        self._divide()
        self._repeat = mqtt.resume(session_present)

    def _rewind(self):
        self._backlog = None
        self.source.seek(self.source.cursor)
        self.sent = self._silent = 0

    def _divide(self):
        # What lies far behind must not keep waiting what is new.
        source = self.source
        end = source.last
        if end - max(self.sent, source.cursor) <= _BEHIND:
            return
        backlog = self._backlog
        if backlog:
            backlog.grow(self.sent, end)
        else:
            from coupler.uplink.backlog import Backlog

            try:
                self.source = source.another()
            except MemoryError:
                return  # then all in its order
            self._backlog = Backlog(source, self.sent, end, self._rate)
        self.source.seek(end)
        self.sent = end

    def elapsed(self, ms):
        """Time passed; whether next() is to be asked."""
        backlog = self._backlog
        if backlog:
            backlog.elapsed(ms)
        # What is new cannot be acknowledged before the backlog is.
        if self.by_store and (backlog or self).sent > self.source.cursor:
            self._silent += ms
            if self._silent >= self.repeat_ms:
                self._rewind()
                self._divide()
                return True
        return self.interval or backlog

    def next(self):
        """The next packet to write, or None: nothing to send, not yet time for it, or the window is full."""
        for packet in self._repeat:
            self.count["repeated"] += 1
            return packet
        self.more = False
        if not self._mqtt.room():
            return None
        backlog = self._backlog
        end = backlog.end if backlog else 0
        new = old = 0  # packs on the way
        for _, _, token in self._mqtt.in_flight:
            if token:
                if token[0] > end:
                    new += 1
                else:
                    old += 1
        if new >= (1 if self.interval else _BESIDE if backlog else _WINDOW):
            return None  # the backlog waits too: it must not overtake
        packet = self._new(new)
        # A reader that is not at its end may be about to find something new.
        return packet if packet or self.more or not backlog else backlog.next(self, old)

    def _new(self, flying):
        source = self.source
        interval = self.interval
        if self.by_store and not self._backlog and self.sent - source.cursor >= _AHEAD:
            return None
        if interval and not self._draining:
            now = self._hal.ticks_ms()
            if self._last is not None and 0 <= self._hal.ticks_diff(now, self._last) < interval:
                return None
            self._last = now
            self._draining = True  # all that is there now
        most = _GATHERED if interval else _PACK
        samples = source.peek(most)
        if len(samples) < most:
            self.more = self._draining = source.more
            # What is there goes at once while the line is idle; while a pack is on the way, smaller ones gather. But
            # they do not let the backlog pass.
            if not samples or flying and not self.behind:
                return None
        packet = self.packet(self, samples)
        self.behind = False
        if self.sent != samples[-1][0]:
            self._draining = True
        return packet

    def packet(self, part, samples):
        """Of these samples, as many as it takes. part: what they are of, this or the backlog."""
        limit = _GATHERED_BYTES if self.interval else _PACK_BYTES
        dialect = self._dialect
        payload = pack(dialect.id, samples, part.sent)
        while len(payload) > limit and len(samples) > 1:
            samples = samples[: len(samples) // 2]
            payload = pack(dialect.id, samples, part.sent)
        token = (samples[0][0], samples[-1][0])
        packet = self._mqtt.publish(dialect.telemetry, payload, 1, False, token)
        part.source.skip(len(samples))
        part.sent = token[1]
        self.count["packs"] += 1
        self.count["samples"] += len(samples)
        return packet

    def acked(self, token):
        """The broker has the packet that was published with this token."""
        if token:
            self.settle()

    def stored(self, seq):
        """The store has all samples up to seq."""
        seq = min(seq, self.source.last)  # of what comes later it cannot speak
        if self.by_store and seq > self._stored:
            self._stored = seq
            self.settle()

    def _sure(self, low, upto):
        # Up to where the broker has all that was sent above `low`: acknowledgements may overtake each other.
        for _, _, token in self._mqtt.in_flight:
            if token and low < token[0] <= upto:
                upto = token[0] - 1
        return upto

    def settle(self):
        # The cursor stays below the oldest pack on the way, and below what was not sent yet. A store that claims more
        # has only seen what is newer.
        source = self.source
        backlog = self._backlog
        upto = self._sure(0, (backlog or self).sent)
        if self.by_store:
            upto = min(upto, self._stored)
        if upto > source.cursor:
            self._silent = 0
            self.count["acked"] = upto
            source.ack(upto)
        if backlog and source.cursor >= backlog.end:
            self._forget()
            self.settle()

    def drained(self):
        """The backlog has nothing more to send."""
        backlog = self._backlog
        if self.sent == backlog.end:
            # Nothing new went up yet: it will follow the last of the backlog.
            self.sent = min(self.sent, backlog.sent)
            self._forget()
        self.settle()

    def _forget(self):
        self._backlog = None
        self._hal.forget("coupler.uplink.backlog")

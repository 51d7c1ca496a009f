# What goes up: samples of the source in packs, a window of them on the way, and the cursor that follows the
# acknowledgements.
from coupler.const import const
from coupler.uplink.senml import pack

_PACK = const(24)  # samples
_PACK_BYTES = const(2048)
_WINDOW = const(4)  # packs on the way; the MQTT window has room for other things besides
_GATHERED = const(48)  # samples of a pack when they gather for an interval; then one pack is on the way
_GATHERED_BYTES = const(4096)
_AHEAD = const(256)  # samples sent but not yet in the store, when the store's acknowledgement counts


class Outbox:
    """source: a Reader of the journal: peek(n), skip(n), seek(seq), ack(seq), cursor.

    cloud: the compiled configuration's part. ack: "broker" - a PUBACK moves the cursor; "store" - stored() does.
    interval: ms in which samples gather, to go up together; 0: each goes at once."""

    def __init__(self, hal, dialect, mqtt, source, cloud, count):
        self._hal = hal
        self._dialect = dialect
        self._mqtt = mqtt
        self._source = source
        self._by_store = cloud["ack"] == "store"
        self.interval = cloud.get("interval", 0)
        self._last = None  # ticks when the last interval was over
        self._draining = False  # what had gathered then is not all on its way
        self._count = count
        self._sent = 0  # seq of the last sample that was sent
        self._silent = 0  # ms since the store acknowledged something
        self._flying = 0
        self._repeat = iter(())

    repeat_ms = 30000  # what the store has not acknowledged for so long goes again: it may have come later than we

    def connected(self, session_present):
        """A new connection: what was on the way goes again, first and in order."""
        mqtt = self._mqtt
        # Presence and results are of their moment, only packs are repeated; with the store's acknowledgement from the
        # cursor.
        mqtt.in_flight = [] if self._by_store else [entry for entry in mqtt.in_flight if entry[2]]
        self._flying = len(mqtt.in_flight)
        if self._by_store:
            self._again()
        self._repeat = mqtt.resume(session_present)

    def _again(self):
        self._source.seek(self._source.cursor)
        self._sent = self._silent = 0

    def elapsed(self, ms):
        """Time passed; whether next() is to be asked."""
        if self._by_store and self._sent > self._source.cursor:
            self._silent += ms
            if self._silent >= self.repeat_ms:
                self._again()
                return True
        return self.interval

    def next(self):
        """The next packet to write, or None: nothing to send, not yet time for it, or the window is full."""
        for packet in self._repeat:
            self._count["repeated"] += 1
            return packet
        source = self._source
        interval = self.interval
        if self._flying >= (1 if interval else _WINDOW) or not self._mqtt.room():
            return None
        if self._by_store and self._sent - source.cursor >= _AHEAD:
            return None
        most = _GATHERED if interval else _PACK
        if interval and not self._draining:
            now = self._hal.ticks_ms()
            if self._last is not None and 0 <= self._hal.ticks_diff(now, self._last) < interval:
                return None
            self._last = now
            self._draining = True  # all that is there now
        samples = source.peek(most)
        if len(samples) < most:
            self._draining = False
            # What is there goes at once while the line is idle; while a pack is on the way, smaller ones gather.
            if not samples or self._flying:
                return None
        limit = _GATHERED_BYTES if interval else _PACK_BYTES
        payload = pack(self._dialect.id, samples)
        while len(payload) > limit and len(samples) > 1:
            samples = samples[: len(samples) // 2]
            self._draining = True
            payload = pack(self._dialect.id, samples)
        token = (samples[0][0], samples[-1][0])
        packet = self._mqtt.publish(self._dialect.telemetry, payload, 1, False, token)
        source.skip(len(samples))
        self._sent = token[1]
        self._flying += 1
        self._count["packs"] += 1
        self._count["samples"] += len(samples)
        return packet

    def more(self):
        """The source has not got to its end: ask again soon."""
        return self._source.more and self._mqtt.connected and self._flying < _WINDOW

    def acked(self, token):
        """The broker has the packet that was published with this token."""
        if not token:
            return
        self._flying -= 1
        if not self._by_store:
            # Acknowledgements may overtake each other: the cursor stays below the oldest pack still on the way.
            first = [entry[2][0] for entry in self._mqtt.in_flight if entry[2]]
            self._forget(min(first) - 1 if first else self._sent)

    def stored(self, seq):
        """The store has all samples up to seq; it cannot have what was never sent."""
        if self._by_store:
            self._forget(min(seq, self._sent))

    def _forget(self, seq):
        if seq > self._source.cursor:
            self._silent = 0
            self._count["acked"] = seq
            self._source.ack(seq)

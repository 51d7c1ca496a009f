# What goes up: samples of the source in packs, a window of them on the way, and the cursor that follows the
# acknowledgements.
from coupler.const import const
from coupler.uplink.senml import pack

_PACK = const(24)  # samples
_PACK_BYTES = const(2048)
_WINDOW = const(4)  # packs on the way; the MQTT window has room for other things besides
_AHEAD = const(256)  # samples sent but not yet in the store, when the store's acknowledgement counts


class Outbox:
    """ack: "broker" - a PUBACK moves the cursor; "store" - stored() does."""

    def __init__(self, hal, dialect, mqtt, source, ack, count):
        self._hal = hal
        self._dialect = dialect
        self._mqtt = mqtt
        self._source = source
        self._by_store = ack == "store"
        self._count = count
        self._sent = None  # seq of the last sample that was sent
        self._cursor = None  # seq up to which the source was told to forget; None until something was sent
        self._flying = 0
        self._repeat = iter(())

    def connected(self, session_present):
        """A new connection: what was on the way goes again, first and in order."""
        mqtt = self._mqtt
        # Presence and results are of their moment, only packs are repeated; with the store's acknowledgement from the
        # cursor.
        mqtt.in_flight = [] if self._by_store else [entry for entry in mqtt.in_flight if entry[2]]
        self._flying = len(mqtt.in_flight)
        if self._by_store:
            self._sent = self._cursor
        self._repeat = mqtt.resume(session_present)

    def next(self):
        """The next packet to write, or None: nothing to send, or the window is full."""
        for packet in self._repeat:
            self._count["repeated"] += 1
            return packet
        if self._flying >= _WINDOW or not self._mqtt.room():
            return None
        samples = self._samples()
        # What is there goes at once while the line is idle; while a pack is on the way, smaller ones gather.
        if not samples or self._flying and len(samples) < _PACK:
            return None
        payload = pack(self._dialect.client_id, samples)
        while len(payload) > _PACK_BYTES and len(samples) > 1:
            samples = samples[: len(samples) // 2]
            payload = pack(self._dialect.client_id, samples)
        token = (samples[0][0], samples[-1][0])
        if self._cursor is None:
            self._cursor = token[0] - 1
        self._sent = token[1]
        self._flying += 1
        self._count["packs"] += 1
        self._count["samples"] += len(samples)
        return self._mqtt.publish(self._dialect.telemetry, payload, 1, False, token)

    def _samples(self):
        sent = self._sent
        if sent is None:
            found = self._source.peek(_PACK)
        else:
            ahead = min(sent - self._cursor, _AHEAD)
            found = self._source.peek(_PACK + ahead)
            if ahead:
                found = [sample for sample in found if sample[0] > sent][:_PACK]
        return [self._timed(sample) for sample in found]

    def _timed(self, sample):
        # Taken before the time was known: its age tells when it was.
        if sample[4] is not None:
            return sample
        now = self._hal.now_ms()
        if now is None:
            return sample
        seq, name, value, quality, _, ticks, unit = sample
        return seq, name, value, quality, now - self._hal.ticks_diff(self._hal.ticks_ms(), ticks), ticks, unit

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
        if self._by_store and self._sent is not None:
            self._forget(min(seq, self._sent))

    def _forget(self, seq):
        if seq > self._cursor:
            self._cursor = seq
            self._count["acked"] = seq
            self._source.ack(seq)

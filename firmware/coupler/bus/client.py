# Modbus RTU client of one bus: one request at a time, on a port that hal made.
#
# A device that answers too late must not have its answer taken for the next request's: RTU frames carry no transaction
# number, so an answer is known only by unit, function and length. After a request that went unanswered, a request for
# the same unit and function waits until that answer came or can no longer be expected; other units go on meanwhile.

from coupler.bus import pdu, rtu
from coupler.bus.errors import KINDS, BusError
from coupler.const import const

_IDLE_MS = const(50)  # gaps inside an answer are shorter than this
_LATE = const(2)  # an answer may come this many timeouts after its timeout
_RETRIES = const(1)  # of a request whose answer came broken; a missing one is the scheduler's affair
_REQUEST = const(8)


class Client:
    def __init__(self, port, hal):
        self._port = port
        self._hal = hal
        self._request = memoryview(bytearray(_REQUEST))
        self._receiver = rtu.Receiver()
        self._late = []  # [unit, function, data bytes, until ticks]: answers that may still come
        self._busy = False
        self.stats = {
            "requests": 0,
            "answers": 0,
            "retries": 0,
            "errors": {kind: 0 for kind in KINDS},
            "foreign": 0,
            "sent": 0,
            "received": 0,
            "rtt_min": 0,  # milliseconds from the request's first bit until the answer was taken
            "rtt_mean": 0,
            "rtt_max": 0,
        }
        self._rtt_sum = 0

    async def read(self, unit, fc, address, count, timeout_ms):
        """The answer's data (registers big endian, or packed bits), valid until the next call; raises BusError.

        timeout_ms is what the device may take until its answer begins; the time on the wire comes on top."""
        pdu.check(fc, address, count)
        if not 1 <= unit <= 247:
            raise ValueError("unit %s: 1 to 247" % unit)
        if self._busy:
            raise RuntimeError("one request at a time")
        self._busy = True
        try:
            await self._settle(unit, fc)
            tries = 0
            while True:
                state = await self._transact(unit, fc, address, count, timeout_ms)
                if state == rtu.ANSWER:
                    return self._receiver.data
                kind = self._kind(state)
                self.stats["errors"][kind] += 1
                if state != rtu.BROKEN or tries == _RETRIES:
                    raise BusError(kind, unit, fc, address, count, self._receiver.code)
                tries += 1
                self.stats["retries"] += 1
        finally:
            self._busy = False

    def settles_in(self, unit, fc):
        """Milliseconds for which read() would wait for a late answer before it asks; 0: it asks at once."""
        late = self._find(unit, fc)
        return max(0, self._hal.ticks_diff(late[3], self._hal.ticks_ms())) if late else 0

    def _find(self, unit, fc):
        for late in self._late:
            if late[0] == unit and late[1] == fc:
                return late
        return None

    async def _settle(self, unit, fc):
        hal = self._hal
        for late in list(self._late):
            if hal.ticks_diff(late[3], hal.ticks_ms()) <= 0:
                self._late.remove(late)
        late = self._find(unit, fc)
        if late:
            state = rtu.BROKEN
            while state == rtu.BROKEN and hal.ticks_diff(late[3], hal.ticks_ms()) > 0:
                self._receiver.expect(unit, fc, late[2])
                state = await self._listen(late[3])
            self._late.remove(late)

    async def _transact(self, unit, fc, address, count, timeout_ms):
        hal = self._hal
        stats = self.stats
        request = self._request
        size = pdu.byte_count(fc, count)
        request[0] = unit
        length = rtu.seal(request, pdu.put_read(request, 1, fc, address, count))
        self._receiver.expect(unit, fc, size, request[:length] if self._port.echo else None)
        stats["requests"] += 1
        stats["sent"] += length
        state = rtu.PENDING
        start = end = hal.ticks_ms()
        try:
            await self._port.send(request[:length])
            end = hal.ticks_ms()
            wire = self._port.char_us * (size + 5 + (length if self._port.echo else 0)) // 1000 + 1
            state = await self._listen(hal.ticks_add(end, timeout_ms + wire))
        finally:
            if state == rtu.PENDING:  # also when cancelled
                self._late.append((unit, fc, size, hal.ticks_add(hal.ticks_ms(), _LATE * timeout_ms)))
        stats["foreign"] += self._receiver.foreign
        if state == rtu.ANSWER:
            self._answered(hal.ticks_diff(hal.ticks_ms(), start))
        return state

    async def _listen(self, deadline):
        # Take bytes until the receiver knows, or until the deadline.
        port = self._port
        hal = self._hal
        receiver = self._receiver
        while True:
            left = hal.ticks_diff(deadline, hal.ticks_ms())
            if left <= 0:
                return receiver.quiet()
            some = receiver.bytes()
            if await port.wait(min(left, _IDLE_MS) if some else left):
                n = port.readinto(receiver.space())
                self.stats["received"] += n
                state = receiver.took(n)
            else:
                state = receiver.quiet() if some else rtu.PENDING
            if state != rtu.PENDING:
                return state

    def _kind(self, state):
        receiver = self._receiver
        if state == rtu.EXCEPTION:
            return "exception"
        if state == rtu.BROKEN or receiver.bytes():
            return "crc"
        return "frame" if receiver.foreign else "timeout"

    def _answered(self, ms):
        stats = self.stats
        if not stats["answers"] or ms < stats["rtt_min"]:
            stats["rtt_min"] = ms
        if ms > stats["rtt_max"]:
            stats["rtt_max"] = ms
        stats["answers"] += 1
        self._rtt_sum += ms
        stats["rtt_mean"] = self._rtt_sum // stats["answers"]

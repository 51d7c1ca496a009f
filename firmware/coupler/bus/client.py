# Modbus RTU client of one bus: one transaction at a time, on a port that hal made.
#
# A device that answers too late must not have its answer taken for the next request's: RTU frames carry no transaction
# number, so an answer is known only by what it begins with: unit, function, and byte count or echoed fields. After a
# request that went unanswered, a request whose answer would begin alike waits until that answer came or can no longer
# be expected; all others go on meanwhile.
#
# The second copy of an answer that comes twice is dropped with the silence that hal.port keeps before a request, or it
# collides with that request. One that begins even later is beyond what the protocol can tell.

from struct import pack

from coupler.bus import pdu, rtu
from coupler.bus.base import Base
from coupler.const import const

_IDLE_MS = const(50)  # gaps inside an answer are shorter than this
_LATE = const(2)  # an answer may come this many timeouts after its timeout
_PEEK_MS = const(20)
_SURE = const(3)  # reads after which it is known whether the transceiver echoes


class Client(Base):
    def __init__(self, port, hal):
        super().__init__(hal, 1)
        self.port = port
        self._receiver = rtu.Receiver()
        self._late = []  # (head, size, until ticks): answers that may still come
        self._echoes = 0
        self.stats["busy_us"] = 0  # of the line: from the silence before a request to its answer

    def read(self, unit, fc, address, count, timeout_ms):
        """To be awaited: the answer's data (registers big endian, or packed bits), valid until the caller awaits again.

        timeout_ms is what the device may take until its answer begins; the time on the wire comes on top. BusError."""
        size = pdu.check(fc, address, count)
        if not 1 <= unit <= 247:
            raise ValueError("unit %s: 1 to 247" % unit)
        frame = rtu.seal(pack(">BBHH", unit, fc, address, count))
        return self.ask(frame, bytes((unit, fc, size)), size + 5, timeout_ms, 3, 1)

    def transact(self, unit, request, timeout_ms):
        """To be awaited: the PDU that answers the PDU `request`, else as read(); it is repeated only if it reads.

        unit 0: a broadcast, None after timeout_ms in which the devices may act. ValueError: it may not be sent."""
        from coupler.bus import transact

        return transact.transact(self, unit, request, timeout_ms)

    def settles_in(self, unit, fc):
        """Milliseconds for which a request with this function may wait for a late answer before it is sent."""
        hal = self.hal
        left = 0
        for head, _, until in self._late:
            if head[0] == unit and head[1] == fc:
                left = max(left, hal.ticks_diff(until, hal.ticks_ms()))
        return left

    def _find(self, head):
        # The late answer that begins like this one.
        hal = self.hal
        now = hal.ticks_ms()
        self._late = [late for late in self._late if hal.ticks_diff(late[2], now) > 0]
        for late in self._late:
            if late[0] == head:
                return late
        return None

    async def _begin(self, head):
        # Wait for the turn, and before that, while others have theirs, for a late answer.
        while True:
            while True:
                late = self._find(head)
                if not late:
                    break
                if self._free:
                    self._peek(late)
                await self.hal.sleep_ms(_PEEK_MS)
            await self.turn()
            if not self._find(head):
                return
            self.done()

    def _peek(self, late):
        # Nobody has a turn, so nobody listens.
        receiver = self._receiver
        if receiver.head is not late[0]:
            receiver.expect(late[0], late[1])
        n = self.port.readinto(receiver.space())
        state = receiver.took(n) if n else receiver.quiet()
        if state != rtu.PENDING and state != rtu.BROKEN:
            self._came(receiver.frame)

    def _came(self, frame):
        # Devices answer in order, so an exception that fits several is the oldest one's.
        self.stats["foreign"] += 1
        for late in self._late:
            head = late[0]
            if frame[: len(head)] == head or frame[0] == head[0] and frame[1] == head[1] | 0x80:
                self._late.remove(late)
                break

    async def ask(self, frame, head, size, timeout_ms, skip, tries):
        # The answer without its first `skip` bytes and the CRC.
        hal = self.hal
        port = self.port
        receiver = self._receiver
        stats = self.stats
        if self._free and not self._late:
            self._free = 0
        else:
            await self._begin(head)
        left = wait = 0
        state = rtu.PENDING
        try:
            while True:
                receiver.expect(head, size, None if port.echo is False else frame)
                stats["requests"] += 1
                stats["sent"] += len(frame)
                left = wait = timeout_ms + 1 + port.char_us * size // 1000
                some = 0
                state = rtu.PENDING
                begin = hal.ticks_us()
                await port.send(frame)
                sent = hal.ticks_us()
                while True:
                    if await port.wait(min(left, _IDLE_MS) if some else left):
                        n = port.readinto(receiver.space())
                        stats["received"] += n
                        state = receiver.took(n)
                    elif some:
                        state = receiver.quiet()
                    if state > rtu.ANSWER:
                        state = self._weigh(state, head)
                    if state != rtu.PENDING:
                        break
                    some = receiver.bytes()
                    left = wait - hal.ticks_diff(hal.ticks_us(), sent) // 1000
                    if left <= 0:
                        state = self._weigh(receiver.quiet(), head)
                        break
                us = hal.ticks_diff(hal.ticks_us(), begin)
                stats["busy_us"] += us
                if port.echo is None and frame[1] <= 4:
                    self._learn(state)
                if state == rtu.ANSWER:
                    self._answered(us)
                    return receiver.frame[skip:-2]
                error = self.failed(self._kind(state), frame, receiver.code)
                if state != rtu.BROKEN or not tries:
                    raise error
                tries = 0
                stats["retries"] += 1
        finally:
            if state == rtu.PENDING:  # also when cancelled
                until = hal.ticks_add(hal.ticks_ms(), max(0, left) + _LATE * timeout_ms)
                self._late.append((head, size, until))
            self.done()

    def _weigh(self, state, head):
        # What is no answer to this request may be a late one. An exception may be late too: then the answer follows.
        if state == rtu.FOREIGN:
            self._came(self._receiver.frame)
            return rtu.PENDING
        if state == rtu.EXCEPTION:
            for late in self._late:
                if late[0][:2] == head[:2]:
                    return rtu.PENDING
        return state

    def _learn(self, state):
        # What echoes does so always; so a clean answer without its request before it, or nothing at all, is proof.
        receiver = self._receiver
        if receiver.echoed:
            if state == rtu.ANSWER:
                self._echoes += 1
                if self._echoes == _SURE:
                    self.port.echo = True
        elif receiver.bytes() == (len(receiver.frame) if state == rtu.ANSWER else 0):
            self.port.echo = False

    def _kind(self, state):
        receiver = self._receiver
        if receiver.code:
            return "exception"
        if state == rtu.BROKEN or receiver.bytes():
            return "crc"
        return "frame" if receiver.foreign else "timeout"

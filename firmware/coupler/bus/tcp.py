# Modbus TCP client of one server: connects when first asked, has several requests in flight and matches the answers by
# their transaction ids.
#
# One task connects and reads. Whatever goes wrong in it ends the connection and fails what is pending; then it sleeps
# the back-off out, and the next request starts another. Requests write by themselves, one after the other; one that is
# given up in the middle of that takes the connection with it, for half a request cannot be taken back.

import asyncio
from struct import pack

from coupler.bus import mbap, pdu
from coupler.bus.base import Base
from coupler.bus.request import answer_size, check_request
from coupler.const import const

_CONNECT_MS = const(5000)
_ADDRESSES = const(4)
_PAUSE_MS = const(1000)  # after a connection that gave no answer, doubled each time,
_PAUSE_MAX_MS = const(30000)  # up to this
_SILENT = const(3)  # timeouts in a row, for each request that may be in flight: then the connection is taken for dead


class _Slot:
    # A request in flight.
    def __init__(self, frame):
        self.frame = frame  # unit and PDU
        self.over = asyncio.Event()  # answered, or the connection is over
        self.begin = None  # ticks when it was written
        self.answer = None  # its PDU; empty if what came does not answer it


class TcpClient(Base):
    """resolve(hal, host) -> IP addresses, to be awaited. flight: how many requests may be under way at once."""

    def __init__(self, hal, host, port, resolve, flight):
        super().__init__(hal, flight)
        self._host = host
        self._port = port
        self._resolve = resolve
        self._most_silent = _SILENT * flight
        self._silent = 0  # timeouts in a row
        self._pending = {}  # transaction id -> slot
        self._tid = 0
        self._writing = asyncio.Lock()
        self._task = None
        self._ready = None  # the event at which it is known whether there is a connection
        self._stream = None
        self._failures = 0  # connections in a row without an answer
        self._torn = False  # by us
        self._closed = False
        self.why = ""  # the last connection ended
        self.stats["connects"] = 0

    async def read(self, unit, fc, address, count, timeout_ms):
        """The answer's data (registers big endian, or packed bits). BusError; kind "link": there is no connection."""
        pdu.check(fc, address, count)
        return (await self.transact(unit, pack(">BHH", fc, address, count), timeout_ms))[2:]

    async def transact(self, unit, request, timeout_ms):
        """The PDU that answers the request's, within timeout_ms from its turn on. ValueError: it may not be sent.

        While there is no connection it fails at once, except during an attempt to connect, which it waits for."""
        check_request(request)
        if not 0 <= unit <= 255:
            raise ValueError("unit %s: 0 to 255" % unit)
        slot = _Slot(bytes((unit,)) + bytes(request))
        await self.turn()
        try:
            await asyncio.wait_for(self._exchange(slot), timeout_ms / 1000)
        except asyncio.TimeoutError:
            if slot.begin is None:
                raise self.failed("link", slot.frame)
            self._silent += 1
            if self._silent >= self._most_silent:
                self._tear("the server is silent")
            raise self.failed("timeout", slot.frame)
        finally:
            self.done()
        answer = slot.answer
        if answer is None:
            raise self.failed("link", slot.frame)
        if not answer:
            raise self.failed("frame", slot.frame)
        if answer[0] & 0x80:
            raise self.failed("exception", slot.frame, answer[1])
        return memoryview(answer)

    def settles_in(self, unit, fc):
        """Late answers are known by their transaction ids: there is nothing to wait for."""
        return 0

    async def close(self):
        """Requests in flight and all later ones fail with BusError "link"."""
        self._closed = True
        task = self._task
        if task is not None:
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                pass
            self._over()  # a task that had not begun has not done it
            self._task = None

    async def _exchange(self, slot):
        if self._stream is None and not self._closed:
            if self._task is None:
                self._ready = asyncio.Event()
                self._task = asyncio.create_task(self._run())
            await self._ready.wait()
        tid = None
        try:
            async with self._writing:
                if self._stream is None:
                    return
                tid = self._tid = (self._tid + 1) & 0xFFFF
                self._pending[tid] = slot
                slot.begin = self.hal.ticks_us()
                await self._write(mbap.adu(tid, slot.frame[0], slot.frame[1:]))
            await slot.over.wait()
        finally:
            if self._pending.get(tid) is slot:
                del self._pending[tid]

    async def _write(self, data):
        stream = self._stream
        whole = False
        why = "a request was given up while it was written"
        try:
            self.stats["requests"] += 1
            await stream.write(data)
            self.stats["sent"] += len(data)
            whole = True
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the connection
            why = str(error) or repr(error)
        finally:
            if not whole and self._stream is stream:
                self._tear(why)

    def _tear(self, why):
        if self._stream is not None and not self._torn:
            self._torn = True
            self.why = why
            self._task.cancel()

    async def _run(self):
        try:
            await self._serve()
        except asyncio.CancelledError:
            if not self._torn or self._closed:
                raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this connection only, and it is named
            self.why = str(error) or repr(error)
        finally:
            self._over()
        pause = min(_PAUSE_MAX_MS, _PAUSE_MS << min(self._failures, 5))
        self._failures += 1
        await self.hal.sleep_ms(pause)
        self._task = None

    async def _serve(self):
        stream = await self._connect()
        try:
            self._stream = stream
            self._torn = False
            self._silent = 0
            self.stats["connects"] += 1
            self._ready.set()
            framer = mbap.Framer()
            while True:
                n = await stream.readinto(framer.space())
                if not n:
                    raise OSError("the server closed the connection")
                self.stats["received"] += n
                framer.took(n)
                while framer.next():
                    self._match(framer)
        finally:
            self._stream = None
            stream.close()

    async def _connect(self):
        error = OSError("no address")
        for ip in (await self._resolve(self.hal, self._host))[:_ADDRESSES]:
            try:
                return await self.hal.net.tcp(ip, self._port, _CONNECT_MS)
            except Exception as e:  # noqa: BLE001 - the last one is told
                error = e
        raise error

    def _match(self, framer):
        self._silent = 0
        slot = self._pending.pop(framer.tid, None)
        answer = framer.pdu
        size = len(answer)
        if slot is None:  # its request was given up
            self.stats["foreign"] += 1
            return
        if framer.unit == slot.frame[0] and answer_size(slot.frame[1:], answer, 0, size) == size:
            slot.answer = bytes(answer)
            self._failures = 0
            if not answer[0] & 0x80:
                self._answered(self.hal.ticks_diff(self.hal.ticks_us(), slot.begin))
        else:
            self.stats["foreign"] += 1
            slot.answer = b""
        slot.over.set()

    def _over(self):
        # No connection: whoever waits learns it.
        for slot in self._pending.values():
            slot.over.set()
        self._pending.clear()
        self._ready.set()

# Modbus TCP server on the LAN that hands requests to the bus of an RTU client (Modbus Messaging on TCP/IP V1.0b).
#
# - Off unless the configuration has it, for the addresses it names only, and for reading only unless it says more.
# - Beside the polling: of all its clients one request at a time waits for the bus: the poller has every second turn.
# - Bounded: so many clients, so long without a request, so long for the rest of a request that has begun.

import asyncio

from coupler.bus import mbap
from coupler.const import const

_CLIENTS = const(4)
_IDLE_S = const(300)
_REST_S = const(5)
_WRITE_S = const(5)


def _number(ip):
    n = 0
    for part in ip.split("."):
        n = n << 8 | int(part)
    return n


def allows(nets, ip):
    """Whether an IPv4 address is in one of the networks, such as 192.0.2.0/24 or 192.0.2.7."""
    for net in nets:
        base, _, bits = net.partition("/")
        shift = 32 - int(bits or 32)
        if _number(base) >> shift == _number(ip) >> shift:
            return True
    return False


class Gateway:
    """cfg: {"port", "allow", "write"}. `await answer(unit, pdu)` gives the PDU to send back, never raises."""

    def __init__(self, net, cfg, answer):
        self._net = net
        self._cfg = cfg
        self._answer = answer
        self._tasks = []
        self._bus = asyncio.Lock()
        self.stats = {"clients": 0, "refused": 0, "requests": 0, "malformed": 0}

    async def run(self, ip):
        """Serve for ever at this address. OSError: the port is taken."""
        listener = self._net.listen(ip, self._cfg["port"], _CLIENTS)
        try:
            while True:
                stream, peer = await listener.accept()
                self._tasks = [task for task in self._tasks if not task.done()]
                if len(self._tasks) >= _CLIENTS or not allows(self._cfg["allow"], peer):
                    self.stats["refused"] += 1
                    stream.close()
                    continue
                self._tasks.append(asyncio.create_task(self._serve(stream)))
        finally:
            listener.close()
            for task in self._tasks:
                task.cancel()

    async def _serve(self, stream):
        stats = self.stats
        stats["clients"] += 1
        framer = mbap.Framer()
        wait = _IDLE_S
        try:
            while True:
                n = await asyncio.wait_for(stream.readinto(framer.space()), wait)
                if not n:
                    break
                framer.took(n)
                while framer.next():
                    stats["requests"] += 1
                    await self._reply(stream, framer.tid, framer.unit, framer.pdu)
                wait = _REST_S if framer.partial() else _IDLE_S
        except ValueError:
            stats["malformed"] += 1
        except (OSError, asyncio.TimeoutError):
            pass
        finally:
            stats["clients"] -= 1
            stream.close()

    async def _reply(self, stream, tid, unit, pdu):
        async with self._bus:
            answer = mbap.adu(tid, unit, bytes(await self._answer(unit, pdu)))
        await asyncio.wait_for(stream.write(answer), _WRITE_S)

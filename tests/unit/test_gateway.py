"""The Modbus TCP server on real sockets of the loopback: who may come, how much at once, what malformed requests do."""

import asyncio
from struct import pack

from check import raises
from coupler import hal
from coupler.bus.gateway import Gateway, allows

net = hal.get().net
_PORTS = iter(range(15020, 15060))


class World:
    def __init__(self, **cfg):
        self.port = next(_PORTS)
        rules = {"port": self.port, "allow": ["127.0.0.1"]}
        rules.update(cfg)
        self.gateway = Gateway(net, rules, self.answer)
        self.asked = []
        self.at_once = self.most = 0

    async def answer(self, unit, pdu):
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.asked.append((unit, bytes(pdu)))
        await asyncio.sleep(0.01)
        self.at_once -= 1
        return bytes((pdu[0], 2, unit, len(self.asked)))

    def run(self, visit):
        async def whole():
            task = asyncio.create_task(self.gateway.run("127.0.0.1"))
            await asyncio.sleep(0)
            try:
                await asyncio.wait_for(visit(self), 10)
            finally:
                task.cancel()
                await asyncio.sleep(0)

        asyncio.run(whole())

    async def connect(self):
        return await net.tcp("127.0.0.1", self.port, 1000)

    async def connections(self, n):
        streams = []
        for _ in range(n):
            streams.append(await self.connect())
        return streams


async def take(stream):
    """What comes next; empty when the server closed."""
    buf = bytearray(300)
    try:
        n = await asyncio.wait_for(stream.readinto(buf), 5)
    except OSError:
        return b""
    return bytes(buf[:n])


READ = b"\x03\0\0\0\1"


def adu(tid, unit, pdu):
    return pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu


def test_requests_are_answered_under_their_number():
    async def visit(world):
        stream = await world.connect()
        await stream.write(adu(7, 17, READ))
        assert await take(stream) == adu(7, 17, b"\x03\2\x11\1")
        whole = adu(8, 1, READ)
        for byte in whole[:-1]:
            await stream.write(bytes((byte,)))
        await stream.write(whole[-1:])
        assert await take(stream) == adu(8, 1, b"\x03\2\1\2")
        stream.close()
        await asyncio.sleep(0.05)
        assert world.gateway.stats == {"clients": 0, "refused": 0, "requests": 2, "malformed": 0}

    World().run(visit)


def test_of_all_clients_one_request_at_a_time_waits_for_the_bus():
    async def visit(world):
        streams = await world.connections(4)
        for i, stream in enumerate(streams):
            await stream.write(adu(i, 1, READ) + adu(10 + i, 1, READ))
        for stream in streams:
            got = await take(stream)
            while len(got) < 2 * 11:
                got += await take(stream)
            stream.close()
        assert world.most == 1 and len(world.asked) == 8

    World().run(visit)


def test_only_so_many_clients_and_only_those_allowed():
    async def visit(world):
        streams = await world.connections(5)
        assert await take(streams[4]) == b""
        await streams[3].write(adu(1, 1, READ))
        assert await take(streams[3])
        streams[0].close()
        await asyncio.sleep(0.05)
        last = await world.connect()
        await last.write(adu(1, 1, READ))
        assert await take(last), "there is room again"
        assert world.gateway.stats["refused"] == 1
        for stream in streams[1:] + [last]:
            stream.close()

    World().run(visit)

    async def stranger(world):
        stream = await world.connect()
        assert await take(stream) == b""
        stream.close()
        assert world.gateway.stats["refused"] == 1

    World(allow=["192.0.2.0/24"]).run(stranger)


def test_what_is_not_modbus_ends_the_connection_and_harms_nobody():
    async def visit(world):
        good = await world.connect()
        for junk in (
            b"GET / HTTP/1.1\r\n\r\n",
            pack(">HHHB", 1, 0, 255, 1),
            pack(">HHHB", 1, 0, 1, 1),
            b"\0\1\0\5\0\6",
        ):
            stream = await world.connect()
            await stream.write(junk)
            assert await take(stream) == b""
            stream.close()
        await good.write(adu(1, 1, READ))
        assert await take(good)
        good.close()
        assert world.gateway.stats["malformed"] == 4

    World().run(visit)


class Reset:
    """A client that lwIP has forgotten before its options could be set."""

    closed = 0

    def setblocking(self, flag):
        pass

    def setsockopt(self, *option):
        raise OSError(22)

    def close(self):
        self.closed += 1


class Good(Reset):
    def setsockopt(self, *option):
        pass


def test_a_client_that_is_gone_at_once_does_not_end_the_server():
    if not hasattr(net, "_readable"):
        return  # CPython has another accept()
    gone = Reset()
    coming = [gone, Good()]

    class Socket:
        def accept(self):
            return coming.pop(0), ("192.0.2.7", 1)

    async def at_once(s):
        pass

    readable = net._readable
    net._readable = at_once
    try:
        _, peer = asyncio.run(net.Listener(Socket()).accept())
    finally:
        net._readable = readable
    assert peer == "192.0.2.7" and gone.closed == 1 and not coming


def test_a_port_that_is_taken_is_an_error():
    async def visit(world):
        error = None
        try:
            await Gateway(net, {"port": world.port, "allow": []}, None).run("127.0.0.1")
        except OSError as e:
            error = e
        assert error

    World().run(visit)


def test_addresses_and_networks():
    assert allows(["192.0.2.7"], "192.0.2.7") and not allows(["192.0.2.7"], "192.0.2.8")
    assert allows(["10.0.0.0/8", "192.0.2.0/25"], "192.0.2.127") and not allows(["192.0.2.0/25"], "192.0.2.128")
    assert allows(["0.0.0.0/0"], "203.0.113.9") and not allows([], "127.0.0.1")
    raises(ValueError, allows, ["nonsense"], "127.0.0.1")

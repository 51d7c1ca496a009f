"""Several requests of one poller under way at once. On asyncio, under virtual time."""

import asyncio

from bus_fakes import LiveHal
from coupler.bus.errors import BusError
from coupler.bus.poller import Poller
from test_poller import block, unit


class Link:
    """A Modbus TCP client: answers of dead units never come, all fail at once when the link does."""

    rtt = 1

    def __init__(self, hal):
        self.hal = hal
        self.dead = set()
        self.asked = []
        self.down = False

    async def read(self, number, fc, address, count, timeout_ms):
        self.asked.append((number, address))
        for _ in range(timeout_ms // 10 if number in self.dead else 3):
            await self.hal.sleep_ms(10)
            if self.down:
                raise BusError("link", number, fc, address, count)
        if number in self.dead:
            raise BusError("timeout", number, fc, address, count)
        return bytes(2 * count)

    def settles_in(self, number, fc):
        return 0


class Several:
    """A poller on TCP with `flight` tasks."""

    def __init__(self, flight, *units):
        self.hal = LiveHal()
        self.link = Link(self.hal)
        self.flight = flight
        cfg = {"name": "plc", "kind": "tcp", "host": "h", "port": 502, "flight": flight, "units": list(units)}
        self.poller = Poller(self.link, cfg, self.hal, lambda *poll: None, None)

    def run(self, *script):
        """script: (milliseconds, what to do then)."""

        async def task():
            while True:
                await self.poller.step()

        async def whole():
            tasks = [asyncio.create_task(task()) for _ in range(self.flight)]
            for ms, action in script:
                await self.hal.drive(asyncio.create_task(self.hal.sleep_ms(ms)))
                action()
            for each in tasks:
                each.cancel()
            await asyncio.sleep(0)

        asyncio.run(whole())


def test_requests_that_fail_together_are_one_failure():
    world = Several(8, unit(1, *[block(10 * i, 100) for i in range(8)]))

    def down():
        world.link.down = True

    def up():
        assert world.poller.stats["failed"] >= 8
        world.link.down = False
        world.link.asked = []

    def check():
        assert len(set(world.link.asked)) == 8, "not silent for a minute"

    world.run((1015, down), (20, up), (3000, check))


def test_a_silent_unit_has_one_request_under_way():
    world = Several(4, unit(1, block(0, 100)), unit(9, *[block(10 * i, 100) for i in range(8)]))
    world.link.dead.add(9)

    def check():
        dead = [address for number, address in world.link.asked if number == 9]
        assert len(dead) == 1, dead

    world.run((400, check))

"""Several callers of one RTU bus: turns, late answers, cancellation. On asyncio, under virtual time."""

import asyncio

from bus_fakes import LiveHal, LivePort, frame, registers
from coupler.bus.client import Client
from coupler.bus.errors import BusError


def together(*steps):
    """Run coroutine functions (client, port, hal) side by side on one bus; returns what they return or raise."""
    results = [None] * len(steps)

    async def one(i, step, parts):
        try:
            results[i] = await step(*parts)
        except BusError as error:
            results[i] = error.quality

    async def main(parts):
        tasks = [asyncio.create_task(one(i, step, parts)) for i, step in enumerate(steps)]
        await parts[2].drive(*tasks)

    def go(play, **options):
        hal = LiveHal()
        port = LivePort(hal, play, **options)
        asyncio.run(main((Client(port, hal), port, hal)))
        return results, port, hal

    return go


def values(request):
    return [(20, registers(request[0], request[1], *[request[3]] * request[5]))]


def reader(address, unit=17, after=0):
    async def step(client, port, hal):
        if after:
            await hal.sleep_ms(after)
        return bytes(await client.read(unit, 4, address, 1, 500))

    return step


def test_callers_take_turns_in_the_order_of_asking():
    results, port, hal = together(*[reader(i) for i in range(8)])(values)
    assert results == [bytes([0, i]) for i in range(8)]
    assert [sent[3] for sent in port.sent] == list(range(8))


def test_a_caller_that_comes_again_and_again_lets_the_others_in():
    async def greedy(client, port, hal):
        for _ in range(10):
            await client.read(17, 4, 99, 1, 500)

    _, port, _ = together(greedy, greedy, reader(1, after=30))(values)
    assert [sent[3] for sent in port.sent].index(1) <= 4


def test_who_waits_for_a_late_answer_lets_all_others_go_on():
    dead = []

    def play(request):
        if request[3] == 7 and not dead:
            dead.append(1)
            return []
        return values(request)

    async def main_reader(client, port, hal):
        try:
            await client.read(17, 4, 7, 1, 500)
        except BusError:
            pass
        begin = hal.us
        data = bytes(await client.read(17, 4, 8, 1, 500))
        return data, (hal.us - begin) // 1000

    async def other(client, port, hal):
        await hal.sleep_ms(510)
        begin = hal.us
        for i in range(10):
            assert bytes(await client.read(18, 4, i, 1, 500)) == bytes([0, i])
        return (hal.us - begin) // 1000

    results, port, _ = together(main_reader, other)(play)
    assert results[0][0] == b"\0\x08" and 950 <= results[0][1] <= 1100
    assert results[1] <= 10 * 30


def test_who_waits_for_its_turn_waits_for_what_became_late_meanwhile():
    def play(request):
        return [(700, registers(17, 4, 0xDEAD))] if request[3] == 7 else values(request)

    async def first(client, port, hal):
        await client.read(17, 4, 7, 1, 500)

    results, port, _ = together(first, reader(8), reader(9, unit=18))(play)
    assert results == ["timeout", b"\0\x08", b"\0\x09"]
    assert [sent[3] for sent in port.sent] == [7, 9, 8]


def test_a_late_answer_is_heard_while_nobody_else_uses_the_bus():
    late = [(600, registers(17, 4, 7))]

    def play(request):
        return late.pop() and [(600, registers(17, 4, 7))] if late else values(request)

    async def step(client, port, hal):
        try:
            await client.read(17, 4, 7, 1, 500)
        except BusError:
            pass
        begin = hal.us
        return bytes(await client.read(17, 4, 8, 1, 500)), (hal.us - begin) // 1000

    results, _, _ = together(step)(play)
    assert results[0][0] == b"\0\x08" and 90 <= results[0][1] <= 160


def test_a_cancelled_caller_leaves_the_bus_to_the_others_wherever_it_was():
    # Cancelled after every number of turns of the loop, with one before it and one behind it in the queue.
    for request in (b"\x04\0\7\0\1", b"\x06\0\7\0\1", None):
        for turns in range(0, 60, 1):
            hal = LiveHal()

            def play(frame_):
                if frame_[3] == 7:
                    return [(20, registers(17, 4, 0xDEAD) if frame_[1] == 4 else frame(17, frame_[1:-2]))]
                return values(frame_)

            port = LivePort(hal, play)
            client = Client(port, hal)

            async def victim():
                if request is None:
                    await client.transact(0, b"\x06\0\7\0\1", 100)
                else:
                    await client.transact(17, request, 500)

            async def main():
                first = asyncio.create_task(client.read(18, 4, 1, 1, 500))
                await asyncio.sleep(0)
                task = asyncio.create_task(victim())
                await asyncio.sleep(0)
                last = asyncio.create_task(client.read(18, 4, 2, 1, 500))
                for _ in range(turns):
                    await asyncio.sleep(0)
                    if not hal._sleepers or turns % 3 == 0:
                        continue
                    us, event = hal._sleepers.pop(0)
                    hal.us = max(hal.us, us)
                    event.set()
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    pass
                await hal.drive(first, last)
                # Whatever was sent, its answer is not taken for this one's.
                again = asyncio.create_task(client.read(17, 4, 9, 1, 500))
                await hal.drive(again)
                assert bytes(await again) == b"\0\x09", (request, turns)
                assert client._free == 1 and not client._waiting

            asyncio.run(main())

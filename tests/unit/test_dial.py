"""One connection out of several addresses: which is tried when, which one wins, and that no other stays open."""

import asyncio
import time

from coupler.net.dial import dial
from coupler.net.errors import NetError

TIMEOUT_MS = 3000


def ms():
    return time.ticks_ms() if hasattr(time, "ticks_ms") else time.monotonic_ns() // 1000000


class Stream:
    def __init__(self, net):
        self.net = net
        net.open += 1

    def close(self):
        self.net.open -= 1


class Net:
    """Each address is the answer itself: `ok 100` connects after 100 ms, `no 100` refuses; `deaf` never answers."""

    def __init__(self):
        self.net = self
        self.open = 0
        self.began = ms()
        self.tried = []
        self.most = 0
        self.failed = []

    async def tcp(self, address, port, timeout_ms):
        assert (port, timeout_ms) == (443, TIMEOUT_MS)
        self.tried.append((address, ms() - self.began))
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            what, _, after = address.split("/")[0].partition(" ")
            if what == "deaf":
                await asyncio.sleep(TIMEOUT_MS / 1000)
                raise NetError("timeout", address)
            if what == "late":  # it is cancelled, and connects all the same
                try:
                    await asyncio.sleep(TIMEOUT_MS / 1000)
                except asyncio.CancelledError:
                    return Stream(self)
            await asyncio.sleep(int(after) / 1000)
            if what == "no":
                raise NetError("tcp", address)
            return Stream(self)
        finally:
            self.open -= 1

    async def dial(self, *addresses):
        return await dial(self, addresses, 443, TIMEOUT_MS, lambda error: self.failed.append(str(error)))


def run(*addresses):
    net = Net()
    found = asyncio.run(net.dial(*addresses))
    return net, found


def test_the_next_address_is_tried_at_once_when_one_refuses():
    net, (stream, ip, left) = run("no 0", "no 1", "ok 0", "ok 0/other")
    assert ip == "ok 0" and left == ["ok 0/other"] and net.failed == ["no 0", "no 1"]
    assert len(net.tried) == 3 and net.tried[2][1] < 240
    assert net.open == 1
    stream.close()


def test_one_that_is_silent_gets_company_after_a_while_and_is_left_for_later():
    net, (_, ip, left) = run("deaf", "ok 0", "ok 0/other")
    assert ip == "ok 0" and left == ["deaf", "ok 0/other"] and net.failed == []
    assert [address for address, _ in net.tried] == ["deaf", "ok 0"] and 200 < net.tried[1][1] < 1000
    assert net.open == 1


def test_a_slow_one_may_still_be_the_first_to_answer():
    net, (_, ip, left) = run("ok 400", "deaf", "deaf/2")
    assert ip == "ok 400" and left == ["deaf", "deaf/2"] and net.open == 1


def test_no_more_than_three_are_under_way():
    net, (_, ip, left) = run("no 600", "deaf/1", "deaf/2", "ok 0", "deaf/3")
    assert ip == "ok 0" and left == ["deaf/1", "deaf/2", "deaf/3"] and net.failed == ["no 600"]
    assert net.most == 3 and net.tried[3][1] > 550 and net.open == 1


def test_when_none_answers_each_is_named():
    net, found = run("no 0", "no 20", "no 10")
    assert found == (None, None, []) and sorted(net.failed) == ["no 0", "no 10", "no 20"] and net.open == 0
    assert run()[1] == (None, None, [])


def test_only_one_of_those_that_answer_at_once_is_kept():
    net, (_, ip, left) = run("ok 255", "ok 0", "late")
    assert ip in ("ok 255", "ok 0") and len(left) == 2 and net.open == 1


def test_whatever_else_goes_wrong_ends_that_attempt_only():
    net = Net()
    tcp = net.tcp

    async def faulty(address, port, timeout_ms):
        if address == "full":
            raise MemoryError("no room")
        return await tcp(address, port, timeout_ms)

    net.tcp = faulty
    assert asyncio.run(net.dial("full", "ok 0"))[1] == "ok 0" and net.failed == ["no room"]


def test_cancelled_it_leaves_nothing_open():
    for addresses in (("deaf",), ("deaf", "late", "deaf/2"), ("late",), ("ok 300", "late")):
        for after in (0, 0.3):
            net = Net()

            async def whole(net=net, addresses=addresses, after=after):
                task = asyncio.create_task(net.dial(*addresses))
                await asyncio.sleep(after)
                task.cancel()
                try:
                    stream, _, _ = await task
                    stream.close()  # it was there before
                except asyncio.CancelledError:
                    pass
                return net.open

            assert asyncio.run(whole()) == 0, (addresses, after)

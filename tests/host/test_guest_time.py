"""The guest's time: ticks of 10 ms, soft interrupts between them, and a machine that is left alone meanwhile."""

import asyncio
from pathlib import Path

import pytest
from guest_rig import BANNER, rig
from kobler.sim.guest import GuestOptions

_TIMES = """
import asyncio, machine, time

def took(start):
    return time.ticks_diff(time.ticks_us(), start)

async def main():
    for ms in (1, 11):
        each = []
        for _ in range(15):
            t = time.ticks_us()
            await asyncio.sleep_ms(ms)
            each.append(took(t))
        print(sorted(each)[7])
    flag = asyncio.ThreadSafeFlag()
    fired = 0
    def fire(_):
        nonlocal fired
        fired = time.ticks_us()
        flag.set()
    late = []
    timer = machine.Timer(0)
    for i in range(15):
        t = time.ticks_us()
        timer.init(mode=machine.Timer.ONE_SHOT, period=3 + i, callback=fire)
        await flag.wait()
        late.append(took(fired))
        assert took(t) >= (3 + i) * 1000
    print(sorted(late)[7])

asyncio.run(main())
ran = []
timer = machine.Timer(1)
timer.init(mode=machine.Timer.PERIODIC, period=5, callback=lambda t: ran.append(1))
t = time.ticks_us()
time.sleep_ms(53)
print(took(t))
timer.deinit()
print(len(ran))
"""


@pytest.mark.parametrize("chip_time", [True, False])
def test_asyncio_sleeps_in_ticks_and_soft_interrupts_wake_it_at_once(tmp_path, chip_time):
    async def main():
        async with rig(tmp_path, {}, GuestOptions(chip_time=chip_time)) as board:
            await board.until(BANNER)
            one, eleven, flag, sleep, ran = (int(word) for word in (await board.execute(_TIMES)).split())
            if chip_time:
                assert 5000 < one < 12000
                assert 15000 < eleven < 24000
            else:
                assert one < 4000
                assert 10900 <= eleven < 14000
            assert flag < 1000
            assert 53000 <= sleep < 70000
            assert 5 <= ran <= 10  # periods that a busy machine missed are dropped, as on the chip

    asyncio.run(main())


_IDLE = """
import asyncio

async def main():
    await asyncio.sleep(100)

asyncio.run(main())
"""


def test_an_idle_program_costs_the_machine_next_to_nothing(tmp_path):
    async def main():
        async with rig(tmp_path, {"main.py": _IDLE}) as board:
            await asyncio.sleep(0.5)
            stat = Path(f"/proc/{board.guest.pid}/schedstat")
            before = int(stat.read_text().split()[0])
            await asyncio.sleep(1.5)
            assert (int(stat.read_text().split()[0]) - before) / 1.5e9 < 0.05

    asyncio.run(main())

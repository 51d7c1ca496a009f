"""Tasks are kept running, and a task that stands still ends the feeding of the watchdog."""

import asyncio

from coupler import watch


class Dog:
    def __init__(self):
        self.fed = 0

    def feed(self):
        self.fed += 1

    def relax(self):
        pass


class Hal:
    """Virtual time: every sleep jumps the clock, so that minutes pass in no time."""

    def __init__(self):
        self.now = 0
        self.dog = Dog()

    def ticks_ms(self):
        return self.now

    def ticks_diff(self, a, b):
        return a - b

    async def sleep_ms(self, ms):
        self.now += ms
        await asyncio.sleep(0)

    def watchdog(self, ms):
        return self.dog


def test_a_task_that_fails_is_started_again_with_growing_pauses():
    hal = Hal()
    guard = watch.Watch(hal)
    runs = []

    async def work():
        runs.append(hal.now)
        raise RuntimeError("broken")

    async def whole():
        guard.start("work", work)
        for _ in range(2000):
            await asyncio.sleep(0)
            if len(runs) >= 5:
                break
        for task in guard._tasks:
            task.cancel()

    asyncio.run(whole())
    gaps = [b - a for a, b in zip(runs, runs[1:])]
    assert gaps[:3] == [1000, 2000, 4000], gaps
    assert guard.restarts["work"] >= 4
    assert guard.failure == "work: RuntimeError: broken"


def test_the_watchdog_is_fed_while_tasks_beat():
    hal = Hal()
    guard = watch.Watch(hal)

    async def whole():
        async def work():
            while True:
                guard.beat("work")
                await asyncio.sleep(0)

        guard.start("work", work, True)
        task = asyncio.create_task(guard.run())
        while hal.now < 600000:
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(whole())
    assert hal.dog.fed >= 590


def test_a_task_that_stands_still_ends_the_feeding():
    hal = Hal()
    guard = watch.Watch(hal)

    async def whole():
        async def stuck():
            await asyncio.Event().wait()

        guard.start("stuck", stuck, True)
        task = asyncio.create_task(guard.run())
        while hal.now < 600000:
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(whole())
    assert 100 <= hal.dog.fed <= 121, hal.dog.fed


class Speechless(MemoryError):
    def __str__(self):
        raise MemoryError


def test_a_task_that_fails_where_no_memory_is_left_for_words_is_started_again():
    hal = Hal()
    guard = watch.Watch(hal)
    runs = []

    async def work():
        runs.append(hal.now)
        raise Speechless()

    async def whole():
        guard.start("work", work)
        while len(runs) < 3 and hal.now < 60000:
            hal.now += 1
            await asyncio.sleep(0)
        for task in guard._tasks:
            task.cancel()

    asyncio.run(whole())
    assert len(runs) == 3
    assert guard.failure == "work"

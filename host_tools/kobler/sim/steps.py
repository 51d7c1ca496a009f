"""Steps that take time, done one after the other: a board is not switched on while still going off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

Step = Callable[[], Awaitable[None]]


class Steps:
    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[Step, asyncio.Future[None] | None]] = asyncio.Queue()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def then(self, step: Step) -> None:
        """Do it after those before; nobody waits for it, so what goes wrong is logged."""
        self._queue.put_nowait((step, None))

    async def wait_for(self, step: Step) -> None:
        """Do it after those before and come back when it is done, with its error if it raised one."""
        done = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((step, done))
        await done

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            step, done = await self._queue.get()
            try:
                await step()
            except Exception as error:
                if done is None:
                    log.exception("the virtual board failed")
                elif not done.done():
                    done.set_exception(error)
            else:
                if done is not None and not done.done():
                    done.set_result(None)

"""An asyncio loop in a thread of its own, so that the broker never waits for the terminal, nor the other way
round.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
_START_S, _STOP_S = 20.0, 15.0


class Service(Protocol):
    """What can run in the background."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Background:
    """Starts the services in order on entering, stops them in reverse on leaving."""

    def __init__(self, *services: Service) -> None:
        self._services = services
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def call(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """Run a coroutine over there and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    def __enter__(self) -> Background:
        self._thread.start()
        try:
            for service in self._services:
                self.call(service.start(), _START_S)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for service in reversed(self._services):
            try:
                self.call(service.stop(), _STOP_S)
            except TimeoutError:
                # The thread is a daemon: what does not stop in time ends with the process.
                continue
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_S)
        if not self._thread.is_alive():
            self._loop.close()

"""A virtual board in a thread of its own, and the programs that are run against it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from kobler.sim.board import Board

T = TypeVar("T")

# Wide lines: an error is not to be searched for across a line break.
PLAIN = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "300"}


class RunningBoard:
    """`with RunningBoard(image, chip) as board:` powered on entry, stopped at the end."""

    def __init__(self, image: Path, chip: str = "esp32", flash_size: int = 4 << 20, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._arguments = (image, chip, flash_size)
        self._options = options
        self.board: Board = None  # type: ignore[assignment]

    def __enter__(self) -> RunningBoard:
        self._thread.start()
        self.board = self.do(self._make())
        self.do(self.board.start())
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self.board.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    async def _make(self) -> Board:
        return Board(*self._arguments, **self._options)

    def do(self, coroutine: Coroutine[Any, Any, T], timeout: float = 30) -> T:
        """Run it in the board's thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    @property
    def url(self) -> str:
        return self.board.usb_url

    def esptool(self, *arguments: object, stock: bool = False, environment: dict[str, str] | None = None) -> Done:
        """esptool as a person runs it; `stock` over pyserial's own RFC 2217 client, else over Kobler's quick one."""
        module = "esptool" if stock else "kobler.flash.rfc2217"
        return run([sys.executable, "-P", "-m", module, "--port", self.url, *arguments], 90, environment)

    def mpremote(self, *arguments: object, timeout: float = 30) -> Done:
        return run([sys.executable, "-P", "-m", "mpremote", "connect", self.url, *arguments], timeout)


class Done:
    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text

    def ok(self) -> str:
        assert self.status == 0, self.text
        return self.text

    def failed(self) -> str:
        assert self.status != 0, self.text
        assert "Traceback" not in self.text, self.text
        return self.text


def run(command: list[object], timeout: float, environment: dict[str, str] | None = None) -> Done:
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        check=False,
        text=True,
        errors="replace",
        env={**PLAIN, **(environment or {})},
    )
    return Done(done.returncode, done.stdout)

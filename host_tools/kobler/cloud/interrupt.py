"""Ctrl-C, SIGTERM and SIGHUP as one exception in the main thread, raised once; what cleans up is then left
alone.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class Stopped(BaseException):
    """Somebody asked the program to end. Not an Exception: no step may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """As a shell reports a program that a signal ended."""
        return 128 + self.number


class Interrupts:
    """While entered, the first signal raises Stopped in the main thread; later ones do nothing."""

    def __init__(self) -> None:
        self._seen: int | None = None
        self._former: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interrupts:
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None:
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)  # type: ignore[arg-type]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._seen is None:
            self._seen = number
            raise Stopped(number)

    def check(self) -> None:
        """Raise again what a destructor or a callback may have swallowed; for use between steps."""
        if self._seen is not None:
            raise Stopped(self._seen)

    def hold(self) -> None:
        """From here on, signals wait for nobody and interrupt nothing: the clean-up has begun."""
        self._seen = self._seen or int(signal.SIGINT)

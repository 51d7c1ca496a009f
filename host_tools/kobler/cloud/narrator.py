"""What `kobler up` says while it works: a line that moves on a terminal, plain lines on any other standard
error.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

_NEWS_S = 3.0


class Narrator:
    """People read standard error; programs read JSON Lines on standard output, when they asked for them."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._title = ""
        self._said = 0.0

    def event(self, name: str, **fields: Any) -> None:
        """One JSON line, if they are wanted."""
        if self.as_json:
            print(json.dumps({"event": name, **fields}), flush=True)

    @contextmanager
    def working(self) -> Iterator[None]:
        """While entered, steps are shown; the last one is marked as finished on an orderly way out."""
        if not self.console.is_terminal:
            yield
            return
        columns = (
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as self._bar:
            try:
                yield
                self._finish()
            finally:
                self._bar = self._task = None

    def step(self, text: str) -> None:
        """A new step begins; the former one is done."""
        if self._bar is not None:
            self._finish()
            self._task, self._title = self._bar.add_task(text, total=None), text
        else:
            self._say(text)

    def detail(self, text: str, fraction: float | None = None) -> None:
        """How far the step is."""
        if self._bar is not None and self._task is not None:
            total = None if fraction is None else 1.0
            self._bar.update(self._task, description=text, completed=fraction or 0.0, total=total)
        elif time.monotonic() - self._said > _NEWS_S:
            self._say(text if fraction is None else f"{text} ({fraction:.0%})")

    def _finish(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=self._title, completed=1.0, total=1.0)

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        print(f"kobler: {text}", file=sys.stderr, flush=True)

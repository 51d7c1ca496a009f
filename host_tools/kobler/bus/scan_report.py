"""What people and programs see of a scan: found devices as they are found, a bar on a terminal, a summary."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .line import Format
from .scan import Device


class ScanReport:
    """Use as a context manager; `asked` units at `formats` formats is the whole."""

    def __init__(self, as_json: bool, asked: int, formats: int) -> None:
        self.devices: list[tuple[Format | None, Device]] = []
        self._json = as_json
        self._form: Format | None = None
        self._began = time.monotonic()
        console = Console(highlight=False)
        columns = TextColumn("{task.description}"), BarColumn(bar_width=24), TimeRemainingColumn()
        self._bar = Progress(*columns, console=console, transient=True, disable=as_json or not console.is_terminal)
        self._task = self._bar.add_task("", total=asked * formats)
        self._formats, self._each, self._begun = formats, asked, 0

    def __enter__(self) -> ScanReport:
        self._bar.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, form: Format | None) -> None:
        self._form = form
        # Formats left out are done with too.
        self._bar.update(self._task, description=_at(form), completed=self._begun * self._each)
        self._begun += 1
        if self._bar.disable:
            print(f"kobler: asking {self._each} units at {_at(form)}", file=sys.stderr, flush=True)

    def step(self, units: int) -> None:
        self._bar.advance(self._task, units)

    def found(self, device: Device) -> None:
        self.devices.append((self._form, device))
        if self._json:
            line = {} if self._form is None else _fields(self._form)
            self._event("found", **vars(device), **line)
        else:
            name = str(device)
            self._say(f"unit {device.unit:3}  {_at(self._form)}" + (f"  {name}" if name else ""))

    def note(self, text: str) -> None:
        if self._bar.disable:
            print(f"kobler: {text}", file=sys.stderr, flush=True)
        else:
            self._say(text)

    def end(self, stopped: bool) -> None:
        """The summary; `stopped`: before it was through."""
        seconds = round(time.monotonic() - self._began, 1)
        units = [device.unit for _, device in self.devices]
        if self._json:
            self._event("summary", found=units, complete=not stopped, seconds=seconds)
            return
        what = f"{len(units)} found" + (": " + ", ".join(map(str, units)) if units else "")
        self._say(f"{'stopped; so far ' if stopped else ''}{what} ({seconds:.0f} s)")

    def _event(self, name: str, **fields: Any) -> None:
        print(json.dumps({"event": name, **fields}), flush=True)

    def _say(self, text: str) -> None:
        if self._bar.disable:
            print(text, flush=True)
        else:
            self._bar.console.print(text, markup=False, soft_wrap=True)


def _at(form: Format | None) -> str:
    return "the bus's own speed" if form is None else str(form)


def _fields(form: Format) -> dict[str, Any]:
    return {"baud": form.baud, "parity": form.parity, "stop_bits": form.stop}

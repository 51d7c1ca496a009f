"""`kobler provision --batch` and `--scan`: the line with its ledger, its bench and the person beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from .. import boards
from ..build import Build
from ..build.cli import folder_of
from ..errors import KoblerError, UsageError
from .bench import Bench, BenchError, Keyboard
from .console import Locked
from .ledger import Ledger, LedgerError, peek
from .line import Keeper, Line, Order, check_serial, outlook, read_orders, stands
from .steps import Lock, Progress, Provisioned
from .unit import Fits


class Tell(Protocol):
    """Hears of each unit that is done."""

    def __call__(self, found: Provisioned | None, *, serial: str, label: str) -> None: ...


class Production:
    """One run; its ledger and labels are in STATE/production. `batch` None: serial numbers are scanned."""

    def __init__(
        self,
        state: Path,
        authority: Callable[[], Keeper],
        batch: Path | None,
        port: str,
        board: str | None,
        patience: float | None,
        config: bytes | None,
        fits: Fits | None,
        say: Progress,
        tell: Tell,
        lock: Lock | None = None,
    ) -> None:
        self._state, self._batch, self._port, self._board = state, batch, port, board
        self._authority = authority
        self._patience, self._config, self._fits = patience, config, fits
        self._say, self._tell, self._lock = say, tell, lock
        self._ledger = state / "production" / "ledger.jsonl"
        self._labels = state / "production" / "labels"

    def run(self, reissue: list[str], dry_run: bool) -> None:
        """Until every serial number is done, or nothing more is scanned. KoblerError if some are left."""
        orders = None if self._batch is None else read_orders(self._batch)
        if dry_run:
            self._outlook(orders or [], reissue)
            return
        with Ledger(self._ledger, self._labels) as ledger:
            authority = self._authority()
            line = Line(ledger, authority, self._labels, self._config, self._say, self._lock)
            if reissue:
                authority.ready()  # else it might be asked for between revoking and the ledger
            for serial in reissue:
                line.void(serial)
            if orders is not None and all(map(line.is_done, orders)):
                self._say("every serial number is done")
                return
            for complaint in filter(None, map(line.complaint, orders or [])):
                self._say(complaint)
            authority.ready()
            bench = Bench(self._port, self._build(), self._patience, self._say)
            keyboard = Keyboard()
            if orders is None:
                self._scan(line, bench, keyboard)
            else:
                self._work_off(line, bench, keyboard, orders)

    def _work_off(self, line: Line, bench: Bench, keyboard: Keyboard, orders: list[Order]) -> None:
        while True:
            self._one(line, bench, lambda unit_id: line.choose(orders, unit_id))
            left = [order for order in orders if not line.is_done(order)]
            if not left:
                self._say("every serial number is done")
                return
            self._say(f"{len(left)} of {len(orders)} left")
            bench.change(keyboard)

    def _scan(self, line: Line, bench: Bench, keyboard: Keyboard) -> None:
        failed: dict[str, str] = {}  # what was repeated well did not fail; "": what was no serial number
        while True:
            self._say("scan the serial number of the next board (Ctrl-D or Ctrl-Z: no more)")
            serial = keyboard.line(None)
            if serial is None:
                break
            if not serial:
                continue
            try:
                order = Order(check_serial(serial))
            except UsageError as error:
                self._say(f"NOT DONE: {error}")
                failed[""] = repr(serial)
                continue
            if self._one(line, bench, _this(order)):
                for repeated in ("", serial.casefold()):
                    failed.pop(repeated, None)
            else:
                failed[serial.casefold()] = serial
        if failed:
            names = ", ".join(failed.values())
            raise KoblerError(f"{len(failed)} of the scanned serial numbers could not be done: {names}")

    def _one(self, line: Line, bench: Bench, order: Callable[[str], Order]) -> bool:
        try:
            chosen, found = self._do(line, bench, order)
            self._tell(found, serial=chosen.serial, label=str(self._labels / f"{chosen.serial}.png"))
            return True
        except (BenchError, LedgerError):
            raise
        except KoblerError as error:
            self._say(f"NOT DONE: {error}")
            return False
        finally:
            bench.release()

    def _do(self, line: Line, bench: Bench, order: Callable[[str], Order]) -> tuple[Order, Provisioned | None]:
        try:
            unit = bench.unit(line.fresh)
        except Locked as locked:
            if not line.fresh(locked.id):
                chosen = order(locked.id)
                if line.locked(locked.id, chosen):
                    return chosen, None
            raise
        if self._fits is not None:
            unit.room(self._fits)
        chosen = order(unit.id)
        return chosen, line.work(unit, chosen)

    def _outlook(self, orders: list[Order], reissue: list[str]) -> None:
        pieces = peek(self._ledger, self._labels)
        stand = partial(stands, self._authority()) if pieces else None
        for serial in reissue:
            what = f"unit {pieces.pop(serial).id} would lose its certificate" if serial in pieces else "is not there"
            self._say(f"{serial}: {what}")
        for order in orders:
            self._say(f"{order.serial}: {outlook(pieces, order, stand)}")

    def _build(self) -> Build | None:
        if self._board is None:
            return None
        chosen = boards.load(self._board)
        return Build.load(folder_of(self._state, chosen.name))


def _this(order: Order) -> Callable[[str], Order]:
    return lambda _: order

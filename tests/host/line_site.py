"""A production line without a port: state folder, boards, a person at the desk; and an independent reader of labels."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coupler.trust import enrol
from kobler.pki import Authority
from kobler.provision import label, production
from kobler.provision.bench import BenchError
from kobler.provision.console import Locked
from kobler.provision.ledger import Ledger, peek
from kobler.provision.line import Line, Order
from kobler.provision.production import Production
from kobler.provision.steps import Lock
from kobler.provision.unit import Owner, Unit
from local_unit import LocalConsole

ONE, TWO = "0200000000a1", "0200000000a2"


class Site:
    """A state folder and boards; each call is one run of the command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "production" / "ledger.jsonl"
        self.labels = folder / "production" / "labels"
        self.authority = Authority.open_or_create(folder / "pki")
        self.consoles: dict[str, LocalConsole] = {}
        self.said: list[str] = []

    def board(self, unit_id: str) -> LocalConsole:
        if unit_id not in self.consoles:
            self.consoles[unit_id] = LocalConsole(self.folder / unit_id, unit_id)
        import coupler.hal

        coupler.hal._hal = self.consoles[unit_id].hal
        return self.consoles[unit_id]

    def run(self, unit_id: str, *orders: Order, config: bytes | None = None) -> None:
        self._work(unit_id, lambda line: line.choose(orders, unit_id), config)

    def work(self, unit_id: str, order: Order) -> None:
        self._work(unit_id, lambda _: order, None)

    def _work(self, unit_id: str, order: Callable[[Line], Order], config: bytes | None) -> None:
        with Ledger(self.path) as ledger:
            line = Line(ledger, self.authority, self.labels, config, self.said.append)
            unit = Unit(self.board(unit_id))  # type: ignore[arg-type]
            try:
                line.work(unit, order(line))
            finally:
                unit.restart()

    def void(self, serial: str) -> None:
        with Ledger(self.path) as ledger:
            Line(ledger, self.authority, self.labels, None, self.said.append).void(serial)

    def events(self) -> list[tuple[str, str]]:
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [(line["serial"], line["event"]) for line in lines]

    def fingerprint(self, unit_id: str) -> str:
        return str(enrol.status(self.board(unit_id).hal)["fingerprint"])

    def check(self, serial: str, unit_id: str) -> None:
        """The unit has the one certificate that the ledger names, and its label says so."""
        piece = peek(self.path)[serial]
        assert piece.done and piece.id == unit_id and piece.fingerprint == self.fingerprint(unit_id)
        issued = [entry for entry in self.authority.entries() if entry.name == unit_id and entry.status == "good"]
        assert [entry.fingerprint for entry in issued] == [piece.fingerprint]
        assert scanned(self.labels / f"{serial}.png") == label.content(unit_id, serial, str(piece.fingerprint))


def pixels(path: Path) -> tuple[int, int, bytes]:
    """Width, height and a byte a dot of a one-bit PNG without filters, checksums verified."""
    data, at, body = path.read_bytes(), 8, b""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width = height = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        part = data[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", data, at + 8 + size)[0] == zlib.crc32(kind + part)
        if kind == b"IHDR":
            width, height, *form = struct.unpack(">IIBBBBB", part)
            assert form == [1, 0, 0, 0, 0]
        body += part if kind == b"IDAT" else b""
        at += 12 + size
    rows = zlib.decompress(body)
    step = (width + 7) // 8 + 1
    assert len(rows) == step * height and all(rows[i] == 0 for i in range(0, len(rows), step))
    dots = bytearray()
    for y in range(height):
        for x in range(width):
            dots.append(255 * (rows[y * step + 1 + x // 8] >> (7 - x % 8) & 1))
    return width, height, bytes(dots)


def scanned(path: Path) -> str:
    """What an independent reader sees in the code."""
    import zxingcpp

    width, height, dots = pixels(path)
    (found,) = zxingcpp.read_barcodes(memoryview(dots).cast("B", (height, width)))
    return str(found.text)


OWNER = Owner("cafe", "04" + "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
               "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")  # fmt: skip


class Desk:
    """A production with a line of `Site`s boards and a person: each board in turn, with what is scanned for it."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch, lock: Lock | None = None) -> None:
        self.site, self.lock = site, lock
        self.done: list[str] = []
        self.scanned: list[str] = []
        self.boards: list[str] = []
        self.order: list[str] = []
        self.consoles: dict[str, bool] = {}
        desk = self

        class Bench:
            def __init__(self, *_: Any) -> None:
                desk.order.append("bench")

            def unit(self, _: Any) -> Unit:
                unit_id = desk.boards.pop(0)
                console = site.board(unit_id)
                if console.hal.get_number("console") == 1:
                    raise Locked("/dev/ttyX", unit_id)
                return Unit(console)  # type: ignore[arg-type]

            def release(self) -> None:
                pass

            def change(self, _: Any) -> None:
                if not desk.boards:
                    raise BenchError("no board comes any more")

        class Keyboard:
            def __init__(self) -> None:
                desk.order.append("keyboard")

            def line(self, _: Any) -> str | None:
                return desk.scanned.pop(0) if desk.scanned else None

        monkeypatch.setattr(production, "Bench", Bench)
        monkeypatch.setattr(production, "Keyboard", Keyboard)

    def run(
        self, batch: Path | None, *boards: str, scanned: list[str] | None = None, reissue: list[str] | None = None
    ) -> None:
        self.boards, self.scanned = list(boards), scanned or []

        def tell(_: Any, *, serial: str, label: str) -> None:
            self.done.append(serial)

        authority = self.site.authority
        one = Production(
            self.site.folder, lambda: authority, batch, "/dev/ttyX", None, 1, None, None, self.site.said.append, tell,
            self.lock,
        )  # fmt: skip
        one.run(reissue or [], False)

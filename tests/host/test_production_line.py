"""The production line: whatever ends it, and wherever, a serial number gets one certificate and no line is lost."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from coupler.trust import csr, enrol, switch
from cryptography import x509
from kobler.errors import KoblerError, UsageError
from kobler.pki import Authority, certificates
from kobler.provision import label, production
from kobler.provision.bench import BenchError
from kobler.provision.console import Locked
from kobler.provision.ledger import Ledger, LedgerError, Piece, peek
from kobler.provision.line import Line, Order, outlook, read_orders, stands
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
        with Ledger(self.path) as ledger:
            line = Line(ledger, self.authority, self.labels, config, self.said.append)
            unit = Unit(self.board(unit_id))  # type: ignore[arg-type]
            try:
                line.work(unit, line.choose(orders, unit.id))
            finally:
                unit.restart()

    def work(self, unit_id: str, order: Order) -> None:
        with Ledger(self.path) as ledger:
            line = Line(ledger, self.authority, self.labels, None, self.said.append)
            unit = Unit(self.board(unit_id))  # type: ignore[arg-type]
            try:
                line.work(unit, order)
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


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


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


def test_units_one_after_the_other_get_what_the_list_says(site: Site) -> None:
    orders = [Order("K1-001"), Order("K1-002", ONE), Order("k.3")]
    site.run(TWO, *orders)
    site.run(ONE, *orders)
    site.check("K1-001", TWO)
    site.check("K1-002", ONE)  # the one that the list names for it, though K1-001 came first
    assert site.events() == [
        (serial, event) for serial in ("K1-001", "K1-002") for event in ("begun", "signed", "done")
    ]


def test_nothing_secret_is_in_ledger_label_or_on_the_wire(site: Site) -> None:
    site.run(ONE, Order("S1"))
    console = site.board(ONE)
    private = csr.read_key(console.hal.read_file(switch.KEY))
    for form in (f"{private:064x}", str(private)):
        assert form not in console.wire and form not in site.path.read_text()
        assert form not in scanned(site.labels / "S1.png")
    assert site.path.stat().st_mode & 0o777 == 0o600


def test_a_unit_that_is_done_is_left_as_it_is(site: Site) -> None:
    site.run(ONE, Order("S1"))
    before = site.fingerprint(ONE)
    (site.labels / "S1.png").unlink()
    site.run(ONE, Order("S1"))
    assert site.fingerprint(ONE) == before
    site.check("S1", ONE)  # its label was made anew


def in_a_child(work: Any) -> int:
    """The wait status of a forked process that did it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def killed_at(number: int, work: Any) -> bool:
    """Do it in a process that gets SIGKILL at the step with this number: each fsync, rename and removal is two, one
    before and one after it. Whether it came so far.
    """

    def run() -> None:
        count = 0

        def counted(real: Any) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal count
                for last in (False, True):
                    if count == number:
                        os.kill(os.getpid(), signal.SIGKILL)
                    count += 1
                    result = None if last else real(*arguments, **options)
                    if not last:
                        kept = result
                return kept

            return call

        for name in ("fsync", "replace", "remove", "write"):
            setattr(os, name, counted(getattr(os, name)))
        work()

    status = in_a_child(run)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, "it failed by itself"
    return status != 0


@pytest.mark.parametrize("step", [pytest.param(7, id="some"), pytest.param(1, id="all", marks=pytest.mark.long)])
def test_killed_anywhere_it_goes_on_with_the_same_certificate(tmp_path: Path, step: int) -> None:
    ends = set()
    for number in range(0, 10_000, step):
        site = Site(tmp_path / str(number))
        came = killed_at(number, lambda site=site: site.run(ONE, Order("S1")))
        pieces = peek(site.path)
        ends.add((bool(pieces), bool(pieces and pieces["S1"].fingerprint), bool(pieces and pieces["S1"].done)))
        if number // step % 2:
            site.board(ONE).boot()  # the unit lost its power, too; else it waits where it was
        site.run(ONE, Order("S1"))
        site.check("S1", ONE)
        assert len([entry for entry in site.authority.entries() if entry.kind == "unit"]) == 1
        events = [event for _, event in site.events()]
        assert [event for event in events if event != "done"] == ["begun", "signed"]
        if not came:
            break
    assert not came, "the end was never reached"
    assert {(False, False, False), (True, False, False), (True, True, False), (True, True, True)} <= ends


def test_a_key_that_was_lost_after_its_certificate_was_signed_needs_a_word_from_the_operator(site: Site) -> None:
    def until_signed(event: str, *_: Any, **__: Any) -> None:
        if event == "signed":
            raise KeyboardInterrupt

    with Ledger(site.path) as ledger:
        line = Line(ledger, site.authority, site.labels, None, site.said.append)
        add, ledger.add = ledger.add, lambda event, *a, **k: (add(event, *a, **k), until_signed(event))[0]  # type: ignore
        with pytest.raises(KeyboardInterrupt):
            line.work(Unit(site.board(ONE)), Order("S1"))  # type: ignore[arg-type]
    site.board(ONE).boot()
    site.board(ONE).hal.remove("/etc/key.csr")  # as after a flash
    with pytest.raises(KoblerError, match=r"lost the key for it .* --reissue S1"):
        site.run(ONE, Order("S1"))
    assert len(site.authority.entries()) == 1
    site.void("S1")
    site.run(ONE, Order("S1"))
    site.check("S1", ONE)
    assert sorted(entry.status for entry in site.authority.entries()) == ["good", "revoked"]


def test_reissue_gives_a_serial_number_to_another_board_and_revokes_what_the_first_got(site: Site) -> None:
    site.run(ONE, Order("S1"))
    with pytest.raises(KoblerError, match=f"belongs to unit {ONE}, this is {TWO}; .*--reissue S1"):
        site.work(TWO, Order("S1"))
    site.void("S1")
    site.run(TWO, Order("S1"))
    site.check("S1", TWO)
    assert {entry.name: entry.status for entry in site.authority.entries()} == {ONE: "revoked", TWO: "good"}
    with pytest.raises(UsageError, match="S9 is not in the ledger"):
        site.void("S9")


@pytest.mark.parametrize(
    ("unit_id", "order", "words"),
    [
        (ONE, Order("S2"), f"unit {ONE} has serial number S1; S2 was not given to it"),
        (TWO, Order("s1"), "differs from S1 in the ledger by case alone"),
        (TWO, Order("S2", ONE), f"meant for unit {ONE}, this is {TWO}"),
    ],
)
def test_a_mix_up_is_refused_and_changes_nothing(site: Site, unit_id: str, order: Order, words: str) -> None:
    site.run(ONE, Order("S1"))
    before = site.path.read_bytes()
    with pytest.raises(KoblerError, match=words):
        site.work(unit_id, order)
    assert site.path.read_bytes() == before and len(site.authority.entries()) == 1


def test_certificates_that_a_unit_has_from_elsewhere_are_none_of_the_lines(site: Site) -> None:
    from brokers import unit_files

    unit_files(site.authority, site.folder / "bench", ONE)
    site.run(ONE, Order("S1"))
    assert peek(site.path)["S1"].done
    assert [entry.status for entry in site.authority.entries()] == ["good", "good"]


def test_what_the_unit_refuses_is_in_the_ledger_and_it_can_be_done_again(site: Site) -> None:
    with pytest.raises(KoblerError, match="configuration is not JSON"):
        site.run(ONE, Order("S1"), config=b"{")
    assert site.events()[-1] == ("S1", "failed")
    assert site.fingerprint(ONE) == "None"
    site.run(ONE, Order("S1"))
    site.check("S1", ONE)


def test_a_torn_last_line_is_cut_off_and_the_rest_is_kept(site: Site) -> None:
    site.run(ONE, Order("S1"))
    whole = site.path.read_bytes()
    for cut in (2, 40):
        site.path.write_bytes(whole + whole.splitlines(keepends=True)[-1][:-cut])
        assert peek(site.path)["S1"].done
        with Ledger(site.path) as ledger:
            assert ledger.pieces["S1"].done
        assert site.path.read_bytes() == whole
    site.path.write_bytes(whole + bytes(4096))  # what some file systems leave of it
    site.run(TWO, Order("S1"), Order("S2"))
    site.check("S2", TWO)


def test_a_last_line_that_lacks_its_newline_alone_counts(site: Site) -> None:
    site.run(ONE, Order("S1"))
    whole = site.path.read_bytes()
    site.path.with_suffix(".head").unlink()
    for lines in (1, 2, 3):
        part = b"".join(whole.splitlines(keepends=True)[:lines])
        site.path.write_bytes(part[:-1])
        before = peek(site.path)
        with Ledger(site.path) as ledger:
            assert ledger.pieces == before and "S1" in before
        assert site.path.read_bytes() == part
    assert before["S1"].done


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: bytes(len(data)), "damaged at its end: restore the ledger from a backup"),
        (lambda data: bytes(5000), "damaged at its end"),
        (lambda data: data + bytes(5000), "damaged at its end"),
        (lambda data: data.replace(b"\n", b" "), "has the beginning of one line only"),
        (lambda data: data[:-1] * 20, "damaged"),
        (lambda data: data[:30], "If it is new, no serial number was begun yet: remove it"),
        (lambda data: b"[" * 100_000 + b"\n", r"jsonl:1 is damaged"),
        (lambda data: b"[" * 100_000, "damaged at its end"),
        (lambda data: b"7", "jsonl:1 is damaged"),
    ],
    ids=["zeros", "many zeros", "zeros behind", "no newlines", "copies", "first line", "deep", "deep end", "number"],
)
def test_a_ledger_that_is_damaged_at_its_end_is_never_taken_for_an_empty_one(
    site: Site, damage: Any, words: str
) -> None:
    site.run(ONE, Order("S1"))
    spoilt = damage(site.path.read_bytes())
    site.path.write_bytes(spoilt)
    for look in (lambda: peek(site.path), lambda: site.run(TWO, Order("S1"))):
        with pytest.raises(LedgerError, match=words):
            look()
    assert site.path.read_bytes() == spoilt and len(site.authority.entries()) == 1


def test_after_a_line_that_could_not_be_written_no_other_is(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger(site.path) as ledger:
        line = Line(ledger, site.authority, site.labels, None, site.said.append)
        unit = Unit(site.board(ONE))  # type: ignore[arg-type]
        add, events = ledger.add, []

        def failing(event: str, *arguments: Any, **fields: Any) -> None:
            events.append(event)
            if event == "signed":
                raise LedgerError("cannot write the ledger")
            add(event, *arguments, **fields)

        monkeypatch.setattr(ledger, "add", failing)
        with pytest.raises(LedgerError):
            line.work(unit, Order("S1"))
    assert events == ["begun", "signed"]
    site.run(ONE, Order("S1"))
    site.check("S1", ONE)


def test_a_key_that_has_its_certificate_does_not_wait_for_another(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    hal = site.board(ONE).hal

    def crash(_: Unit) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Unit, "forget", lambda unit: crash(unit) if site.fingerprint(ONE) != "None" else None)
        site.run(ONE, Order("S1"))
    waiting = hal.read_file("/etc/key.csr")
    assert waiting is not None
    site.run(ONE, Order("S1"))
    site.check("S1", ONE)
    assert hal.read_file("/etc/key.csr") is None
    hal.write_file("/etc/key.csr", waiting)  # as if that had not come about, either
    site.void("S1")
    site.run(ONE, Order("S1"))
    assert csr.read_key(hal.read_file(switch.KEY)) != csr.read_key(waiting)


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda lines: lines[1:], 1),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: [lines[0].replace(b"S1", b"S7"), *lines[1:]], 2),
        (lambda lines: [lines[0], b"rubbish\n", *lines[1:]], 2),
        (lambda lines: [lines[0], lines[0], *lines[1:]], 2),
    ],
    ids=["first line gone", "line gone", "line changed", "line added", "line twice"],
)
def test_a_ledger_that_somebody_changed_is_refused(site: Site, damage: Any, line: int) -> None:
    site.run(ONE, Order("S1"))
    spoilt = b"".join(damage(site.path.read_bytes().splitlines(keepends=True)))
    site.path.write_bytes(spoilt)
    with pytest.raises(LedgerError, match=rf"ledger\.jsonl:{line} is damaged .*restore"):
        site.run(TWO, Order("S2"))
    assert site.path.read_bytes() == spoilt


def test_a_disk_that_is_full_stops_the_line_before_anything_is_signed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Ledger(site.path) as ledger:
        line = Line(ledger, site.authority, site.labels, None, site.said.append)
        unit = Unit(site.board(ONE))  # type: ignore[arg-type]
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(LedgerError, match="No space left"):
                line.work(unit, Order("S1"))
    assert site.path.read_bytes() == b"" and site.authority.entries() == []
    site.run(ONE, Order("S1"))
    site.check("S1", ONE)


def test_two_lines_cannot_write_one_ledger(site: Site) -> None:
    with Ledger(site.path), pytest.raises(LedgerError, match="another line works with it"):
        Ledger(site.path)


@pytest.mark.parametrize(
    ("older", "words"),
    [
        (lambda lines: lines[:-1], r"has 5 of 6 lines, as .*ledger\.head says: restore the newest"),
        (lambda lines: lines[:3], "has 3 of 6 lines"),
        (lambda lines: [], "has 0 of 6 lines"),
        (lambda lines: None, "has 0 of 6 lines"),
    ],
    ids=["one line", "a unit", "new", "gone"],
)
def test_an_older_ledger_gives_no_serial_number_twice(site: Site, older: Any, words: str) -> None:
    site.run(ONE, Order("S1"))
    site.run(TWO, Order("S2"))
    lines = site.path.read_bytes().splitlines(keepends=True)
    left = older(lines)
    if left is None:
        site.path.unlink()
    else:
        site.path.write_bytes(b"".join(left))
    opened = sorted(Path("/dev/fd").iterdir())
    for look in (lambda: peek(site.path), lambda: site.run("0200000000a3", Order("S2"))):
        with pytest.raises(LedgerError, match=words):
            look()
    assert sorted(Path("/dev/fd").iterdir()) == opened, "a ledger that is refused is closed"
    site.path.write_bytes(b"".join(lines))
    site.run("0200000000a3", Order("S3"))
    site.check("S3", "0200000000a3")


def test_a_ledger_that_is_another_one_is_refused(site: Site, tmp_path: Path) -> None:
    site.run(ONE, Order("S1"))
    with Ledger(tmp_path / "other.jsonl") as other:
        for number in range(5):
            other.add("begun", Piece(f"T{number}", TWO), known=[])
    site.path.write_bytes((tmp_path / "other.jsonl").read_bytes())
    with pytest.raises(LedgerError, match="is another one, as "):
        Ledger(site.path)
    site.path.with_suffix(".head").write_text('{"lines": true, "last": ""}')
    with pytest.raises(LedgerError, match=r"ledger\.head is damaged: remove it, if"):
        Ledger(site.path)


def test_a_ledger_may_be_ahead_of_what_stands_beside_it(site: Site) -> None:
    head = site.path.with_suffix(".head")
    site.run(ONE, Order("S1"))
    before = head.read_bytes()
    with Ledger(site.path) as ledger:
        ledger.add("begun", Piece("S2", TWO), known=[])
    head.write_bytes(before)  # a crash came between
    site.run(TWO, Order("S2"))
    site.check("S2", TWO)
    head.unlink()  # as before there was one
    assert peek(site.path)["S2"].done
    with Ledger(site.path) as ledger:
        assert ledger.pieces["S2"].done


def test_a_label_that_the_ledger_does_not_know_stops_the_line(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.run(ONE, Order("S1"))
    site.run(TWO, Order("S2"))
    site.void("S2")  # its label is known all the same
    assert list(peek(site.path, site.labels)) == ["S1"]
    lines = site.path.read_bytes().splitlines(keepends=True)
    site.path.write_bytes(b"".join(lines[:3]))
    site.path.with_suffix(".head").unlink()  # an older backup of all but the labels
    (site.labels / ".S9.png").write_bytes(b"")
    for look in (Ledger, peek):
        with pytest.raises(LedgerError, match=r"S2\.png is the label of .*ledger\.jsonl does not know"):
            look(site.path, site.labels)
    with pytest.raises(LedgerError, match="is the label of"):
        Desk(site, monkeypatch).run(None, TWO, scanned=["S2"])


def test_a_revoked_unit_is_not_done(site: Site) -> None:
    site.run(ONE, Order("S1"))
    with Ledger(site.path) as ledger:
        line = Line(ledger, site.authority, site.labels, None, site.said.append)
        add = ledger.add
        ledger.add = lambda event, *a, **k: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
        assert line.is_done(Order("S1"))
        with pytest.raises(KeyboardInterrupt):  # a crash comes after it was revoked
            line.void("S1")
        ledger.add = add  # type: ignore[method-assign]
        assert not line.is_done(Order("S1"))
    words = f"the certificate of unit {ONE} was revoked (or is another authority's); for a new one: --reissue S1"
    assert outlook(peek(site.path), Order("S1"), lambda piece: stands(site.authority, piece)) == words
    with pytest.raises(KoblerError, match=re.escape(words)):
        site.run(ONE, Order("S1"))
    site.void("S1")
    site.run(ONE, Order("S1"))
    site.check("S1", ONE)


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


def test_power_that_fails_before_the_lock_is_no_lock(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    desk = Desk(site, monkeypatch, Lock(OWNER))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Unit, "lock", cut)
        desk.run(None, ONE, scanned=["S1"])
    desk.run(None, ONE, scanned=["S1"])
    site.check("S1", ONE)
    assert site.board(ONE).hal.get_number("console") == 1
    assert [event for _, event in site.events()] == ["begun", "signed", "locking", "done"]


def test_power_that_fails_between_the_lock_and_the_ledger_loses_no_unit(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = site.folder / "orders.csv"
    orders.write_text("serial\nS1\n")
    desk = Desk(site, monkeypatch, Lock(OWNER))

    def cut(ledger: Ledger, event: str, piece: Piece, **fields: Any) -> None:
        if event == "done":
            raise KeyboardInterrupt
        add(ledger, event, piece, **fields)

    add = Ledger.add
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Ledger, "add", cut)
        desk.run(orders, ONE)
    assert [event for _, event in site.events()] == ["begun", "signed", "locking"]
    assert not peek(site.path)["S1"].done and site.board(ONE).hal.get_number("console") == 1
    (site.labels / "S1.png").unlink()
    desk.run(orders, ONE)
    site.check("S1", ONE)
    assert desk.done == ["S1"] and site.events()[-1] == ("S1", "done")
    before = site.path.read_bytes()
    desk.run(None, ONE, scanned=["S1"])
    assert site.said.count(f"S1: done already, unit {ONE}") == 2 and site.path.read_bytes() == before
    site.authority.revoke(ONE)
    with pytest.raises(KoblerError, match="1 of the scanned serial numbers could not be done: S1"):
        desk.run(None, ONE, scanned=["S1"])
    assert f"NOT DONE: serial number S1: the certificate of unit {ONE} was revoked" in site.said[-2]


def test_a_unit_that_another_locked_is_not_done(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(site, monkeypatch)
    for begun in (False, True):
        if begun:
            with Ledger(site.path) as ledger:
                ledger.add("begun", Piece("S1", ONE), known=[])
        site.board(ONE).hal.put_number("console", 1)
        with pytest.raises(KoblerError, match="1 of the scanned serial numbers could not be done: S1"):
            desk.run(None, ONE, scanned=["S1"])
        assert "NOT DONE: the console of unit 0200000000a1 is locked" in site.said[-2]


def test_a_serial_number_that_was_done_at_last_did_not_fail(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.run(ONE, Order("S1"))
    desk = Desk(site, monkeypatch)
    desk.run(None, ONE, TWO, scanned=["S2", "S/2", "S2"])
    assert desk.done == ["S2"] and [text for text in site.said if "NOT DONE" in text] == [
        f"NOT DONE: unit {ONE} has serial number S1; S2 was not given to it",
        "NOT DONE: 'S/2' is no serial number: use 1 to 32 letters, digits, '.', '_' or '-', a letter or digit first",
    ]
    for scanned, left in ((["S3", "S2"], "1 of the scanned serial numbers could not be done: S3"), (["S/2"], "'S/2'")):
        with pytest.raises(KoblerError, match=left):
            desk.run(None, ONE, TWO, scanned=scanned)


def test_a_pin_is_asked_for_before_another_reads_the_keyboard(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(site, monkeypatch)
    monkeypatch.setattr(site.authority, "ready", lambda: desk.order.append("pin"))
    desk.run(None)
    assert desk.order[0] == "pin" and "keyboard" in desk.order

    def refuse() -> None:
        raise KoblerError("the token 'line' refused the PIN")

    monkeypatch.setattr(site.authority, "ready", refuse)
    desk.order.clear()
    with pytest.raises(KoblerError, match="refused the PIN"):  # once, not for each board
        desk.run(None, ONE, scanned=["S1"])
    assert desk.order == [] and not site.path.read_bytes()
    site.run(ONE, Order("S1"))
    with pytest.raises(KoblerError, match="refused the PIN"):
        desk.run(None, reissue=["S1"])
    site.check("S1", ONE)  # nothing was revoked


def test_a_unit_that_is_to_be_locked_must_agree_on_the_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    console = site.board(ONE)
    console.hal._correction = 3 * 86_400_000
    desk = Desk(site, monkeypatch, Lock(OWNER))
    with pytest.raises(KoblerError, match="could not be done"):
        desk.run(None, ONE, scanned=["S1"])
    text = next(text for text in site.said if text.startswith("NOT DONE"))
    assert "this computer's clock says 20" in text and f"that of unit {ONE} 20" in text and "Set this computer" in text
    assert not site.path.read_bytes() and site.authority.entries() == []
    desk.lock = None
    desk.run(None, ONE, scanned=["S1"])
    assert any(text.startswith("warning: this computer's clock says") for text in site.said)
    site.check("S1", ONE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "first line must name the columns"),
        ("number\n1\n", "one of them `serial`"),
        ("serial\n", "has no serial numbers"),
        ("serial\nA\n\nB\nA\n", r"orders.csv:5: a stands in line 2"),
        ("serial\nA\na\n", r"orders.csv:3: a stands in line 2"),
        ("serial\n../A\n", r"orders.csv:2: '../A' is no serial number"),
        ("serial;id\nA;B\n", "one of them `serial`"),
        ('serial,note\nA,"x\nB,y\n', "unexpected end of data"),
        ("serial,serial\nA,B\n", "names 2 columns `serial`"),
        ("id,serial,id\n,A,\n", "names 2 columns `id`"),
        ("serial,id\nA,xyz\n", r"orders.csv:2: 'xyz' is no unit's id"),
        ("serial,id\nA,0200000000a1\nB,0200000000A1\n", "0200000000a1 stands in line 2"),
        ("serial\n\xff\n", "not CSV in UTF-8"),
    ],
)
def test_a_list_that_is_wrong_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=words):
        read_orders(path)


def test_a_list_as_a_spreadsheet_writes_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(b'\xef\xbb\xbfserial,id,note\r\nA-1,246F28AABBCC,x\r\n"A-2",,\r\n')
    assert read_orders(path) == [Order("A-1", "246f28aabbcc"), Order("A-2")]


@pytest.mark.parametrize("serial", ["A", "K1-2026-000123", "x" * 32, "a.b_c-D"])
def test_every_label_can_be_scanned(tmp_path: Path, serial: str) -> None:
    path = tmp_path / "label.png"
    label.write(path, ONE, serial, "0f" * 32)
    assert scanned(path) == f"kobler:{ONE}?sn={serial}&fp={'0f' * 32}"
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_certificate_of_the_ledger_is_the_one_the_authority_recorded(site: Site) -> None:
    site.run(ONE, Order("S1"))
    entry = json.loads(site.path.read_text().splitlines()[1])
    record = site.authority.folder / "issued" / f"{entry['certificate']}.pem"
    issued = x509.load_pem_x509_certificate(record.read_bytes())
    assert certificates.fingerprint(issued) == entry["fingerprint"]
    assert issued.not_valid_after_utc.isoformat() == entry["not_after"]

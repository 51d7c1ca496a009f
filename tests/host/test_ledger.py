"""The production line's ledger: cut off, damaged, changed, older or another one, it never gives a serial number
twice."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from kobler.provision.ledger import Ledger, LedgerError, Piece, peek
from kobler.provision.line import Line, Order
from kobler.provision.unit import Unit
from line_site import ONE, TWO, Desk, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


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

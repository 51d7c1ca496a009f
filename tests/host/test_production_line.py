"""The production line: whatever ends it, and wherever, a serial number gets one certificate and no line is lost."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from coupler.trust import csr, switch
from cryptography import x509
from kobler.errors import KoblerError, UsageError
from kobler.pki import certificates
from kobler.provision import label
from kobler.provision.ledger import Ledger, peek
from kobler.provision.line import Line, Order, outlook, read_orders, stands
from kobler.provision.unit import Unit
from line_site import ONE, TWO, Site, scanned


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


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

"""A production line with a person at it: what is scanned, asked for and locked, and power that fails in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kobler.errors import KoblerError
from kobler.provision.ledger import Ledger, Piece, peek
from kobler.provision.line import Order
from kobler.provision.steps import Lock
from kobler.provision.unit import Unit
from line_site import ONE, OWNER, TWO, Desk, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


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

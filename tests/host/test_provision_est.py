"""`kobler provision --est`: an EST server is the authority, asked from the computer at the cable or by the unit itself,
with the virtual board, the real MicroPython and a server that keeps to RFC 7030 and, on request, does not.

What needs no board is in test_est_authority.py, test_est_http.py, test_certs_only.py and test_est_options.py.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import shown
from board_at_port import IDENTITY, Unit, private_key, unit
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from est_place import SECRET, Place
from est_server import Answer, Authority, EstServer, answer, certs_only, issues, says
from kobler.build import Build
from kobler.errors import KoblerError
from kobler.pki import secret
from kobler.provision import steps

sys.path.insert(0, str(Path(__file__).parents[1] / "board"))
from leaks import leaks

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's


def has(it: Unit, place: Place) -> x509.Certificate:
    """The certificate that the unit has from this server; key and roots belong to it."""
    files = it.files()
    assert sorted(files) == sorted(IDENTITY)
    certificate, *between = shown.certificates(files["cert.der"])
    assert between == [place.server.issuer.certificate]
    certificate.verify_directly_issued_by(place.server.issuer.certificate)
    assert certificate.public_key() == private_key(files["key.der"]).public_key()
    assert certificate.subject.rfc4514_string() == f"CN={it.board.mac.hex()}"
    assert files["ca.der"] == place.server.root.der
    return certificate


def test_the_certificate_is_asked_for_from_here(shared: Unit, place: Place) -> None:
    start = len(shared.wire)
    done = place.provision(shared, "here")
    assert done.exit_code == 0, done.output + done.stderr
    assert place.server.operations() == ["cacerts", "simpleenroll"] and not place.server.users
    certificate = has(shared, place)
    assert certificate == place.server.issued[0]
    assert json.loads(done.stdout)["fingerprint"] == certificate.fingerprint(certificate.signature_hash_algorithm).hex()
    password = SECRET.partition(":")[2].encode()
    image = shared.board.flash.read(0, shared.board.flash.size)
    assert leaks(password, [bytes(shared.wire[start:]), done.output.encode(), done.stderr.encode(), image]) == []


def test_what_came_is_not_asked_for_twice(shared: Unit, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:

        def fails(*_: Any) -> Any:
            raise KoblerError("the cable was pulled")

        patch.setattr(steps, "install", fails)
        done = place.provision(shared, "here")
        assert "the cable was pulled" in str(done.exception)
    done = place.provision(shared, "here")
    assert done.exit_code == 0 and "it was issued before" in done.stderr
    assert place.server.operations() == ["cacerts", "simpleenroll"], "the secret was good for one"
    assert has(shared, place) == place.server.issued[0]


def test_not_yet_is_waited_for_a_while_and_else_the_key_waits(shared: Unit, place: Place) -> None:
    seen: list[bytes] = []

    def pending(seconds: str) -> Any:
        def step(server: EstServer, one: Any, request: Any) -> Answer:
            seen.append(one.body)
            return Answer(202, b"", {"Retry-After": seconds})

        return step

    def right(server: EstServer, one: Any, request: Any) -> Answer:
        seen.append(one.body)
        return answer(certs_only(server.issue(request)))

    before = {name: data for name, data in shared.files().items() if name in IDENTITY}
    place.server.script["simpleenroll"] = [pending("86400"), pending("1"), right]
    done = place.provision(shared, "here")
    assert "wants 86400 s: run the same command again" in str(done.exception)
    assert {name: data for name, data in shared.files().items() if name in IDENTITY} == before
    done = place.provision(shared, "here")
    assert done.exit_code == 0 and "wants 1 s" in done.stderr
    assert len(seen) == 3 and len(set(seen)) == 1, "the same request"
    has(shared, place)


def test_a_refusal_leaves_the_unit_as_it_was(shared: Unit, place: Place) -> None:
    before = {name: data for name, data in shared.files().items() if name in IDENTITY}
    place.server.users.clear()
    done = place.provision(shared, "here")
    assert "answered simpleenroll with 401: is the secret wrong, or was it used before?" in str(done.exception)
    assert {name: data for name, data in shared.files().items() if name in IDENTITY} == before


def test_a_batch_goes_on_with_what_was_paid_for(shared: Unit, place: Place) -> None:
    other, orders = Authority("Other root"), place.folder / "orders.csv"
    orders.write_text("serial\nK1-002\n")
    place.server.issuer = Authority("Issuer B", other)
    place.server.cacerts = [other.certificate, place.server.issuer.certificate]
    done = place.provision(shared, "here", "--batch", str(orders))
    assert done.exit_code != 0 and "'CN=Other root' is missing" in done.output + done.stderr + str(done.exception)
    place.trust(place.server.root, other)
    done = place.provision(shared, "here", "--batch", str(orders))
    assert done.exit_code == 0, done.output + done.stderr + str(done.exception)
    assert place.server.operations() == ["cacerts", "simpleenroll"]
    assert shared.files()["cert.der"] == shown.der(place.server.issued[0], place.server.issuer.certificate)


def test_a_line_shows_its_own_certificate(shared: Unit, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(secret.EST)
    identity, orders = place.identity("line-7"), place.folder / "orders.csv"
    orders.write_text("serial\nK1-001\n")
    done = place.provision(shared, "here", "--est-identity", str(identity), "--batch", str(orders))
    assert done.exit_code == 0, done.output + str(done.exception)
    ledger = (place.state / "production" / "ledger.jsonl").read_text().splitlines()
    fingerprint = has(shared, place).fingerprint(hashes.SHA256()).hex()
    assert [json.loads(line)["event"] for line in ledger] == ["begun", "signed", "done"]
    assert json.loads(ledger[-1])["fingerprint"] == fingerprint
    again = place.provision(shared, "here", "--est-identity", str(identity), "--batch", str(orders))
    assert again.exit_code == 0 and "every serial number is done" in again.stderr
    done = place.provision(
        shared, "here", "--est-identity", str(identity), "--batch", str(orders), "--reissue", "K1-001"
    )
    assert done.exit_code == 0 and "EST cannot revoke: have the certificate" in done.stderr
    assert has(shared, place) == place.server.issued[1], "a new one, for a new key"


def test_the_unit_fetches_its_certificate_itself(built: Build, place: Place) -> None:
    with unit(place.folder / "flash.bin", built) as it:
        place.server.script["simpleenroll"] = [says(202, Retry_After="5"), issues()]
        done = place.provision(it, "unit")
        assert done.exit_code == 0, done.output + str(done.exception)
        said = json.loads(done.stdout)
        assert (said["fingerprint"], said["not_after"]) == (None, None) and "needs to fetch" in done.stderr
        until = time.monotonic() + 60
        while "cert.der" not in it.files():
            assert time.monotonic() < until, bytes(it.wire[-3000:])
            time.sleep(0.2)
        it.said_since(0, b"the unit has a new certificate")
        assert has(it, place) == place.server.issued[0]
        assert [one.secret for one in place.server.seen if one.body] == [SECRET, SECRET]
        # It lay in the unit's flash, and was copied there over the wire; it was not said.
        wire = bytes(it.wire).replace(base64.b64encode(SECRET.encode())[:16], b"")
        assert b"Tr1cky" not in wire and "Tr1cky" not in done.output + done.stderr


def test_the_unit_shows_the_certificate_it_has(shared: Unit, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.provision(shared, "here").exit_code == 0
    old = shared.files()["cert.der"]
    monkeypatch.delenv(secret.EST)
    assert place.provision(shared, "unit", "--no-est-secret").exit_code == 0
    until = time.monotonic() + 60
    while shared.files()["cert.der"] == old:
        assert time.monotonic() < until, bytes(shared.wire[-3000:])
        time.sleep(0.2)
    assert shared.files()["cert.der"] == shown.der(place.server.issued[1], place.server.issuer.certificate)


def test_a_dry_run_looks_at_the_server_and_sends_nothing(shared: Unit, place: Place) -> None:
    before = shared.files()
    done = place.provision(shared, "here", "--dry-run")
    assert done.exit_code == 0 and re.search("whose authorities are (Root, Issuer|Issuer, Root)\n", done.stderr)
    assert place.server.operations() == ["cacerts"] and not place.state.exists()
    done = place.provision(shared, "unit", "--dry-run")
    assert done.exit_code == 0 and "the unit would fetch its certificate from https://localhost" in done.stderr
    assert shared.files() == before

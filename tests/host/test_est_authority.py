"""An EST server as the authority, asked from the computer at the cable: what it gives is judged, kept while it is good,
and led to a root that is known here."""

from __future__ import annotations

import base64
import datetime as dt
import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from est_place import REQUEST, SECRET, UNIT, Place
from est_server import DER, Authority, issues, says
from kobler.errors import KoblerError
from kobler.pki import certificates

STRANGER = ec.generate_private_key(ec.SECP256R1())
TOO_EARLY = (420 / 86400, 90)


def names(*others: str) -> x509.SubjectAlternativeName:
    """The unit's own, in another order, and these."""
    return x509.SubjectAlternativeName([*map(x509.DNSName, others), *certificates.unit_names(UNIT)[::-1]])


@pytest.mark.parametrize(
    ("operation", "step", "words", "kept"),
    [
        ("simpleenroll", says(302, Location="https://localhost:1/"), "answered simpleenroll with 302$", []),
        ("simpleenroll", issues(key=STRANGER.public_key()), "of no use: none of these certificates is for the key", []),
        (
            "simpleenroll",
            issues(purpose=ExtendedKeyUsageOID.SERVER_AUTH),
            "of '020000000001' is not for TLS clients: ask",
            [".void"],
        ),
        (
            "simpleenroll",
            issues(subject=x509.Name([])),
            "of no use: the certificate is for '', the unit is 020000000001",
            [".void"],
        ),
        ("simpleenroll", issues(by=Authority("Other")), "the authority 'CN=Other' is missing: add it to", [".pem"]),
        (
            "simpleenroll",
            issues(by=Authority("Issuer")),
            "another key than that of the authority 'CN=Issuer' here",
            [".pem"],
        ),
        ("simpleenroll", issues(days=(-9, -1)), "expired at", [".void"]),
        ("simpleenroll", issues(names=names("x.example.com")), "that was not asked for: 'x.example.com'", [".void"]),
        ("simpleenroll", issues(names=names("246f28ffffff")), "that was not asked for: '246f28ffffff'", [".void"]),
        ("simpleenroll", issues(days=TOO_EARLY), "is not valid before", [".pem"]),
        ("simpleenroll", says(200, b"%%%"), "answer to simpleenroll has no certificates in it", []),
        ("cacerts", says(200, base64.b64encode(b"0\x80")), "answer to cacerts has no certificates in it", []),
        ("cacerts", says(200, b"A" * 70000), "answered cacerts with more than 65536 bytes", []),
        ("cacerts", says(202), "answered cacerts with 202", []),
        ("cacerts", says(503), "answered cacerts with 503$", []),
        ("cacerts", says(503, Retry_After="20"), "answered cacerts with 503: try again in 20 s$", []),
        ("simpleenroll", says(429, b"slow", Retry_After="7", Content_Type="text/plain"), "429: try again in 7 s$", []),
        ("simpleenroll", says(429, Retry_After="Sun, 06 Nov 1994 08:49:37 GMT"), "429: try again in 0 s$", []),
        ("simpleenroll", says(202, Retry_After="99"), "wants 99 s: run the same command again", []),
    ],
    ids=[
        *("redirect", "key", "purpose", "name", "chain", "namesake", "expired", "DNS name", "other unit"),
        *("early", "rubbish", "cacerts"),
        *("large", "202", "503", "503 with a time", "429", "429 of before", "later"),
    ],
)
def test_what_is_wrong_is_named(place: Place, operation: str, step: Any, words: str, kept: list[str]) -> None:
    place.server.script[operation] = [step]
    with pytest.raises(KoblerError, match=words) as caught:
        place.authority().certify(REQUEST, UNIT)
    assert "Tr1cky" not in str(caught.value) and "--ca-in" not in str(caught.value) and place.kept() == kept


@pytest.mark.parametrize("given", [None, names(), x509.SubjectAlternativeName([x509.DNSName(UNIT)])])
def test_fewer_names_than_were_asked_for_are_fine(place: Place, given: x509.SubjectAlternativeName | None) -> None:
    place.server.script["simpleenroll"] = [issues(names=given)]
    assert place.authority().certify(REQUEST, UNIT).certificate == place.server.issued[0].public_bytes(DER)


def test_an_authority_whose_clock_is_a_little_ahead(place: Place) -> None:
    place.server.script["simpleenroll"] = [issues(days=(240 / 86400, 90))]
    assert place.authority().certify(REQUEST, UNIT).certificate == place.server.issued[0].public_bytes(DER)


def test_a_new_root_counts_when_a_known_one_vouches_for_it(place: Place) -> None:
    new = Authority("New root")
    place.server.issuer = Authority("New issuer", new)
    place.server.cacerts = [new.certificate, place.server.issuer.certificate]
    with pytest.raises(KoblerError, match="the certificate of the authority 'CN=New root' is missing"):
        place.authority().certify(REQUEST, UNIT)
    for path in place.state.rglob("*.pem"):
        path.unlink()
    place.server.users = {SECRET}
    place.server.cacerts.append(place.server.root.certify(new))
    found = place.authority().certify(REQUEST, UNIT)
    assert len(found.chain) == 2 and found.ca == place.server.root.der


def test_a_root_that_changes_its_key_keeps_its_name(place: Place) -> None:
    # RFC 4210, 4.4: old and new root, and each one's key certified by the other.
    old, new = place.server.root, Authority("Root")
    with_old, with_new = old.certify(new), new.certify(old)
    place.server.issuer = Authority("New issuer", new)
    four = [new.certificate, with_new, with_old, old.certificate]
    place.server.cacerts = [*four, place.server.issuer.certificate]
    found = place.authority().certify(REQUEST, UNIT)
    assert found.chain == [place.server.issuer.der, with_old.public_bytes(DER)] and found.ca == old.der
    place.trust(new)
    found = place.authority().with_chain(found.certificate)
    assert found.chain == [place.server.issuer.der] and found.ca == new.der


def test_what_was_paid_for_is_kept_until_the_right_root_is_named(place: Place) -> None:
    other = Authority("Other root")
    place.server.issuer = Authority("Issuer B", other)
    place.server.cacerts = [other.certificate, place.server.issuer.certificate]
    for _ in range(2):
        with pytest.raises(
            KoblerError, match="'CN=Other root' is missing: add it to the file of --est-roots"
        ) as caught:
            place.authority().certify(REQUEST, UNIT)
        (path,) = place.state.rglob("*.pem")
        assert f"kept in {path}" in str(caught.value)
    place.trust(place.server.root, other)
    found = place.authority().certify(REQUEST, UNIT)
    assert found.chain == [place.server.issuer.der] and found.ca == place.server.root.der + other.der
    assert place.server.operations() == ["cacerts", "simpleenroll"] and not place.server.users


def test_what_is_of_no_use_or_has_expired_does_not_stand_in_the_way(place: Place) -> None:
    place.server.users = {SECRET, "second:" + SECRET}
    place.server.script["simpleenroll"] = [
        issues(purpose=ExtendedKeyUsageOID.SERVER_AUTH),
        issues(days=(-1, 2 / 86400)),
    ]
    with pytest.raises(KoblerError, match="not for TLS clients"):
        place.authority().certify(REQUEST, UNIT)
    place.authority().certify(REQUEST, UNIT)
    assert place.kept() == [".pem", ".void"]
    time.sleep(max(0, (place.server.issued[1].not_valid_after_utc - dt.datetime.now(dt.UTC)).total_seconds()) + 0.1)
    del place.server.script["simpleenroll"]
    found = place.authority().certify(REQUEST, UNIT)
    assert found.certificate == place.server.issued[2].public_bytes(DER)
    assert place.authority().of_unit(UNIT)[0] == place.server.issued[2]
    assert place.authority().certify(REQUEST, UNIT) == found and len(place.server.issued) == 3

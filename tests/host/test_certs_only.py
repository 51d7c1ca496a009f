"""Messages with certificates and nothing else (CMS certs-only), as EST servers write them: read by the computer at the
cable, or refused."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import warnings
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from est_place import KEY, NAME, REQUEST, UNIT, Place
from est_server import DER, EstServer, answer
from kobler.errors import KoblerError
from kobler.provision import certs_only

STRANGER = ec.generate_private_key(ec.SECP256R1())


def tlv(tag: int, *parts: bytes, marked: bool = False) -> bytes:
    """One element; `marked`: its end is, instead of a length."""
    content = b"".join(parts)
    if marked:
        return bytes((tag, 0x80)) + content + b"\0\0"
    size = len(content).to_bytes(4).lstrip(b"\0")
    return (
        bytes((tag,)) + (bytes((0x80 | len(size),)) + size if len(content) > 127 else bytes((len(content),))) + content
    )


def message(*certificates: bytes, marked: bool = False) -> bytes:
    """certs-only, in this order."""
    end = {"marked": marked}
    version, none, signed = (bytes.fromhex(one) for one in ("020101", "3100", "06092a864886f70d010702"))
    data = tlv(0x30, bytes.fromhex("06092a864886f70d010701"), **end)
    inner = tlv(0x30, version, none, data, tlv(0xA0, *certificates, **end), none, **end)
    return tlv(0x30, signed, tlv(0xA0, inner, **end), **end)


@pytest.mark.parametrize("marked", [False, True], ids=["sets that are not sorted", "BER"])
def test_messages_as_servers_write_them_are_read_in_silence(place: Place, marked: bool) -> None:
    for turned in (1, -1):
        ders = sorted((place.server.root.der, place.server.issuer.der), key=len)[::turned]
        place.server.script["cacerts"] = [lambda *_, ders=ders: answer(message(*ders, marked=marked))]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert [one.public_bytes(DER) for one in place.authority().authorities()] == ders


def test_a_damaged_message_is_a_value_error_and_nothing_else() -> None:
    rng = random.Random(7030)
    good = [message(b"\x30\x03abc", b"\x30\x00", marked=marked) for marked in (False, True)]
    assert [certs_only.split(one) for one in good] == [[b"\x30\x03abc", b"\x30\x00"]] * 2
    cases = [one[:at] for one in good for at in range(len(one))]
    cases += [one + b"\0" for one in good] + [b"\x30\x80" * 30000, b"\x30\x84\xff\xff\xff\xff", message()]
    cases.append(good[0].replace(bytes.fromhex("010702"), bytes.fromhex("010703")))
    for case in cases:
        with pytest.raises(ValueError):
            certs_only.split(case)
    for _ in range(2000):
        case = bytearray(rng.choice(good))
        case[rng.randrange(len(case))] = rng.randrange(256)
        with contextlib.suppress(ValueError):
            certs_only.split(bytes(case))


def strange(server: EstServer, key: Any) -> bytes:
    """A certificate with an extension that is damaged, and not critical."""
    names = x509.UnrecognizedExtension(x509.OID_SUBJECT_ALTERNATIVE_NAME, b"\x30\x05")
    builder = x509.CertificateBuilder(server.issuer.name, NAME, key, 7)
    now = dt.datetime.now(dt.UTC)
    builder = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(1)).add_extension(names, False)
    return builder.sign(server.issuer.key, hashes.SHA256()).public_bytes(DER)


def test_a_strange_certificate_is_passed_over_unless_it_is_the_units(place: Place) -> None:
    other = strange(place.server, STRANGER.public_key())
    place.server.script["cacerts"] = [lambda *_: answer(message(other, b"\x30\x00", place.server.issuer.der))]
    place.server.script["simpleenroll"] = [lambda *_: answer(message(other, strange(place.server, KEY.public_key())))]
    with pytest.raises(KoblerError, match=r"of no use: it cannot be read \(.*subject_alternative_name|SubjectAlt"):
        place.authority().certify(REQUEST, UNIT)
    place.server.script["simpleenroll"] = [
        lambda server, _, request: answer(message(other, server.issue(request).public_bytes(DER)))
    ]
    assert place.authority().certify(REQUEST, UNIT).chain == [place.server.issuer.der]

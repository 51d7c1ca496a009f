"""Certificates that somebody would stumble over, brokers on OpenSSL or the unit, though cryptography reads them: the
computer at the cable refuses them, with the cause. And those that are only strange, which are taken."""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path
from typing import Any

import pytest
from coupler.trust import der as unit_der
from coupler.trust import x509 as unit_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from judged_twice import NAME, UNIT, altered, der, judged_as_it_is, named, request
from kobler.errors import KoblerError
from kobler.pki import certificates, files
from kobler.provision import external
from other_authority import OtherAuthority, pem, rsa_key

NS_CERT_TYPE = x509.ObjectIdentifier("2.16.840.1.113730.1.1")
AUTHORITIES = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
ROOT, ISSUER = (one.public_key() for one in AUTHORITIES)
FIT = "authorityKeyIdentifier in the certificate of {} does not fit that of {}, who signed it: OpenSSL"


def verified(folder: Path, leaf: x509.Certificate, chain: list[x509.Certificate], *options: str) -> bool:
    """What OpenSSL, and so most brokers, say."""
    for name, some in (("leaf", [leaf]), ("root", chain[:1]), ("between", chain[1:])):
        (folder / name).write_bytes(pem(*some))
    between = ["-untrusted", str(folder / "between")] if chain[1:] else []
    command = ["openssl", "verify", "-purpose", "sslclient", *options, "-CAfile", str(folder / "root"), *between]
    return subprocess.run([*command, str(folder / "leaf")], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, ""),
        ({"root": named(ROOT), "issuer": named(ROOT), "leaf": named(ISSUER)}, ""),
        (
            {"root": named(None, "Other 0", 17), "issuer": named(ROOT, "Other 0", 17), "leaf": named(None, serial=18)},
            "",
        ),
        ({"leaf": named(ROOT)}, FIT.format(f"'{UNIT}'", "'Other 1'")),
        ({"leaf": named(ISSUER, serial=19)}, FIT.format(f"'{UNIT}'", "'Other 1'")),
        ({"leaf": named(ISSUER, "Other 1", 18)}, FIT.format(f"'{UNIT}'", "'Other 1'")),
        ({"issuer": named(ISSUER)}, FIT.format("'Other 1'", "'Other 0'")),
        ({"root": named(ISSUER)}, FIT.format("'Other 0'", "'Other 0'")),
        ({"leaf": x509.UnrecognizedExtension(NS_CERT_TYPE, b"\x03\x02\x07\x80")}, ""),
        ({"leaf": x509.UnrecognizedExtension(NS_CERT_TYPE, b"\x03\x02\x06\x40")}, "ask for one with nsCertType client"),
        ({"leaf": x509.UnrecognizedExtension(NS_CERT_TYPE, b"\x03\x01\x00")}, "ask for one with nsCertType client"),
    ],
)
def test_what_brokers_on_openssl_refuse_is_refused_here(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    other, unit = OtherAuthority(), ec.generate_private_key(ec.SECP256R1())

    def made(who: str, subject: x509.Name, key: Any, signer: int) -> x509.Certificate:
        above = other.chain[signer].subject
        builder = other._builder(subject, above, key, ca=who != "leaf").add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key), False
        )
        builder._serial_number = 17 + ("root", "issuer", "leaf").index(who)
        if who in more:
            builder = builder.add_extension(more[who], False)
        return builder.sign(AUTHORITIES[signer], hashes.SHA256())

    subjects = [one.subject for one in other.chain]
    leaf = made("leaf", NAME, unit.public_key(), 1)
    other.chain = [made("root", subjects[0], ROOT, 0), made("issuer", subjects[1], ISSUER, 0)]
    here = judged_as_it_is(leaf, other)[0]
    assert words in here and bool(words) == bool(here), here
    assert verified(tmp_path, leaf, other.chain) == (not words)


def key_info(algorithm: str, bits: bytes) -> bytes:
    return unit_der.tlv(0x30, unit_der.tlv(0x30, bytes.fromhex(algorithm)), unit_der.tlv(3, b"\0" + bits))


def alternative(tag: int, text: bytes) -> bytes:
    """The extensions of a leaf that has but this name."""
    names = unit_der.tlv(0x04, unit_der.tlv(0x30, unit_der.tlv(tag, text)))
    constraints = bytes.fromhex("300f0603551d130101ff040530030101ff")
    return unit_der.tlv(0xA3, unit_der.tlv(0x30, unit_der.tlv(0x30, unit_der.SUBJECT_ALT_NAME, names), constraints))


POINT = ROOT.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
PKCS1 = rsa_key(2048).public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)


@pytest.mark.parametrize(
    ("parts", "here", "there"),
    [
        ({"version": b"", "extensions": b""}, "is X.509 version 1: ask for version 3, as from openssl", "version 3"),
        ({"serial": b"\2\1\xfb"}, "has a serial number that is negative, or of more than 20 bytes", "negative"),
        ({"serial": b"\2\x15\1" + bytes(20)}, "of more than 20 bytes", "of more than 20 bytes"),
        ({"algorithm": bytes.fromhex("300a06082a8648ce3d040303")}, "names two kinds of signature", "unexpected"),
        ({"key": key_info("06072a8648ce3d020106082a8648ce3d030107", POINT)}, "has its key in a form other", "point"),
        ({"key": key_info("06092a864886f70d010101", PKCS1)}, "has its key in a form other than rsaEncryption", ""),
        ({"key": key_info("06092a864886f70d01010a", PKCS1)}, "has its key in a form other than rsaEncryption", ""),
        ({"extensions": alternative(0x82, b"a b")}, "has the alternative name 'a b'", "bad character"),
        ({"extensions": alternative(0x82, b"")}, "has the alternative name ''", "bad character"),
        ({"extensions": alternative(0x86, b"urn:a\0")}, r"has the alternative name 'urn:a\x00'", "bad character"),
        ({"extensions": alternative(0x87, bytes(8))}, "has the alternative name '0.0.0.0/0'", "bad IP address"),
    ],
)
def test_what_only_cryptography_can_read_is_refused_here(
    tmp_path: Path, parts: dict[str, bytes], here: str, there: str
) -> None:
    bits = (2048,) if PKCS1 in parts.get("key", b"") else None
    other, own = OtherAuthority(0, keys=(bits,)), ec.generate_private_key(ec.SECP256R1())
    other._key = rsa_key(2048) if bits else AUTHORITIES[0]
    name = other.chain[0].subject
    other.chain = [other._builder(name, name, other._key.public_key(), ca=True).sign(other._key, hashes.SHA256())]
    leaf = other.sign(request(tmp_path, own))
    assert judged_as_it_is(leaf, other) == ("", "")
    found = [] if parts.get("extensions") else [judged_as_it_is(altered(leaf, **parts), other)]
    other.chain = [altered(other.chain[0], **parts)]
    for one in (*found, judged_as_it_is(leaf, other)):
        assert here in one[0] and there in one[1] and one[1], one


def test_a_common_name_is_text_that_the_unit_reads(tmp_path: Path) -> None:
    other = OtherAuthority()
    for tag, words in ((12, ""), (19, ""), (22, "is neither UTF8String nor PrintableString")):
        leaf = other.sign(request(tmp_path, AUTHORITIES[0]))
        leaf = (
            leaf
            if tag == 12
            else altered(leaf, subject=leaf.subject.public_bytes().replace(b"\x0c\x0c", bytes((tag, 12))))
        )
        assert unit_x509.Certificate(der(leaf)).common_name() == ("" if words else UNIT)
        if words:
            assert words in judged_as_it_is(leaf, other)[0]
        else:
            external.judged.check_common_name(leaf)


def test_a_size_that_no_place_in_flash_has(tmp_path: Path) -> None:
    other = OtherAuthority(0)
    builder = other._builder(NAME, other.chain[0].subject, ROOT)
    builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), bytes(4000)), False)
    here, there = judged_as_it_is(builder.sign(other._key, hashes.SHA256()), other)
    assert "more than 4096: units cannot read it" in here and "at most 4096" in there


@pytest.mark.parametrize(
    ("name", "good"),
    [
        (x509.UniformResourceIdentifier(f"urn:dev:kobler:{UNIT}"), True),
        (x509.UniformResourceIdentifier("urn:dev:kobler:246f28ffffff"), False),
        (x509.UniformResourceIdentifier("URN:dev:kobler:246f28ffffff"), False),
        (x509.DNSName("plant-7.example.com"), True),
    ],
)
def test_the_name_of_another_unit_is_refused(name: x509.GeneralName, good: bool) -> None:
    other = OtherAuthority(0)
    builder = other._builder(NAME, other.chain[0].subject, ROOT)
    leaf = builder.add_extension(x509.SubjectAlternativeName([name]), False).sign(other._key, hashes.SHA256())
    assert ("of another unit than" in judged_as_it_is(leaf, other)[0]) == (not good)


def test_strange_certificates_are_read_without_warnings_of_python(tmp_path: Path) -> None:
    other = OtherAuthority(0)
    with warnings.catch_warnings(action="ignore"):
        country = x509.Name([x509.NameAttribute(x509.NameOID.COUNTRY_NAME, "DEU", _validate=False), *NAME])
        leaf = other._builder(country, other.chain[0].subject, ROOT).sign(other._key, hashes.SHA256())
    negative = altered(leaf, serial=b"\2\1\xfb")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for one, words in ((leaf, None), (negative, "serial number that is negative")):
            (tmp_path / "answer").write_bytes(pem(one, *other.chain))
            found = external.read_certificates(tmp_path / "answer")
            if words:
                with pytest.raises(KoblerError, match=words):
                    external.answer(found, ROOT, UNIT)
            else:
                assert external.answer(found, ROOT, UNIT).certificate == der(leaf)


def test_what_openssl_makes_of_a_request_as_the_documentation_says(tmp_path: Path) -> None:
    unit, boss = tmp_path / "unit.csr", ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName(certificates.unit_names(UNIT))
    signed = x509.CertificateSigningRequestBuilder().subject_name(NAME).add_extension(names, False)
    unit.write_bytes(signed.sign(AUTHORITIES[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (tmp_path / "ca.key").write_bytes(files.key_pem(boss))
    other = OtherAuthority(0)
    other.chain = [certificates.root(boss, "Company")]
    (tmp_path / "ca.pem").write_bytes(pem(*other.chain))
    text = (Path(__file__).parents[2] / "docs" / "pki.md").read_text()
    (command,) = (line for line in text.splitlines() if line.startswith("openssl x509 -req"))
    assert " -copy_extensions copy " in command
    for given, here, there in (
        (command, "", ""),
        (command.replace(" -copy_extensions copy", ""), "is X.509 version 1", "not X.509 version 3"),
    ):
        subprocess.run(given.split(), check=True, cwd=tmp_path, capture_output=True)
        leaf = x509.load_pem_x509_certificate((tmp_path / "unit.pem").read_bytes())
        if here and leaf.version is x509.Version.v3:
            continue  # as OpenSSL has it from 3.4 on
        found = judged_as_it_is(leaf, other)
        assert here in found[0] and there in found[1] and bool(here) == bool(found[0])
        assert here or verified(tmp_path, leaf, other.chain, "-x509_strict")

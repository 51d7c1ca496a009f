"""Authorities of companies, most of which have RSA keys: the computer at the cable and the unit judge them alike."""

from __future__ import annotations

import datetime as dt
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from coupler.trust import anchors, chains
from coupler.trust import der as unit_der
from coupler.trust import x509 as unit_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.x509.oid import ExtendedKeyUsageOID
from kobler.errors import KoblerError
from kobler.pki import certificates, files
from kobler.provision import external
from other_authority import OtherAuthority, pem, rsa_key

UNIT = "246f28aabbcc"
SERVER, CLIENT, ANY = (
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
)
PSS = padding.PSS(padding.MGF1(hashes.SHA256()), 32)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def request(folder: Path, key: Any) -> Path:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, UNIT)])
    signed = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    (folder / "csr").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    return folder / "csr"


def judged(folder: Path, other: OtherAuthority, **options: Any) -> tuple[str, str]:
    """What the computer and the unit have against a certificate of this authority; "" for nothing."""
    key = ec.generate_private_key(ec.SECP256R1())
    return judged_as_it_is(other.sign(request(folder, key), **options), other)


def judged_as_it_is(certificate: x509.Certificate, other: OtherAuthority) -> tuple[str, str]:
    here = there = ""
    key: Any = certificate.public_key()
    try:
        found = external.answer([certificate, *other.chain], key, UNIT)
        assert found.certificate == der(certificate) and found.ca == der(other.chain[0])
        assert found.chain == [der(one) for one in reversed(other.chain[1:])]
    except KoblerError as error:
        here = str(error)
    try:
        root, *between = (unit_x509.Certificate(der(one)) for one in other.chain)
        leaf = unit_x509.Certificate(der(certificate))
        chains.check(leaf, between, [root], int(time.time()), unit_x509.CLIENT)
    except ValueError as error:
        there = str(error)
    return here, there


@pytest.mark.parametrize(
    "options",
    [
        {"keys": ((2048,), (2048,))},
        {"keys": ((4096,), (3072,)), "uses": (None, CLIENT)},
        {"keys": ((2048, 3), (4096, 3)), "uses": (CLIENT, ANY)},
        {"keys": ((4096,), None)},
        {"keys": (None, (4096,)), "lengths": (1, 0)},
        {"keys": ((2049,),), "levels": 0},
    ],
    ids=["2048", "4096, 3072", "exponent 3", "a P-256 intermediate", "a P-256 root", "a root alone"],
)
def test_authorities_that_are_taken_here_and_there(tmp_path: Path, options: dict[str, Any]) -> None:
    assert judged(tmp_path, OtherAuthority(**options)) == ("", "")


@pytest.mark.parametrize(
    ("options", "leaf", "here", "there"),
    [
        (
            {"keys": ((2048,), (1024,))},
            {},
            "'Other 1' has an RSA key of 1024 bits and exponent 65537; units know P-256, and RSA of 2048 to 4096 bits",
            "'Other 1' has an RSA key of 1024 bits: too short, at least 2048",
        ),
        ({"keys": ((1024,), None)}, {}, "'Other 0' has an RSA key of 1024 bits", "RSA key of 1024 bits: too short"),
        ({"keys": ((4098,), None)}, {}, "an RSA key of 4098 bits", "4098 bits: too long, at most 4096"),
        ({"curve": ec.SECP384R1()}, {}, "'Other 1' has a key on secp384r1", "has a key on the curve 1.3.132.0.34"),
        (
            {"keys": ((2048,), (2048,)), "digest": hashes.SHA512()},
            {},
            f"certificate of '{UNIT}' is signed with sha512WithRSAEncryption (1.2.840.113549.1.1.13), not with",
            "is signed with RSA and SHA-512, not with",
        ),
        (
            {"keys": ((2048,), (2048,)), "padding": PSS},
            {},
            "is signed with rsassaPss (1.2.840.113549.1.1.10), not",
            "is signed with RSASSA-PSS, not",
        ),
        ({"digest": hashes.SHA384()}, {}, "is signed with ecdsa-with-SHA384 (", "signed with ECDSA and SHA-384, not"),
        (
            {"keys": ((2048,), (2048,)), "uses": (None, SERVER)},
            {},
            "authority 'Other 1' may not issue for TLS clients: ask for one with extendedKeyUsage clientAuth",
            "'Other 1' is an authority, but not for clients of TLS (extendedKeyUsage clientAuth)",
        ),
        ({"uses": (SERVER, CLIENT)}, {}, "authority 'Other 0' may not issue", "'Other 0' is an authority, but not for"),
        (
            {},
            {"server": True},
            f"certificate of '{UNIT}' is not for TLS clients: ask for one with extendedKeyUsage clientAuth",
            "is not for clients of TLS (extendedKeyUsage clientAuth)",
        ),
        (
            {},
            {"signs": False},
            f"certificate of '{UNIT}' is not for TLS clients: ask for one with keyUsage digitalSignature",
            "is not for clients of TLS (extendedKeyUsage clientAuth), and its key usage has no digitalSignature",
        ),
        ({"signs": (True, False)}, {}, "ask for one with keyUsage keyCertSign", "'Other 1' may not issue certificates"),
        (
            {"more": x509.NameConstraints([x509.DNSName("example.com")], None)},
            {},
            "has the extension 2.5.29.30, which units do not understand: ask for one without it",
            "unknown critical extension 2.5.29.30",
        ),
        ({"more": x509.InhibitAnyPolicy(0)}, {}, "has the extension 2.5.29.54", "unknown critical extension 2.5.29.54"),
    ],
)
def test_authorities_that_are_refused_here_and_there_with_the_cause(
    tmp_path: Path, options: dict[str, Any], leaf: dict[str, Any], here: str, there: str
) -> None:
    found = judged(tmp_path, OtherAuthority(**options), **leaf)
    assert here in found[0] and there in found[1], found


@pytest.mark.parametrize(("ahead", "good"), [(240, True), (420, False)])
def test_an_authority_whose_clock_is_ahead(tmp_path: Path, ahead: int, good: bool) -> None:
    here, there = judged(tmp_path, OtherAuthority(), days=(ahead / 86400, 30))
    assert (here, there) == ("", "") if good else "is not valid before" in here and "is not valid yet" in there


def new_key(other: OtherAuthority, length: int | None, newer: Any) -> x509.Certificate:
    """RFC 4210, 4.4, NewWithOld: the root vouches for its next key, under its own name."""
    name = other.chain[0].subject
    builder = other._builder(name, name, newer.public_key(), ca=True, length=length)
    return builder.sign(other._key, hashes.SHA256())


def below(other: OtherAuthority, key: Any) -> OtherAuthority:
    """An issuer under the last of the chain, which has this key; it is the one that signs then."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Issuer")])
    own = ec.generate_private_key(ec.SECP256R1())
    builder = other._builder(name, other.chain[-1].subject, own.public_key(), ca=True, length=0)
    other.chain.append(builder.sign(key, hashes.SHA256()))
    other._key = own
    return other


@pytest.mark.parametrize(("length", "good"), [(None, True), (1, True), (0, False)])
@pytest.mark.parametrize("keys", [((2048,),), (None,)], ids=["RSA", "P-256"])
def test_a_root_that_changed_its_key_and_kept_its_name(
    tmp_path: Path, length: int | None, good: bool, keys: tuple[Any]
) -> None:
    other, newer = OtherAuthority(0, lengths=(1,), keys=keys), ec.generate_private_key(ec.SECP256R1())
    other.chain.append(new_key(other, length, newer))
    here, there = judged(tmp_path, below(other, newer))
    if good:  # what is issued to itself does not count for the root's path length of 1
        assert (here, there) == ("", "")
    else:
        assert "'Other 0' may not have so many authorities below it" in here and "'Other 0'" in there


def test_a_way_that_leads_nowhere_is_not_the_last_one(tmp_path: Path) -> None:
    other, newer, unit = OtherAuthority(0), *(ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    old, old_key = other.chain[0], other._key
    bridge, back = new_key(other, None, newer), new_key(other, None, newer)
    other._key = newer
    root, foreign = new_key(other, None, newer), new_key(other, None, old_key)  # OldWithNew
    other.chain = [bridge]
    issuer = below(other, newer).chain[1]
    leaf = other.sign(request(tmp_path, unit))
    everything = [leaf, foreign, root, issuer, back, bridge, old]

    def chain(found: list[x509.Certificate], roots: list[x509.Certificate] | None) -> list[bytes]:
        given = external.answer(found, unit.public_key(), UNIT, roots)
        return [*given.chain, given.ca]

    for found in (everything, everything[::-1]):
        assert chain(found, None) == [der(issuer), der(root)], "a file: up to what is signed by itself"
        assert chain(found, [root]) == [der(issuer), der(root)]
        first = next(one for one in found if one in (bridge, back))
        assert chain(found, [old]) == [der(issuer), der(first), der(old)]
    without = [one for one in everything if one not in (root, old)]
    for roots in (None, [OtherAuthority(0).chain[0]]):
        with pytest.raises(
            KoblerError, match=r"vouch for each other|another key than that of the authority 'CN=Other 0' here"
        ):
            chain(without, roots)


def test_many_authorities_of_one_name_are_tried_once_each(tmp_path: Path) -> None:
    other, unit = OtherAuthority(0), ec.generate_private_key(ec.SECP256R1())
    leaf = other.sign(request(tmp_path, unit))
    knot = [new_key(other, None, other._key) for _ in range(60)]
    start = time.monotonic()
    with pytest.raises(KoblerError, match=r"vouch for each other|more than 4"):
        external.answer([leaf, *knot], unit.public_key(), UNIT, OtherAuthority(0).chain)
    assert time.monotonic() - start < 10


def test_a_root_that_signed_itself_with_sha_1_is_one(tmp_path: Path) -> None:
    # Nobody can check that any more, and nobody has to.
    other = OtherAuthority(0, keys=((2048,),))
    (tmp_path / "key").write_bytes(
        other._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    command = ["openssl", "req", "-x509", "-sha1", "-key", str(tmp_path / "key"), "-subj", "/CN=Other 0", "-days", "9"]
    found = subprocess.run(command, check=True, capture_output=True).stdout
    other.chain = [x509.load_pem_x509_certificate(found)]
    assert judged(tmp_path, other) == ("", "")


def test_what_a_root_signed_itself_with_does_not_matter(tmp_path: Path) -> None:
    other = OtherAuthority(keys=((2048,), None))
    key = rsa_key(2048)
    builder = other._builder(other.chain[0].subject, other.chain[0].subject, key.public_key(), ca=True)
    other.chain[0] = builder.sign(key, hashes.SHA512())
    assert judged(tmp_path, other) == ("", "")


NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, UNIT)])
NS_CERT_TYPE = x509.ObjectIdentifier("2.16.840.1.113730.1.1")


def verified(folder: Path, leaf: x509.Certificate, chain: list[x509.Certificate], *options: str) -> bool:
    """What OpenSSL, and so most brokers, say."""
    for name, some in (("leaf", [leaf]), ("root", chain[:1]), ("between", chain[1:])):
        (folder / name).write_bytes(pem(*some))
    between = ["-untrusted", str(folder / "between")] if chain[1:] else []
    command = ["openssl", "verify", "-purpose", "sslclient", *options, "-CAfile", str(folder / "root"), *between]
    return subprocess.run([*command, str(folder / "leaf")], check=False, capture_output=True).returncode == 0


def named(key: Any = None, name: str = "Other 0", serial: int | None = None) -> x509.AuthorityKeyIdentifier:
    """An authorityKeyIdentifier; the certificate of "Other 1" has the issuer "Other 0" and the serial number 18."""
    digest = x509.SubjectKeyIdentifier.from_public_key(key).digest if key else None
    above = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return x509.AuthorityKeyIdentifier(digest, [x509.DirectoryName(above)] if serial else None, serial)


AUTHORITIES = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
ROOT, ISSUER = (one.public_key() for one in AUTHORITIES)
FIT = "authorityKeyIdentifier in the certificate of {} does not fit that of {}, who signed it: OpenSSL"


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


def test_of_two_authorities_of_one_name_and_key_the_one_that_fits_is_taken() -> None:
    other, unit = OtherAuthority(0), ec.generate_private_key(ec.SECP256R1())
    first, second = new_key(other, None, other._key), other.chain[0]
    builder = other._builder(NAME, second.subject, unit.public_key())
    for one in (first, second):
        leaf = builder.add_extension(named(None, serial=one.serial_number), False).sign(other._key, hashes.SHA256())
        assert external.answer([leaf, first, second], unit.public_key(), UNIT).ca == der(one)


def altered(certificate: x509.Certificate, **parts: bytes) -> x509.Certificate:
    """With other elements in it; the signature is left as it was, which nobody comes to look at."""
    whole = unit_der.Reader(der(certificate)).inside(unit_der.SEQUENCE)
    body = unit_der.Reader(whole.element()).inside(unit_der.SEQUENCE)
    names = ("version", "serial", "algorithm", "issuer", "validity", "subject", "key", "extensions")
    found = {name: body.element() for name in names} | parts
    signed = unit_der.tlv(unit_der.SEQUENCE, *found.values())
    with warnings.catch_warnings(action="ignore"):
        return x509.load_der_x509_certificate(unit_der.tlv(unit_der.SEQUENCE, signed, whole.rest()))


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


def test_sha_1_in_a_chain_is_called_so(tmp_path: Path) -> None:
    # cryptography neither makes nor checks it, so the one that says that it has it will do.
    for other, kinds, words in (
        (OtherAuthority(), ("06082a8648ce3d040302", "06072a8648ce3d0401"), "ecdsa-with-SHA1 (1.2.840.10045.4.1), not"),
        (
            OtherAuthority(keys=((2048,), (2048,))),
            ("06092a864886f70d01010b", "06092a864886f70d010105"),
            "sha1WithRSAEncryption (1.2.840.113549.1.1.5), not",
        ),
    ):
        leaf = other.sign(request(tmp_path, AUTHORITIES[0]))
        here, there = judged_as_it_is(with_kind(leaf, *kinds), other)
        assert f"the certificate of '{UNIT}' is signed with {words}" in here and "SHA-1, not" in there
        other.chain[1] = with_kind(other.chain[1], *kinds)
        here, there = judged_as_it_is(leaf, other)
        assert f"the certificate of 'Other 1' is signed with {words}" in here and "SHA-1, not" in there


def with_kind(certificate: x509.Certificate, old: str, new: str) -> x509.Certificate:
    whole = unit_der.Reader(der(certificate)).inside(unit_der.SEQUENCE)
    whole.element()
    algorithm, signature = whole.element(), whole.element()
    changed = unit_der.tlv(unit_der.SEQUENCE, algorithm[2:].replace(bytes.fromhex(old), bytes.fromhex(new)))
    signed = altered(certificate, algorithm=changed).tbs_certificate_bytes
    return x509.load_der_x509_certificate(unit_der.tlv(unit_der.SEQUENCE, signed, changed, signature))


def test_another_key_is_not_called_a_missing_authority(tmp_path: Path) -> None:
    other, key = OtherAuthority(), AUTHORITIES[0]
    leaf = other.sign(request(tmp_path, key))
    found = [leaf, *OtherAuthority().chain]
    with pytest.raises(
        KoblerError, match=f"of '{UNIT}' is signed by another key than that of the authority 'CN=Other 1' here"
    ):
        external.answer(found, key.public_key(), UNIT)


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


def root(name: str, key: Any, issuer: str | None = None, signer: Any = None) -> unit_x509.Certificate:
    """An authority's certificate as the unit reads it."""
    subject, above = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in (name, issuer or name)
    )
    made = OtherAuthority(0)._builder(subject, above, key.public_key(), ca=True).sign(signer or key, hashes.SHA256())
    return unit_x509.Certificate(der(made))


def test_an_rsa_root_rolls_over_to_the_key_that_the_old_one_vouches_for_and_to_no_other() -> None:
    now = int(dt.datetime.now(dt.UTC).timestamp())
    old_key, new_key, third = rsa_key(2048), rsa_key(3072), rsa_key(2048, 3)
    old, new = root("Old", old_key), root("New", new_key)
    proof = root("New", new_key, "Old", old_key)
    assert anchors.rolled([old], [new, proof], now) == ([old, new], [new])
    # The key is the third's, and the one that is vouched for signed it.
    other = root("New", third, signer=new_key)
    chains.check_signed_by(other, proof)
    assert other.issuer == other.subject
    assert anchors.rolled([old], [other, proof], now) == ([old], [])
    assert anchors.rolled([old], [new, root("New", new_key, "Old", third)], now) == ([old], [])

"""Every reader of the trust room on damaged and made-up input: it ends, and says ValueError or something sound."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certifi
import pytest
from coupler.trust import chains, csr, der, p256, pkcs7, token, x509
from cryptography import x509 as host_x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization import pkcs7 as host_pkcs7
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kobler.pki import Authority

FIRMWARE = Path(csr.__file__).parents[2]
UNIT = "246f28aabbcc"
NOW = 1_800_000_000
KEY = 4711

# One of the roots has a serial number of 0.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


def walk(reader: Any, depth: int = 0) -> int:
    """Read everything that can be read, into everything that looks constructed; the number of elements."""
    count = 0
    while reader.more():
        tag = reader.peek()
        count += 1
        if tag & 0x20 and depth < 50:
            count += walk(reader.inside(tag), depth + 1)
        else:
            reader.element()
    return count


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300))
@example(b"\x30\x80")
@example(b"\x30" * 200)
@example(b"\x30\x82\xff\xff" + bytes(200))
def test_the_der_reader_ends_on_any_input(data: bytes) -> None:
    with contextlib.suppress(der.DerError):
        assert walk(der.Reader(data)) <= len(data)
    for method in ("number", "bits", "signature", "element", "flag", "rest"):
        with contextlib.suppress(der.DerError):
            getattr(der.Reader(data), method)()


def read_certificate(data: bytes) -> None:
    """All that can be asked of it."""
    found = x509.Certificate(data)
    found.names()
    found.allows(x509.CLIENT)
    chains.key_name(found)
    chains.signature_name(found)
    assert isinstance(found.common_name(), str)
    with contextlib.suppress(chains.ChainError):
        chains.check(found, [found], [found], NOW)


def read_messages(data: bytes) -> None:
    for one in pkcs7.certificates(data):
        with contextlib.suppress(ValueError):
            read_certificate(one)


def check_token(data: bytes) -> None:
    token.Verifier(UNIT, [token.Key("a", p256.public_key(KEY))]).check(data, NOW)


def base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def made_token() -> bytes:
    claims = {"aud": UNIT, "sub": "a", "role": "admin", "iat": NOW, "exp": NOW + 9, "jti": "1"}
    signed = base64url(b'{"alg":"ES256","kid":"a"}') + b"." + base64url(json.dumps(claims).encode())
    r, s = p256.sign(KEY, hashlib.sha256(signed).digest())
    return signed + b"." + base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Callable[[bytes], object], bytes]]:
    """(reader, what it can read)."""
    authority = Authority.open_or_create(tmp_path_factory.mktemp("pki") / "pki")
    unit = authority.sign_csr(csr.request(KEY, UNIT), UNIT)
    hosts = [host_x509.load_der_x509_certificate(one) for one in (unit, authority.ca_der)]
    roots = host_x509.load_pem_x509_certificates(Path(certifi.where()).read_bytes())
    certificates = [unit, authority.ca_der, *(one.public_bytes(Encoding.DER) for one in roots[:3])]
    return [
        *((read_certificate, one) for one in certificates),
        (read_messages, host_pkcs7.serialize_certificates(hosts, Encoding.DER)),
        (csr.read_key, csr.write_key(KEY)),
        (check_token, made_token()),
    ]


def test_the_seeds_are_sound(seeds: list[tuple[Callable[[bytes], object], bytes]]) -> None:
    for reader, good in seeds:
        reader(good)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_what_is_damaged_is_a_value_error_and_nothing_else(
    seeds: list[tuple[Callable[[bytes], object], bytes]], data: st.DataObject
) -> None:
    reader, good = data.draw(st.sampled_from(seeds))
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(damaged) - 1)))
        match data.draw(st.sampled_from(("byte", "insert", "delete", "repeat"))):
            case "byte":
                damaged[at : at + 1] = bytes((data.draw(st.integers(0, 255)),))
            case "insert":
                damaged[at:at] = data.draw(st.binary(min_size=1, max_size=5))
            case "delete":
                del damaged[at : at + data.draw(st.integers(1, 20))]
            case "repeat":
                damaged[at:at] = damaged[at : at + data.draw(st.integers(1, 200))]
    cut = data.draw(st.integers(0, len(damaged)))
    for spoilt in (bytes(damaged), bytes(damaged[:cut])):
        with contextlib.suppress(ValueError):
            reader(spoilt)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_a_value_error_and_nothing_else(data: bytes) -> None:
    for reader in (x509.Certificate, pkcs7.certificates, csr.read_key, check_token):
        with pytest.raises(ValueError):
            reader(data)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=120), st.text(max_size=120))
@example("[" * 400, '{"alg":"ES256","kid":"a"}')
@example("{" * 3, '{"alg":"ES256","kid":"a","' + '"' * 40 + "}")
def test_any_text_in_a_signed_token_is_refused(payload: str, header: str) -> None:
    signed = base64url(header.encode("utf-8", "replace")) + b"." + base64url(payload.encode("utf-8", "replace"))
    r, s = p256.sign(KEY, hashlib.sha256(signed).digest())
    with pytest.raises(token.TokenError):
        check_token(signed + b"." + base64url(r.to_bytes(32, "big") + s.to_bytes(32, "big")))


names = st.sampled_from(("alg", "kid", "typ", "crit", "x"))
values = st.one_of(st.sampled_from(("ES256", "none", "a", "b")), st.text(max_size=5), st.none(), st.integers())


def accepted(header: bytes) -> bool:
    try:
        return bool(token._header(header) == "a")
    except token.TokenError:
        return False


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(names, values, max_size=5), st.sampled_from((None, (",", ":"), (" , ", " : "))))
def test_a_header_is_taken_exactly_if_it_is_plain_and_names_this_algorithm(
    header: dict[str, Any], separators: tuple[str, str] | None
) -> None:
    text = json.dumps(header, separators=separators)
    plain = all(isinstance(value, str) and value.isascii() and value.isprintable() for value in header.values())
    plain = plain and not any("\\" in value or '"' in value for value in header.values())
    good = plain and header.get("alg") == "ES256" and header.get("kid") == "a" and "crit" not in header
    assert accepted(text.encode()) is good


MICROPYTHON_FUZZ = """
import sys
from coupler.trust import chains, csr, pkcs7, x509
def certificate(data):
    found = x509.Certificate(data)
    found.common_name(); found.names(); chains.key_name(found); chains.signature_name(found)
readers = {"x509": certificate, "pkcs7": pkcs7.certificates, "key": csr.read_key}
sound = 0
for line in sys.stdin:
    name, _, data = line.strip().partition(" ")
    try:
        readers[name](bytes.fromhex(data))
        sound += 1
    except ValueError:
        pass
print(sound)
"""


def test_on_micropython_too_it_is_a_value_error(seeds: list[tuple[Callable[[bytes], object], bytes]]) -> None:
    from kobler.sim.interpreter import micropython

    noise = random.Random(5)
    names = {read_certificate: "x509", read_messages: "pkcs7", csr.read_key: "key"}
    lines = []
    for reader, good in seeds:
        if reader is check_token:
            continue
        for i in range(150):
            damaged = bytearray(good)
            for _ in range(min(i, 3)):
                damaged[noise.randrange(len(damaged))] = noise.randrange(256)
            lines.append(f"{names[reader]} {damaged[: noise.randrange(len(damaged)) if i % 4 == 3 else None].hex()}\n")
    code = f"import sys; sys.path.insert(0, {str(FIRMWARE)!r})\n{MICROPYTHON_FUZZ}"
    done = subprocess.run(
        [str(micropython()), "-c", code], input="".join(lines), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(seeds) - 1 <= int(done.stdout) < len(lines)

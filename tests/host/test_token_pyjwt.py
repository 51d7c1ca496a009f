"""Tokens made by PyJWT are verified by the unit's code on both interpreters, and each tampered form is refused."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from coupler.trust import token as unit_token
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kobler.sim.interpreter import micropython

FIRMWARE = Path(unit_token.__file__).parents[2]
AUDIENCE = "urn:dev:kobler:246f28aabbcc"
NOW = 1_800_000_000
KEY = ec.derive_private_key(4711, ec.SECP256R1())
OTHER = ec.derive_private_key(4712, ec.SECP256R1())
PEM = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
CLAIMS = {"aud": AUDIENCE, "sub": "anna", "role": "operator", "iat": NOW, "exp": NOW + 600, "jti": "1"}

WORKER = """
import json, sys
from coupler.trust import token
public, audience, now = json.loads(sys.stdin.readline())
key = token.Key("2026", bytes.fromhex(public))
for line in sys.stdin:
    try:
        grant = token.Verifier(audience, [key]).check(json.loads(line), now)
        print(json.dumps([grant.subject, grant.role, grant.kid]))
    except token.TokenError as error:
        print(json.dumps(str(error)))
"""


@pytest.fixture(params=["cpython", "micropython"])
def judge(request: pytest.FixtureRequest) -> Callable[[list[str]], list[Any]]:
    """What a unit says of each token: [subject, role, key], or its refusal."""
    program = sys.executable if request.param == "cpython" else str(micropython())
    point = KEY.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)

    def run(tokens: list[str]) -> list[Any]:
        lines = [[point.hex(), AUDIENCE, NOW], *tokens]
        done = subprocess.run(
            [program, "-c", f"import sys; sys.path.insert(0, {str(FIRMWARE)!r})\n{WORKER}"],
            input="".join(json.dumps(line) + "\n" for line in lines),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(answers) == len(tokens)
        return answers

    return run


def made(key: Any = KEY, algorithm: str = "ES256", headers: dict[str, Any] | None = None, **changes: Any) -> str:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": "2026"} if headers is None else headers)


def test_tokens_of_pyjwt_are_good(judge: Callable[[list[str]], list[Any]]) -> None:
    tokens = [made(jti=str(i), aud=AUDIENCE if i % 2 else ["urn:x", AUDIENCE], extra={"a": [i]}) for i in range(20)]
    assert judge(tokens) == [["anna", "operator", "2026"]] * len(tokens)


def test_tampered_and_foreign_tokens_are_refused(judge: Callable[[list[str]], list[Any]]) -> None:
    good = made()
    header, payload, signature = good.split(".")
    admin = base64.urlsafe_b64encode(json.dumps({**CLAIMS, "role": "admin"}).encode()).decode().rstrip("=")
    rsa_like = {"kid": "2026", "jku": "https://example.org", "x5u": "https://example.org"}
    cases = {
        f"{header}.{admin}.{signature}": "signature is not",
        f"{header}.{payload}.{made(jti='2').split('.')[2]}": "signature is not",
        made(OTHER): "signature is not",
        made(OTHER, headers=rsa_like): "signature is not",
        made("", "none"): "alg",
        f"{made('', 'none').rstrip('.')}.{signature}": "alg",
        made("x" * 32, "HS256"): "alg",
        made("x" * 64, "HS512"): "alg",
        made(headers={}): "kid: missing",
        made(headers={"kid": "2027"}): "unknown key '2027'",
        made(headers={"kid": "2026", "crit": ["exp"]}): "plain strings",
        made(headers={"kid": "2026", "jwk": {"kty": "EC"}}): "plain strings",
        made(ec.derive_private_key(5, ec.SECP384R1()), "ES384"): "alg",
        made(aud="urn:dev:kobler:other"): "aud",
        made(exp=NOW - 61, iat=NOW - 600): "expired",
        made(nbf=NOW + 61): "nbf",
        made(iat=NOW + 61): "iat",
        made(exp=NOW + 86401): "exp",
        made(exp=None): "exp",
        made(jti=None): "jti",
        made(role="root"): "role",
        made(sub=None): "sub",
        made(padding="x" * 1600): "at most 2048",
    }
    for position in (3, len(header) + 5, len(good) - 5):
        flipped = "A" if good[position] != "A" else "B"
        cases[good[:position] + flipped + good[position + 1 :]] = ""
    for (text, words), answer in zip(cases.items(), judge(list(cases)), strict=True):
        assert isinstance(answer, str), (words, answer)
        assert words in answer, (text, answer)


def test_both_agree_on_what_is_good() -> None:
    """The positive control: PyJWT takes the token that the unit takes."""
    decoded = jwt.decode(
        made(), PEM, algorithms=["ES256"], audience=AUDIENCE, options={"verify_exp": False, "verify_iat": False}
    )
    assert decoded == CLAIMS

"""The owner's key, and the tokens signed with it that open a locked console.

Such a console gives no prompt: it takes a token and nothing else. Who has the owner's key makes one here; who has not
is sent one, as a compact JWS.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from ..errors import KoblerError, UsageError
from .console import LOCKED, Console, printable
from .unit import Owner

_LIFE_S = 120  # it is used at once
_PIECE = 64  # characters in a line: a chip keeps 256 that nobody reads
_ANSWER_S = 20.0  # a chip takes half a second for a signature, a busy one some more
_GREETING_S = 2.0
_ATTEMPTS = 5  # the unit may be starting


def owner_of(path: Path) -> Owner:
    """The owner's key for units to know (PEM, public or private). UsageError."""
    data = _read(path)
    try:
        public: Any = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        public = _private(path, data).public_key()
    return _owner(public, path)


def signed(path: Path, unit_id: str) -> str:
    """A token that opens the console of this unit, good for two minutes, signed with the owner's private key (PEM)."""
    key = _private(path, _read(path))
    now = int(time.time())
    claims = {
        "aud": f"urn:dev:kobler:{unit_id}:console",
        "sub": "kobler unlock",
        "role": "admin",
        "iat": now,
        "exp": now + _LIFE_S,
        "jti": secrets.token_hex(8),
    }
    header = {"alg": "ES256", "kid": _owner(key.public_key(), path).kid}
    text = f"{_base64(json.dumps(header).encode())}.{_base64(json.dumps(claims).encode())}"
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def open_console(
    port: str,
    token: str | None,
    key: Path | None,
    wanted: str | None = None,
    say: Callable[[str], object] = str,
) -> str:
    """Hand the unit at `port`, which must be `wanted` if given, a token, or one signed with `key`; -> the unit's id.
    KoblerError says why it refused."""
    console = Console(port)
    try:
        unit_id = _greet(console)
        if wanted not in (None, unit_id):
            raise KoblerError(f"the unit at {port} says that it is {unit_id}, not {wanted}: it got no token")
        if token is None:
            assert key is not None
            say(f"signing a token for unit {unit_id}, as the board at {port} says that it is")
            token = signed(key, unit_id)
        pieces = [token[at : at + _PIECE] for at in range(0, len(token), _PIECE)]
        for piece in pieces[:-1]:
            _say(console, f"unlock {piece}\\", "kobler: go on")
        _say(console, f"unlock {pieces[-1]}", "kobler: the console is unlocked")
    finally:
        console.close()
    return unit_id


def _greet(console: Console) -> str:
    for _ in range(_ATTEMPTS):
        console.send(b"\r")
        found = console.find(LOCKED, _GREETING_S)
        if found is not None:
            return found[1].decode()
    raise KoblerError(f"the unit at {console.port} does not say that it is locked: is it this port?")


def _say(console: Console, line: str, wanted: str) -> None:
    console.send(line.encode() + b"\r")
    found = console.find(rb"kobler: (?:refused: ([^\r\n]+)[\r\n]|go on|the console is unlocked)", _ANSWER_S)
    if found is None:
        raise KoblerError(f"the unit at {console.port} did not answer: run the command again")
    if found[1]:
        why = printable(found[1].decode("utf-8", "replace"))
        raise KoblerError(f"the unit at {console.port} refused the token: {why}")
    if found[0].decode() != wanted:
        raise KoblerError(f"the unit at {console.port} did not get all of the token: run the command again")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def _private(path: Path, data: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(data, None)
    except TypeError:
        raise UsageError(f"{path} is encrypted: give a token instead, made where the key is") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"{path} has no key in PEM") from None
    _owner(key.public_key(), path)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _owner(public: Any, path: Path) -> Owner:
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise UsageError(f"{path} is no P-256 key; units know no other")
    point = public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return Owner(hashlib.sha256(point).hexdigest()[:16], point.hex())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

"""Keys in a PKCS#11 token (a smart card, a USB key, an HSM): made in it, used in it, never taken out of it.

The package PyKCS11 is optional (`pip install kobler[hsm]`) and imported when a token is used. A `TokenKey` is a private
key in the eyes of `cryptography`, which signs certificates and revocation lists with it as with any other.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from ..errors import KoblerError, UsageError
from . import files

_PRIME256V1 = bytes.fromhex("06082a8648ce3d030107")  # CKA_EC_PARAMS: the curve's OID in DER


@dataclass(frozen=True)
class Place:
    """Where a token's key is: library, token's label and serial number, CKA_ID in hex. Nothing of it is secret."""

    module: str
    token: str
    serial: str
    id: str

    def write(self, path: Path) -> None:
        files.write(path, json.dumps(asdict(self), indent=1).encode() + b"\n")

    @classmethod
    def read(cls, path: Path, remedy: str) -> Place:
        try:
            found = json.loads(files.read(path, remedy))
            bytes.fromhex(str(found["id"]))
            return cls(**{name: str(found[name]) for name in ("module", "token", "serial", "id")})
        except (ValueError, KeyError, TypeError, RecursionError):
            raise KoblerError(f"{path} does not say where a token's key is; {remedy}") from None


class TokenKey(ec.EllipticCurvePrivateKey):
    """A P-256 key that stays in its token."""

    def __init__(self, token: Token, handle: Any, public: ec.EllipticCurvePublicKey) -> None:
        self._token, self._handle, self._public = token, handle, public

    @property
    def curve(self) -> ec.EllipticCurve:
        return ec.SECP256R1()

    @property
    def key_size(self) -> int:
        return 256

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, Prehashed) or not isinstance(algorithm, hashes.SHA256):
            raise ValueError("a token's key signs with SHA-256 only")
        return self._token.sign(self._handle, hashlib.sha256(data).digest())

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        raise ValueError("a token's key only signs")

    def private_numbers(self) -> NoReturn:
        raise ValueError("a token's key never leaves it")

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> NoReturn:
        raise ValueError("a token's key never leaves it")

    def __copy__(self) -> TokenKey:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TokenKey:
        return self


class Token:
    """An open session, logged in. The PIN is used once and not kept."""

    def __init__(self, module: str, label: str, pin: str) -> None:
        self._p11 = p11 = _library()
        self.module, self.label = _absolute(module), label
        library = p11.PyKCS11Lib()
        try:
            library.load(self.module)
            slot, self.serial = _slot(library, label, self.module)
            self._session = library.openSession(slot, p11.CKF_SERIAL_SESSION | p11.CKF_RW_SESSION)
        except p11.PyKCS11Error as error:
            raise KoblerError(
                f"cannot use the PKCS#11 library {self.module}: {_text(error)}; name it with --pkcs11"
            ) from None
        try:
            self._session.login(pin)
        except p11.PyKCS11Error as error:
            if error.value != p11.CKR_USER_ALREADY_LOGGED_IN:
                raise KoblerError(
                    f"the token {label!r} refused the PIN: {_text(error)}; after a few wrong ones it locks itself"
                ) from None

    def generate(self, name: str) -> tuple[TokenKey, Place]:
        """A new key pair; OBJECTS named `name` in the token."""
        p11 = self._p11
        identifier = secrets.token_bytes(16)
        common = [(p11.CKA_TOKEN, True), (p11.CKA_LABEL, name), (p11.CKA_ID, identifier)]
        kept = [(p11.CKA_PRIVATE, True), (p11.CKA_SENSITIVE, True), (p11.CKA_EXTRACTABLE, False)]
        try:
            self._session.generateKeyPair(
                [*common, (p11.CKA_EC_PARAMS, _PRIME256V1), (p11.CKA_VERIFY, True)],
                [*common, *kept, (p11.CKA_SIGN, True)],
                mecha=p11.Mechanism(p11.CKM_EC_KEY_PAIR_GEN, None),
            )
        except p11.PyKCS11Error as error:
            raise KoblerError(f"the token {self.label!r} makes no P-256 key: {_text(error)}") from None
        place = Place(self.module, self.label, self.serial, identifier.hex())
        return self.find(place), place

    def find(self, place: Place) -> TokenKey:
        p11 = self._p11
        if place.serial != self.serial:
            raise KoblerError(
                f"the token {self.label!r} has serial number {self.serial}, the key is in {place.serial}: "
                "connect that one"
            )
        named = [(p11.CKA_ID, bytes.fromhex(place.id))]
        try:
            private = self._session.findObjects([(p11.CKA_CLASS, p11.CKO_PRIVATE_KEY), *named])
            public = self._session.findObjects([(p11.CKA_CLASS, p11.CKO_PUBLIC_KEY), *named])
            if len(private) != 1 or len(public) != 1:
                raise KoblerError(f"the token {self.label!r} has no key {place.id}: was it erased?")
            guarded = self._session.getAttributeValue(private[0], [p11.CKA_SENSITIVE, p11.CKA_EXTRACTABLE])
            if guarded != [True, False]:
                raise KoblerError(
                    f"the key {place.id} in the token {self.label!r} could be taken out: use another token"
                )
            point = bytes(self._session.getAttributeValue(public[0], [p11.CKA_EC_POINT])[0])
        except p11.PyKCS11Error as error:
            raise KoblerError(f"the token {self.label!r} does not show its keys: {_text(error)}") from None
        # The standard says an OCTET STRING around the point; some tokens leave it away.
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point[-65:])
        return TokenKey(self, private[0], key)

    def sign(self, handle: Any, digest: bytes) -> bytes:
        p11 = self._p11
        try:
            raw = bytes(self._session.sign(handle, digest, p11.Mechanism(p11.CKM_ECDSA, None)))
        except p11.PyKCS11Error as error:
            raise KoblerError(
                f"the token {self.label!r} did not sign: {_text(error)}; is it still connected?"
            ) from None
        return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))

    def destroy(self, place: Place) -> None:
        """Remove a key pair that nobody will use."""
        for found in self._session.findObjects([(self._p11.CKA_ID, bytes.fromhex(place.id))]):
            self._session.destroyObject(found)


def _library() -> Any:
    try:
        import PyKCS11
    except ImportError:
        raise UsageError("keys in a token need the package PyKCS11: pip install 'kobler[hsm]'") from None
    return PyKCS11


def _absolute(module: str) -> str:
    # A bare name is left to the system's search path.
    path = Path(module)
    return str(path.absolute()) if path.exists() else module


def _slot(library: Any, label: str, module: str) -> tuple[Any, str]:
    tokens = []
    for slot in library.getSlotList(tokenPresent=True):
        about = library.getTokenInfo(slot)
        tokens.append((about.label.strip("\0 "), slot, about.serialNumber.strip("\0 ")))
    found = [(slot, serial) for name, slot, serial in tokens if name == label]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{module} shows {len(found)} tokens called {label!r}: disconnect all but one")
    there = ", ".join(repr(name) for name, _, _ in tokens if name) or "none"
    raise UsageError(f"{module} shows no token {label!r}; there: {there}")


def _text(error: Exception) -> str:
    return str(error).strip() or type(error).__name__

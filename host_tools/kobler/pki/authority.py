"""The local certificate authority: one folder with everything that is signed from day to day.

    ca.pem                     the root's certificate: what units and clients trust
    issuer.pem                 the intermediate's: it signs for units, clients and servers
    issuer.key or issuer.token its key; or in which PKCS#11 token it is
    chain.pem                  both certificates, for brokers of units that send only their own
    crl.pem                    the revocation lists of both
    locked-out                 names that have revoked certificates and no good one, for a broker's access list
    root-crl.pem               the root's alone, as the root made it
    issued/ revoked/           what was signed and taken back (register.py)
    clients/NAME.key NAME.pem  of `kobler pki issue`
    servers/NAME.key NAME.pem  of the brokers
    units/ID.pem               of the couplers, whose keys never leave them

The root's key is not here (root.py). Folders made before there were intermediates have a ca.key that signs directly,
and no issuer.pem; they go on as they are, with crl.pem and the rest.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import KoblerError, UsageError
from . import certificates, files, requests, revocation, secret
from .register import Entry, Register, check_reason
from .root import Root
from .token import Place, Token

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOCAL_NAMES = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Issued:
    """Where a certificate, its private key and the authority that vouches for it are (PEM files)."""

    name: str
    cert_pem: Path
    key_pem: Path
    ca_pem: Path
    fingerprint: str
    not_after: dt.datetime


class Authority:
    keep = False  # it answers at once

    def __init__(
        self,
        folder: Path,
        certificate: x509.Certificate,
        chain: list[x509.Certificate],
        key: ec.EllipticCurvePrivateKey | Place,
    ) -> None:
        self.folder = folder
        self.certificate = certificate
        self.chain = chain
        self._key = key
        self._register = Register(folder)

    @classmethod
    def open_or_create(cls, folder: Path) -> Authority:
        """Open the authority in `folder`, or make a new one where there is nothing, under a root used once."""
        folder = folder.absolute()
        if not exists(folder):
            create(folder, Root.for_once())
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Authority:
        """The authority in `folder`. KoblerError if there is none, or it is damaged."""
        folder = folder.absolute()
        if not exists(folder):
            raise KoblerError(
                f"there is no authority in {folder}: name its state folder with --state, or make one with "
                "`kobler pki init`"
            )
        remedy = f"restore it from a backup, or move {folder} away to start a new authority"
        root = files.read_certificate(folder / "ca.pem", remedy)
        direct = (folder / "ca.key").exists() and not (folder / "issuer.pem").exists()
        chain = [] if direct else [files.read_certificate(folder / "issuer.pem", remedy)]
        key: ec.EllipticCurvePrivateKey | Place
        if not direct and (folder / "issuer.token").exists():
            key = Place.read(folder / "issuer.token", remedy)
        else:
            key = files.read_key(folder / ("ca.key" if direct else "issuer.key"), remedy)
            _check_pair(chain[0] if chain else root, key, folder, remedy)
        now = dt.datetime.now(dt.UTC)
        for one in [root, *chain]:
            if one.not_valid_before_utc > now:
                raise KoblerError(
                    f"{folder}: this computer's clock says {now:%Y-%m-%d %H:%M}, the authority was made after "
                    f"{one.not_valid_before_utc:%Y-%m-%d %H:%M} (UTC): is the clock wrong?"
                )
            if one.not_valid_after_utc <= now:
                raise KoblerError(
                    f"{folder}: the authority's certificate expired at {one.not_valid_after_utc}; {remedy}"
                )
        if chain and not certificates.signed_by(chain[0], root):
            raise KoblerError(f"{folder / 'issuer.pem'} is not signed by the root in ca.pem; {remedy}")
        return cls(folder, root, chain, key)

    @property
    def ca_pem(self) -> Path:
        """The root's certificate as a PEM file."""
        return self.folder / "ca.pem"

    @property
    def ca_der(self) -> bytes:
        return files.certificate_der(self.certificate)

    @property
    def signer(self) -> x509.Certificate:
        return self.chain[0] if self.chain else self.certificate

    @property
    def chain_der(self) -> list[bytes]:
        """The intermediate, if there is one: from a certificate of ours to the root."""
        return [files.certificate_der(one) for one in self.chain]

    @property
    def chain_pem(self) -> Path:
        """What a broker knows all units by, those too that send only their own certificate (PEM file)."""
        return self.folder / "chain.pem" if self.chain else self.ca_pem

    @property
    def crl_pem(self) -> Path:
        """The revocation lists for a broker (PEM file); `refresh_crl` sees to it that it is there."""
        return self.folder / "crl.pem"

    def revocations(self) -> revocation.Revocations:
        """The revocation lists as a broker asks them."""
        return revocation.Revocations(self.crl_pem, [*self.chain, self.certificate])

    def sign_csr(self, csr_der: bytes, unit_id: str) -> bytes:
        """Certificate (DER) for unit `unit_id`; the request must name it alone and be signed by its key."""
        self._only("clients", _check_name(unit_id))
        key = requests.key_of(csr_der, unit_id)
        allowed = certificates.unit_names(unit_id)
        certificate = self._sign(key, unit_id, allowed, certificates.UNIT_DAYS, server=False)
        files.write_public(self.folder / "units" / f"{unit_id}.pem", files.certificate_pem(certificate))
        return files.certificate_der(certificate)

    def certify(self, csr_der: bytes, unit_id: str) -> requests.Answer:
        """`sign_csr`, with all that the unit is to have."""
        return self.with_chain(self.sign_csr(csr_der, unit_id))

    def with_chain(self, certificate: bytes) -> requests.Answer:
        """One of our certificates (DER), with all that the unit is to have."""
        return requests.Answer(certificate, self.chain_der, self.ca_der)

    def issue_client(self, name: str) -> Issued:
        """A key and a certificate for any other MQTT client; the same again while they are good."""
        self._only("units", _check_name(name))
        return self._pair("clients", name, certificates.client_names(name), server=False)

    def server(self, names: Sequence[str] = LOCAL_NAMES) -> Issued:
        """A key and a certificate for a server under these DNS names and IP addresses."""
        if not names:
            raise KoblerError("a server certificate needs at least one name")
        try:
            alternatives = certificates.server_names([_check_server_name(name) for name in names])
        except ValueError:
            raise KoblerError(f"not a server's name: one of {', '.join(names)}") from None
        return self._pair("servers", _check_name(names[0]), alternatives, server=True)

    def of_unit(self, unit_id: str) -> list[x509.Certificate]:
        """The certificates of unit `unit_id` that were not taken back, newest first."""
        name = certificates.common_name
        there = [one for one in self._register.certificates() if name(one.subject) == unit_id]
        return [one for one in reversed(there) if not self._register.is_revoked(one)]

    def stands(self, unit_id: str, certificate: str) -> bool:
        """Whether the certificate with this serial number was given out and not taken back."""
        return self._register.stands(certificate)

    def ready(self) -> None:
        """Ask for the PIN of the key's token, if it is in one, now."""
        self._private()

    def entries(self) -> list[Entry]:
        """Every certificate given out, oldest first."""
        return self._register.entries()

    def revoke(self, what: str, reason: str = "unspecified") -> list[Entry]:
        """Take back the certificate with this serial number, or all of this name that are not yet; -> which these are.

        The revocation list is made anew. Files of theirs in clients/ and units/ go, so that `issue_client` makes new
        ones; a server's, too.
        """
        check_reason(reason)
        there = self._register.certificates()
        wanted = [one for one in there if certificates.serial(one) == what.lower()]
        wanted = wanted or [one for one in there if certificates.common_name(one.subject) == what]
        if not wanted:
            raise KoblerError(f"no certificate has the name or serial number {what!r}: `kobler pki list` shows them")
        fresh = {certificates.serial(one) for one in wanted if not self._register.is_revoked(one)}
        for one in wanted:
            if certificates.serial(one) in fresh:
                self._register.revoke(one, reason)
        self.refresh_crl(force=True)
        for one in wanted:
            self._forget(one)
        return [entry for entry in self.entries() if entry.serial in fresh]

    def refresh_crl(self, days: int = revocation.DAYS, *, force: bool = False) -> bool:
        """Make crl.pem anew if it is missing, lacks a revocation or has lived half its life; whether it was made.

        A key in a token is asked for only when the list cannot be used as it is, or by `force`.
        """
        if not force and self._crl_is_good():
            return False
        until = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
        until = min(until, self.signer.not_valid_after_utc).replace(microsecond=0)
        last = None
        if not self._is_taken_back(self._roots_lists()):
            self._private()  # may ask for a PIN: what is revoked is read after that
        # Another process may have revoked, and written its list, while this one was made.
        while last != (now := (self._register.revoked(), self._roots_lists())):
            last = now
            revoked, above = now
            # Without a list of its issuer mosquitto refuses a certificate; it asks no list about the issuer itself.
            own = [] if self._is_taken_back(above) else [revocation.make(self.signer, self._private(), revoked, until)]
            files.write_public(self.crl_pem, revocation.pem([*own, *above]))
            self._lock_out()
        return True

    def _crl_is_good(self) -> bool:
        try:
            lists, above = revocation.read(self.crl_pem), self._roots_lists()
        except KoblerError:
            return False
        if self._is_taken_back(above):
            return lists == above
        made = next((one for one in lists if one.issuer == self.signer.subject), None)
        if made is None or made.next_update_utc is None:
            return False
        end, now = made.next_update_utc, dt.datetime.now(dt.UTC)
        due = now > (end if isinstance(self._key, Place) else end - (end - made.last_update_utc) / 2)
        return not due and {entry.serial_number for entry in made} == set(self._register.revoked())

    def _roots_lists(self) -> list[x509.CertificateRevocationList]:
        return revocation.read(self.folder / "root-crl.pem") if self.chain else []

    def _is_taken_back(self, above: Sequence[x509.CertificateRevocationList]) -> bool:
        # Serial numbers are the issuer's own; what stands here are the lists of the one above the signer.
        serial = self.signer.serial_number
        return any(one.get_revoked_certificate_by_serial_number(serial) is not None for one in above)

    def take_root_crl(self, root: Root) -> None:
        """Put the root's own list beside ours; `refresh_crl` takes it up."""
        if not self.chain or root.certificate != self.certificate:
            raise UsageError(f"{self.folder} is not under this root: name the state folder that is with --state")
        files.write_public(self.folder / "root-crl.pem", revocation.pem([root.crl()]))

    def _lock_out(self) -> None:
        # Names of servers are no names of clients.
        entries = [entry for entry in self.entries() if entry.kind in ("unit", "client")]
        names = {entry.name for entry in entries if entry.status == "revoked"}
        self._write_locked_out(names - {entry.name for entry in entries if entry.status == "good"})

    def _let_in(self, name: str) -> None:
        path = self.folder / "locked-out"
        text = files.read(path, "make it anew with `kobler pki crl`") if path.exists() else b""
        names = set(text.decode("utf-8", "replace").split())
        if name in names:
            self._write_locked_out(names - {name})

    def _write_locked_out(self, names: set[str]) -> None:
        files.write_public(self.folder / "locked-out", "".join(f"{name}\n" for name in sorted(names)).encode())

    def _forget(self, certificate: x509.Certificate) -> None:
        name = certificates.common_name(certificate.subject)
        folder = self.folder / f"{certificates.kind(certificate)}s"
        path = folder / f"{name}.pem"
        with contextlib.suppress(KoblerError):
            if files.read_certificate(path, "") == certificate:
                path.unlink()
                (folder / f"{name}.key").unlink(missing_ok=True)  # a key that may be known is not used again

    def _private(self) -> ec.EllipticCurvePrivateKey:
        if isinstance(self._key, Place):
            place = self._key
            pin = secret.ask(secret.PIN, f"PIN of the token {place.token!r}")
            key = Token(place.module, place.token, pin).find(place)
            _check_pair(self.signer, key, self.folder, "connect the token that it was made with")
            self._key = key
        return self._key

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        name: str,
        alternatives: Sequence[x509.GeneralName],
        days: int,
        *,
        server: bool,
    ) -> x509.Certificate:
        if self._is_taken_back(self._roots_lists()):
            remedy = "make a new one with `kobler pki init --root DIR --state NEW`"
            raise KoblerError(
                f"{self.folder}: the root has revoked this authority, nobody takes what it signs; {remedy}"
            )
        certificate = certificates.leaf(self.signer, self._private(), key, name, alternatives, days, server=server)
        # On record before it is handed out: what is not known cannot be revoked.
        self._register.add(certificate)
        if not server:
            self._let_in(name)
        self.refresh_crl()
        return certificate

    def _pair(self, kind: str, name: str, alternatives: Sequence[x509.GeneralName], *, server: bool) -> Issued:
        key_path = self.folder / kind / f"{name}.key"
        cert_path = self.folder / kind / f"{name}.pem"
        remedy = f"remove {key_path} and {cert_path} to have new ones made"
        if key_path.exists():
            key = files.read_key(key_path, remedy)
        else:
            key = ec.generate_private_key(ec.SECP256R1())
            files.write(key_path, files.key_pem(key))
        certificate = None
        if cert_path.exists():
            certificate = files.read_certificate(cert_path, remedy)
            if not self._still_good(certificate, key, alternatives):
                certificate = None
        if certificate is None:
            if self._was_revoked(key):  # a crash came before its file was removed
                key = ec.generate_private_key(ec.SECP256R1())
                files.write(key_path, files.key_pem(key))
            certificate = self._sign(key.public_key(), name, alternatives, certificates.LEAF_DAYS, server=server)
            chain = b"".join(files.certificate_pem(one) for one in [certificate, *self.chain])
            files.write_public(cert_path, chain)
        end = certificate.not_valid_after_utc
        return Issued(name, cert_path, key_path, self.ca_pem, certificates.fingerprint(certificate), end)

    def _was_revoked(self, key: ec.EllipticCurvePrivateKey) -> bool:
        there = self._register.certificates()
        return any(files.same_key(one, key) and self._register.is_revoked(one) for one in there)

    def _only(self, other: str, name: str) -> None:
        # A broker that goes by the common name could not tell them apart.
        if any((self.folder / other / f"{name}{suffix}").exists() for suffix in (".pem", ".key")):
            raise KoblerError(f"{name!r} is the name of one of the {other} already, see `kobler pki list`")

    def _still_good(
        self,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        alternatives: Sequence[x509.GeneralName],
    ) -> bool:
        now = dt.datetime.now(dt.UTC)
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return (
            certificates.signed_by(certificate, self.signer)
            and files.same_key(certificate, key)
            and not self._register.is_revoked(certificate)
            and certificates.alternatives(certificate.extensions) == list(alternatives)
            and start <= now
            and end - now > (end - start) / 3  # renewed with a third of its life left
        )


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        rule = "1 to 64 letters, digits, '.', '_' or '-', a letter or digit first"
        raise KoblerError(f"{name!r} cannot be a certificate's name: use {rule}")
    return name


def _check_server_name(name: str) -> str:
    if not name or " " in name or not name.isascii() or not name.isprintable():
        raise KoblerError(f"{name!r} cannot be a server's name: use a DNS name or an address")
    return name


def exists(folder: Path) -> bool:
    """Whether there is anything in `folder` that might be an authority."""
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


def create(folder: Path, root: Root, token: Token | None = None) -> None:
    """A new authority under `root`, its key in a file or made in a token.

    The folder is made whole beside its place and moved there: nobody ever sees half an authority.
    """
    certificates.check_clock()
    name = f"Kobler Issuing CA {secrets.token_hex(4)}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise KoblerError(f"cannot write {folder}: {error.strerror}; choose another with --state") from None
    try:
        with contextlib.ExitStack() as undo:
            key: ec.EllipticCurvePrivateKey
            if token is None:
                key = ec.generate_private_key(ec.SECP256R1())
                files.write(made / "issuer.key", files.key_pem(key))
            else:
                key, place = token.generate(name)
                undo.callback(token.destroy, place)
                place.write(made / "issuer.token")
            _fill(made, root, key, name)
            if os.name == "posix":
                made.chmod(0o755)
            elif folder.is_dir():
                folder.rmdir()  # Windows renames onto nothing, not even onto an empty folder
            made.rename(folder)
            undo.pop_all()
        files.sync_folder(folder.parent)
    except OSError as error:
        # Another process was faster: its authority is the one to use.
        if not (folder / "ca.pem").exists():
            raise KoblerError(f"cannot write {folder}: {error.strerror}; choose another folder") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _fill(folder: Path, root: Root, key: ec.EllipticCurvePrivateKey, name: str) -> None:
    issuer = root.intermediate(key.public_key(), name)
    root_pem, issuer_pem = files.certificate_pem(root.certificate), files.certificate_pem(issuer)
    files.write_public(folder / "ca.pem", root_pem)
    files.write_public(folder / "issuer.pem", issuer_pem)
    files.write_public(folder / "chain.pem", issuer_pem + root_pem)
    files.write_public(folder / "root-crl.pem", revocation.pem([root.crl()]))
    Authority(folder, root.certificate, [issuer], key).refresh_crl()


def _check_pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, folder: Path, remedy: str) -> None:
    if not files.same_key(certificate, key):
        pem, beside = ("issuer.pem", "issuer.key") if (folder / "issuer.pem").exists() else ("ca.pem", "ca.key")
        raise KoblerError(f"{folder / pem} does not belong to the key in {beside} beside it; {remedy}")

"""What an authority signed and what it took back: a file for each, so that no crash loses more than the newest.

issued/SERIAL.pem     each certificate ever signed, written before it is handed out
revoked/SERIAL.json   when and why one was taken back; the revocation list is made from these
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from ..errors import KoblerError, UsageError
from . import certificates, files

# RFC 5280, section 5.3.1, as far as a person has a use for it.
REASONS = {
    "unspecified": x509.ReasonFlags.unspecified,
    "key-compromise": x509.ReasonFlags.key_compromise,
    "superseded": x509.ReasonFlags.superseded,
    "cessation": x509.ReasonFlags.cessation_of_operation,
}


def check_reason(reason: str) -> None:
    if reason not in REASONS:
        raise UsageError(f"{reason!r} is no reason: choose one of {', '.join(REASONS)}")


@dataclass(frozen=True)
class Entry:
    """One certificate that was given out; `status` is good, expired or revoked."""

    name: str
    kind: str
    serial: str
    fingerprint: str
    not_after: dt.datetime
    status: str


@dataclass(frozen=True)
class Revoked:
    """When a certificate was taken back, and why: a word of REASONS."""

    at: dt.datetime
    reason: str


class Register:
    def __init__(self, folder: Path) -> None:
        self._issued, self._revoked = folder / "issued", folder / "revoked"

    def add(self, certificate: x509.Certificate) -> None:
        path = self._issued / f"{certificates.serial(certificate)}.pem"
        files.write_public(path, files.certificate_pem(certificate))

    def certificates(self) -> list[x509.Certificate]:
        """Every certificate, oldest first."""
        found = [files.read_certificate(path, "restore or remove it") for path in self._issued.glob("*.pem")]
        return sorted(found, key=lambda one: (one.not_valid_before_utc, one.serial_number))

    def entries(self) -> list[Entry]:
        revoked, now = self.revoked(), dt.datetime.now(dt.UTC)

        def entry(certificate: x509.Certificate) -> Entry:
            status = "expired" if certificate.not_valid_after_utc <= now else "good"
            return Entry(
                certificates.common_name(certificate.subject),
                certificates.kind(certificate),
                certificates.serial(certificate),
                certificates.fingerprint(certificate),
                certificate.not_valid_after_utc,
                "revoked" if certificate.serial_number in revoked else status,
            )

        return [entry(certificate) for certificate in self.certificates()]

    def revoke(self, certificate: x509.Certificate, reason: str) -> None:
        check_reason(reason)
        at = dt.datetime.now(dt.UTC).replace(microsecond=0)
        text = json.dumps({"at": at.isoformat(), "reason": reason}) + "\n"
        files.write_public(self._revoked / f"{certificates.serial(certificate)}.json", text.encode())

    def is_revoked(self, certificate: x509.Certificate) -> bool:
        return (self._revoked / f"{certificates.serial(certificate)}.json").exists()

    def stands(self, serial: str) -> bool:
        """Whether the certificate with this serial number was given out and not taken back."""
        return (self._issued / f"{serial}.pem").exists() and not (self._revoked / f"{serial}.json").exists()

    def revoked(self) -> dict[int, Revoked]:
        """By serial number."""
        found = {}
        for path in self._revoked.glob("*.json"):
            try:
                about = json.loads(files.read(path, "restore it"))
                serial, at, reason = int(path.stem, 16), dt.datetime.fromisoformat(about["at"]), about["reason"]
                # What no revocation list takes: RFC 5280, 4.1.2.2 and 4.1.2.5
                if reason not in REASONS or not 0 < serial < 1 << 159 or at.year < 1970:
                    raise ValueError
                found[serial] = Revoked(at, reason)
            except (ValueError, KeyError, TypeError, RecursionError):
                # Left away it would make the certificate good again.
                raise KoblerError(f"{path} is damaged: restore it, or remove it and revoke {path.stem} again") from None
        return found

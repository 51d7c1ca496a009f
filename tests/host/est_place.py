"""An EST server, what a technician has of it, and a unit's request without a unit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from board_at_port import SITE, Unit, invoke
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from est_server import DER, PEM, Authority, EstServer, key_bytes, running
from kobler.pki import secret
from kobler.provision.est import EstAuthority
from kobler.provision.est_http import Access
from time_server import Ntp, time_now

SECRET = "line-7:Tr1cky and long"
EST = """ntp = ["{ntp}"]
[est]
url = "https://localhost:{port}"
label = "unit"
"""
UNIT = "020000000001"
KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, UNIT)])
REQUEST = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(KEY, hashes.SHA256()).public_bytes(DER)


class Place:
    """An EST server, and what a technician has of it."""

    def __init__(self, folder: Path, server: EstServer, ntp: str) -> None:
        self.folder, self.server = folder, server
        self.state = folder / "state"
        self.site = folder / "site.toml"
        self.site.write_text(SITE + EST.format(port=server.port, ntp=ntp))
        self.roots = folder / "roots.pem"
        self.trust(server.root)

    def trust(self, *roots: Authority) -> None:
        self.roots.write_bytes(b"".join(one.certificate.public_bytes(PEM) for one in roots))

    def authority(self, secret: str | None = SECRET, identity: Path | None = None) -> EstAuthority:
        return EstAuthority(Access(self.server.url, self.roots, secret, identity), self.state / "est", print)

    def kept(self) -> list[str]:
        """The kinds of files with what the server gave."""
        return sorted(path.suffix for path in self.state.rglob("*") if path.is_file())

    def identity(self, name: str) -> Path:
        """A file with certificate and key for this name."""
        certificate, key = self.server.issuer.identity(name)
        path = self.folder / f"{name}.pem"
        chain = certificate.public_bytes(PEM) + self.server.issuer.certificate.public_bytes(PEM)
        path.write_bytes(chain + key_bytes(key, PEM))
        return path

    def provision(self, it: Unit, way: str, *more: str) -> Any:
        arguments = ("--port", it.board.usb_url, "--config", str(self.site), "--state", str(self.state))
        return invoke(*arguments, "--est", way, "--est-roots", str(self.roots), "--json", *more)


@contextlib.contextmanager
def a_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Its server runs; the secret is in the environment."""
    monkeypatch.setenv(secret.EST, SECRET)
    root = Authority("Root")
    time_server = Ntp(lambda request: [time_now(request)])
    try:
        with running(Authority("Issuer", root), root, folder) as server:
            server.users = {SECRET}
            yield Place(folder, server, time_server.name)
    finally:
        time_server.close()

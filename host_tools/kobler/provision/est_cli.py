"""The options of `kobler provision` that make an EST server the authority."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError

if TYPE_CHECKING:
    from ..config import Config
    from .est_http import Access


class Est(StrEnum):
    """Who asks the EST server for a unit's first certificate."""

    HERE = "here"
    UNIT = "unit"


Way = Annotated[
    Est | None,
    typer.Option(
        "--est",
        help="The certificate comes from the \\[est] server of --config: asked from here, now, or by the unit, when it "
        "is on its network. The secret, user:password, is asked for, or taken from KOBLER_EST_SECRET.",
    ),
]
Roots = Annotated[
    Path | None,
    typer.Option("--est-roots", help="With --est: the roots (PEM) of the EST server and of what it issues."),
]
Identity = Annotated[
    Path | None,
    typer.Option(
        "--est-identity",
        help="With --est here: certificate and key (PEM) to show; a secret then goes with it only if KOBLER_EST_SECRET "
        "is set.",
    ),
]
NoSecret = Annotated[bool, typer.Option("--no-est-secret", help="With --est unit: it shows the certificate it has.")]


def access(
    way: Est | None,
    roots: Path | None,
    identity: Path | None,
    no_secret: bool,
    other: list[str],
    site: Config | None,
    dry_run: bool,
) -> Access | None:
    """How to get into the EST server, None without one. `other`: the options that choose another way. UsageError."""
    options = {"--est-roots": roots, "--est-identity": identity, "--no-est-secret": no_secret}
    given = [name for name, value in options.items() if value]
    if way is None:
        if given:
            raise UsageError(f"{given[0]} goes with --est")
        return None
    if other and (way is Est.UNIT or other[0] in ("--csr-out", "--cert-in")):
        also = "" if other[0] in ("--csr-out", "--cert-in") else ", which wants a certificate now: use --est here"
        raise UsageError(f"--est {way} does not go with {other[0]}{also}")
    if roots is None:
        raise UsageError("--est needs --est-roots: whom to trust with the secret, and whose certificate to take")
    if way is Est.UNIT and identity:
        raise UsageError("--est-identity goes with --est here: the unit shows its own, with --no-est-secret")
    if way is Est.HERE and no_secret:
        raise UsageError("--no-est-secret goes with --est unit; from here, show a certificate with --est-identity")
    url = site.est.base if site and site.est else ""
    if not url and (site or way is Est.HERE):
        raise UsageError("--est needs --config with the server's address, `[est] url`")
    from ..pki import secret
    from .est_http import Access, check_secret

    text = None
    if not (no_secret or dry_run or (identity and not os.environ.get(secret.EST))):
        text = check_secret(secret.ask(secret.EST, "EST secret, user:password"))
    return Access(url, roots, text, identity)

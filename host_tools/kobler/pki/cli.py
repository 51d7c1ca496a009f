"""`kobler pki`: the local certificate authority."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError

if TYPE_CHECKING:
    from .authority import Authority
    from .register import Entry
    from .token import Token

app = typer.Typer(no_args_is_help=True, help="The local certificate authority: create it, issue, revoke, list.")

State = Annotated[Path, typer.Option("--state", help="Where keys, images and databases are kept.")]
Json = Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")]
RootFolder = Annotated[Path | None, typer.Option("--root", help="The root's folder, from where it is kept.")]
_STATE = Path(".kobler")


def _authority(state: Path) -> Authority:
    from .authority import Authority

    return Authority.open_or_create(state / "pki")


def _print(as_json: bool, event: str, **fields: Any) -> None:
    if as_json:
        print(json.dumps({"event": event, **fields}))
    else:
        print("\n".join(f"{name:12} {value}" for name, value in fields.items()))


@app.command()
def init(
    root_out: Annotated[
        Path | None,
        typer.Option("--root-out", help="Make a root in this new folder, and keep it: on a medium to be taken away."),
    ] = None,
    root: RootFolder = None,
    pkcs11: Annotated[
        str | None, typer.Option("--pkcs11", help="PKCS#11 library, for keys in a token: /usr/lib/…/libsofthsm2.so")
    ] = None,
    token: Annotated[str | None, typer.Option("--token", help="Label of the token for the signing key.")] = None,
    root_token: Annotated[
        str | None, typer.Option("--root-token", help="Label of the token for the root's key, with --root-out.")
    ] = None,
    state: State = _STATE,
    as_json: Json = False,
) -> None:
    """Make the authority, unless there is one; says where its certificate is.

    Without --root-out or --root its root signs once and is forgotten. Passphrase and PINs are asked for, or taken from
    KOBLER_ROOT_PASSPHRASE, KOBLER_PKCS11_PIN and KOBLER_ROOT_PIN.
    """
    from . import secret
    from .authority import Authority, create, exists
    from .root import Root

    folder = (state / "pki").absolute()
    if (token or root_token) and not pkcs11:
        raise UsageError("--token and --root-token need --pkcs11 with the library that knows the token")
    if pkcs11 and not (token or root_token):
        raise UsageError("--pkcs11 needs --token or --root-token: which token is to hold the key?")
    if root_token and not root_out:
        raise UsageError("--root-token needs --root-out: a folder for the root's certificate and records")
    if token and token == root_token:
        raise UsageError(f"--token and --root-token are both {token!r}: the root's key belongs in a token of its own")
    if root and root_out:
        raise UsageError("--root takes a root that is there, --root-out makes one: choose")
    if not exists(folder):
        # Before anything is made: both tokens are there and take their PINs.
        signing, above = _token(pkcs11, token, secret.PIN), _token(pkcs11, root_token, secret.ROOT_PIN)
        if root_out:
            top = Root.create(root_out, above)
        else:
            top = Root.open(root) if root else Root.for_once()
        create(folder, top, signing)
    elif root_out or root or pkcs11:
        raise UsageError(f"{folder} has an authority already: name another folder with --state")
    authority = Authority.open(folder)
    end = authority.certificate.not_valid_after_utc.isoformat()
    _print(
        as_json,
        "authority",
        ca=str(authority.ca_pem),
        not_after=end,
        chain=str(authority.chain_pem),
        crl=str(authority.crl_pem),
        **_kind(authority),
    )


def _token(module: str | None, label: str | None, variable: str) -> Token | None:
    if module is None or label is None:
        return None
    from . import secret
    from .token import Token

    return Token(module, label, secret.ask(variable, f"PIN of the token {label!r}"))


def _kind(authority: Authority) -> dict[str, str]:
    if authority.chain:
        return {"signs": "an intermediate; the root's key is not here"}
    return {"signs": "the root itself, as in folders of Kobler 0.1; its key is in ca.key. It goes on as it is"}


@app.command()
def issue(
    name: Annotated[str, typer.Argument(help="Name of the client, such as `dashboard`; of a broker with --server.")],
    server: Annotated[bool, typer.Option("--server", help="For a server with this DNS name or address.")] = False,
    also: Annotated[
        list[str] | None, typer.Option("--also", help="Another name or address of the server; may be repeated.")
    ] = None,
    state: State = _STATE,
    as_json: Json = False,
) -> None:
    """Issue a client certificate for any other MQTT client; prints where the files are."""
    if also and not server:
        raise UsageError("--also names a server: add --server")
    authority = _authority(state)
    issued = authority.server([name, *(also or [])]) if server else authority.issue_client(name)
    _print(
        as_json,
        "issued",
        name=issued.name,
        cert=str(issued.cert_pem),
        key=str(issued.key_pem),
        ca=str(issued.ca_pem),
        fingerprint=issued.fingerprint,
        not_after=issued.not_after.isoformat(),
    )


@app.command()
def revoke(
    what: Annotated[str, typer.Argument(help="Name (all its certificates) or serial number of one.")],
    reason: Annotated[
        str, typer.Option("--reason", help="unspecified, key-compromise, superseded or cessation.")
    ] = "unspecified",
    root: RootFolder = None,
    state: State = _STATE,
    as_json: Json = False,
) -> None:
    """Take back certificates and make the revocation list anew. With --root: an intermediate, by its serial number."""
    from .authority import Authority

    authority = Authority.open(state / "pki")
    if root is None:
        for entry in authority.revoke(what, reason):
            _print(as_json, "revoked", **_row(entry))
    else:
        from .root import Root

        top = Root.open(root)
        top.revoke(what, reason)
        authority.take_root_crl(top)
        authority.refresh_crl(force=True)
        _print(as_json, "revoked", serial=what, kind="intermediate")
    _print(as_json, "crl", crl=str(authority.crl_pem))


@app.command()
def crl(
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="How long it is good.")] = 366,
    root: RootFolder = None,
    state: State = _STATE,
    as_json: Json = False,
) -> None:
    """Make the revocation list anew, for a timer; with --root the root's list, too."""
    from .authority import Authority

    authority = Authority.open(state / "pki")
    if root is not None:
        from .root import Root

        authority.take_root_crl(Root.open(root))
    authority.refresh_crl(days, force=True)
    _print(as_json, "crl", crl=str(authority.crl_pem))


@app.command("list")
def list_(root: RootFolder = None, state: State = _STATE, as_json: Json = False) -> None:
    """List every certificate the authority gave out; with --root the intermediates of that root."""
    if root is None:
        from .authority import Authority

        authority = Authority.open(state / "pki")
        entries, about = authority.entries(), _kind(authority)
    else:
        from . import files
        from .register import Register

        files.read_certificate(root / "root.pem", "name the root's folder with --root")
        entries, about = Register(root).entries(), {}
    if as_json:
        if about:
            print(json.dumps({"event": "authority", **about}))
        for entry in entries:
            print(json.dumps({"event": "certificate", **_row(entry)}))
        return
    for text in about.values():
        print(f"Signed by {text}.")
    if not entries:
        print("No certificate was issued yet.")
        return
    # Lines, not a table, which would be cut to the terminal: 79 characters for a unit, its serial number at the end.
    rows = [("name", "status", "kind", "until", "serial")]
    rows += [(one.name, one.status, one.kind, f"{one.not_after:%Y-%m-%d}", one.serial) for one in entries]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(" ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _row(entry: Entry) -> dict[str, str]:
    return {**vars(entry), "not_after": entry.not_after.isoformat()}

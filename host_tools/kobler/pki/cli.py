"""`kobler pki`: the local certificate authority."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .authority import Authority

app = typer.Typer(no_args_is_help=True, help="The local certificate authority: create it, issue, list.")

State = Annotated[Path, typer.Option("--state", help="Where keys, images and databases are kept.")]
Json = Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")]
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
def init(state: State = _STATE, as_json: Json = False) -> None:
    """Make the authority, unless there is one; says where its certificate is."""
    authority = _authority(state)
    end = authority.certificate.not_valid_after_utc.isoformat()
    _print(as_json, "authority", ca=str(authority.ca_pem), not_after=end)


@app.command()
def issue(
    name: Annotated[str, typer.Argument(help="Name of the client, such as `dashboard`.")],
    state: State = _STATE,
    as_json: Json = False,
) -> None:
    """Issue a client certificate for any other MQTT client; prints where the files are."""
    issued = _authority(state).issue_client(name)
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


@app.command("list")
def list_(state: State = _STATE, as_json: Json = False) -> None:
    """List every certificate the authority gave out."""
    entries = _authority(state).entries()
    if as_json:
        for entry in entries:
            row = {**vars(entry), "not_after": entry.not_after.isoformat()}
            print(json.dumps({"event": "certificate", **row}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "kind", "serial", "valid until")
    for entry in entries:
        table.add_row(entry.name, entry.kind, entry.serial, f"{entry.not_after:%Y-%m-%d}")
    Console().print(table if entries else "No certificate was issued yet.")

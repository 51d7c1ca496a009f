"""`kobler provision`: a unit's identity and configuration, over its serial port."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError


def provision(
    port: Annotated[
        str | None, typer.Option("--port", help="Serial port, or rfc2217://HOST:PORT of a virtual board.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="The site's configuration (TOML); without it the unit's stays."),
    ] = None,
    state: Annotated[Path, typer.Option("--state", help="Where keys, images and databases are kept.")] = Path(
        ".kobler"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")] = False,
) -> None:
    """Give a unit its certificate and configuration. Its private key is made on it and never leaves it."""
    from ..pki import Authority
    from .steps import provision as run

    compiled = fits = None
    if config is not None:
        from ..config import compile_config, load, must_fit

        site = load(config)
        compiled = compile_config(site)

        def fits(sectors: int | None) -> None:
            for line in must_fit(site, sectors):
                print(f"warning: {line}", file=sys.stderr)

    found = run(
        port or _only_port(),
        Authority.open_or_create(state / "pki"),
        compiled,
        lambda text: print(text, file=sys.stderr),
        fits,
    )
    if as_json:
        print(json.dumps({"event": "provisioned", **vars(found)}))


def _only_port() -> str:
    from ..serial_ports import ports

    found = ports()
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"there are several serial ports: choose one of {', '.join(found)} with --port")
    raise UsageError("no USB serial port found: plug the board in, or name its port with --port")

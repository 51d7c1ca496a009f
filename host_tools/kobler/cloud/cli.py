"""`kobler up`, `kobler watch`, `kobler call` and `kobler write`."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError

State = Annotated[Path, typer.Option("--state", help="Where keys, images and databases are kept.")]
Json = Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")]
For = Annotated[
    str | None,
    typer.Option("--for", metavar="TIME", help="Stop by itself after this time, such as 20s or 5m."),
]
Config = Annotated[
    Path | None, typer.Option("--config", help="The broker of this configuration, not of a running flash.sh.")
]
Url = Annotated[str | None, typer.Option("--url", help="This broker, wss://… or mqtts://…")]
Ca = Annotated[Path | None, typer.Option("--ca", help="Authority to trust (PEM), unless STATE's own.")]
Cert = Annotated[Path | None, typer.Option("--cert", help="Our certificate (PEM), unless STATE's own.")]
Key = Annotated[Path | None, typer.Option("--key", help="Its key (PEM).")]
Device = Annotated[
    str | None, typer.Option("--device", metavar="ID", help="The coupler's id; else the only one that is online.")
]
_STATE = Path(".kobler")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Runtime(StrEnum):
    """What runs the firmware on the virtual board."""

    micropython = "micropython"
    cpython = "cpython"


def up(
    board: Annotated[str, typer.Option("--board", help="A board's name, or the path of a board file.")] = "virtual",
    port: Annotated[
        str | None,
        typer.Option("--port", help="Serial port of a real board; without it, a virtual one is powered up."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="This site's configuration instead of the demonstration.")
    ] = None,
    time: For = None,
    as_json: Json = False,
    state: State = _STATE,
    rs485: Annotated[
        Path | None,
        typer.Option(
            "--rs485",
            help="Offer the far end of the virtual bus as a pty here, without demonstration devices.",
        ),
    ] = None,
    runtime: Annotated[
        Runtime, typer.Option("--runtime", help="What runs the firmware on the virtual board.")
    ] = Runtime.micropython,
    no_broker: Annotated[
        bool,
        typer.Option("--no-broker", help="Let the coupler use the cloud of its configuration, and watch that."),
    ] = False,
    listen: Annotated[
        str | None,
        typer.Option("--listen", help="Name or address of this computer in the coupler's network, for the broker."),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option("--image", help="A base MicroPython image instead of the one to be downloaded."),
    ] = None,
) -> None:
    """Build, flash and provision a board, virtual by default, and show what it reports."""
    seconds = duration(time)
    for path, name in ((config, "--config"), (image, "--image")):
        if path is not None and not path.is_file():
            raise UsageError(f"{name} {path}: there is no such file")

    from .interrupt import Interrupts, Stopped

    with Interrupts() as interrupts:
        try:
            # Imported under its protection: these take long enough for somebody to press Ctrl-C.
            from .up import Options
            from .up import up as run

            options = Options(
                board, port, config, seconds, as_json, state, rs485, runtime.value, not no_broker, listen, image
            )
            code = run(options, interrupts)
        except Stopped as stopped:
            code = stopped.exit_code
    raise typer.Exit(code)


def watch(
    state: State = _STATE,
    config: Config = None,
    url: Url = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    device: Annotated[str | None, typer.Option("--device", metavar="ID", help="One coupler, not all.")] = None,
    as_json: Json = False,
    time: For = None,
) -> None:
    """Print the samples of a coupler as another client of its broker, until Ctrl-C."""
    seconds = duration(time)

    from .at import At
    from .watch import Watching

    at = At(state, config, url, ca, cert, key, device)
    where, which = at.place()
    raise typer.Exit(Watching(where, at.credentials("watch"), which, as_json).run(seconds))


def call(
    method: Annotated[
        str,
        typer.Argument(
            metavar="METHOD",
            help="read, write, describe, history, upload, identify, diagnose, restart, cloud, renew, unlock, "
            "request or scan.",
        ),
    ],
    arguments: Annotated[
        str | None,
        typer.Argument(metavar="[JSON|-]", help="""Such as '{"point": "field/meter/power"}'; - reads it."""),
    ] = None,
    state: State = _STATE,
    config: Config = None,
    url: Url = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Call a method of a coupler through its broker and print the answer (docs/broker.md)."""
    from .at import At
    from .call import call as run

    run(At(state, config, url, ca, cert, key, device), method, arguments, as_json)


def write(
    point: Annotated[str, typer.Argument(metavar="POINT", help="Such as field/ahu/setpoint.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="A number, true or false, or a name of the point's.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    state: State = _STATE,
    config: Config = None,
    url: Url = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write a point of a coupler by the rules of its configuration, and show what the device holds then.

    On a terminal it asks first.
    """
    from .at import At
    from .call import write as run

    def confirm(question: str) -> bool:
        return yes or not sys.stdin.isatty() or typer.confirm(question, err=True)

    run(At(state, config, url, ca, cert, key, device), point, value, confirm, as_json)


def duration(text: str | None) -> float | None:
    """Seconds in a time such as 500ms, 20s, 5m, 2h or 7d."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if match is None or not float(match[1]):
        raise UsageError(f"--for {text}: give a number and ms, s, m, h or d, such as 20s")
    return float(match[1]) * _UNITS[match[2]]

"""`kobler up` and `kobler watch`."""

from __future__ import annotations

import re
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
    config: Annotated[
        Path | None, typer.Option("--config", help="Watch the broker of this configuration, not a running flash.sh.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Watch this broker, wss://… or mqtts://…")] = None,
    as_json: Json = False,
    time: For = None,
) -> None:
    """Print the samples of a coupler as another client of its broker, with a certificate of STATE's authority."""
    seconds = duration(time)
    if config is not None and url is not None:
        raise UsageError("--config and --url both name a broker: give one of them")

    from .watch import watch as run

    if config is not None:
        from ..config import load
        from ..mqtt_link import Endpoint

        found = load(config).cloud.url
        if found is None:
            raise UsageError(f"{config} names no broker: give [cloud] a url")
        url = Endpoint(found.scheme, found.host, found.port, found.path).url
    raise typer.Exit(run(state, url, as_json, seconds))


def duration(text: str | None) -> float | None:
    """Seconds in a time such as 500ms, 20s, 5m, 2h or 7d."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if match is None or not float(match[1]):
        raise UsageError(f"--for {text}: give a number and ms, s, m, h or d, such as 20s")
    return float(match[1]) * _UNITS[match[2]]

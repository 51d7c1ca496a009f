"""`kobler doctor`: can a coupler reach its broker from this network?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError

if TYPE_CHECKING:
    from ..config.firewall import Rule
    from ..mqtt_link import Credentials
    from .checks import Target
    from .report import Report

_STATE = Path(".kobler")
_HUB_PATH = "/$iothub/websocket"
_HERE, _THERE = "From this computer", "From the coupler itself"


def doctor(
    port: Annotated[
        str | None,
        typer.Option(
            "--port",
            help="Serial port, or rfc2217://HOST:PORT, of a coupler: it checks for itself, with its own configuration "
            "and certificate, and restarts. Its bus is not read meanwhile.",
            rich_help_panel=_THERE,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="Check the broker and time servers of this configuration.", rich_help_panel=_HERE
        ),
    ] = None,
    state: Annotated[
        Path, typer.Option("--state", help="Check what runs on this state folder.", rich_help_panel=_HERE)
    ] = _STATE,
    url: Annotated[
        str | None, typer.Option("--url", help="Check this broker, wss://… or mqtts://…", rich_help_panel=_HERE)
    ] = None,
    ca: Annotated[
        Path | None, typer.Option("--ca", help="Authority to trust (PEM), unless STATE's own.", rich_help_panel=_HERE)
    ] = None,
    cert: Annotated[
        Path | None, typer.Option("--cert", help="Our certificate (PEM), unless STATE's own.", rich_help_panel=_HERE)
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Its key (PEM).", rich_help_panel=_HERE)] = None,
    ntp: Annotated[
        list[str] | None,
        typer.Option("--ntp", help="Time server, HOST[:PORT]; may be repeated.", rich_help_panel=_HERE),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Markdown, for a ticket.")] = False,
) -> None:
    """Check name, TCP, TLS, WebSocket, MQTT and time, each with the time it took and what to do.

    With --config or --port also the table of what the site's firewall must let through. Exit 1 if a check failed.
    """
    from .report import Form, Report

    if as_json and as_markdown:
        raise UsageError("--json and --markdown: give one of them")
    report = Report(Form.JSON if as_json else Form.MARKDOWN if as_markdown else Form.LINES)
    if port is not None:
        given = {"--config": config, "--url": url, "--ca": ca, "--cert": cert, "--key": key, "--ntp": ntp}
        named = [name for name, value in given.items() if value is not None]
        if named:
            raise UsageError(f"--port asks the coupler, which has its own configuration: leave {named[0]} away")
        _ask_unit(port, report)
    else:
        _check_here(config, state, url, ntp, (ca, cert, key), report)
    raise typer.Exit(0 if report.healthy else 1)


def _check_here(
    config: Path | None,
    state: Path,
    url: str | None,
    ntp: list[str] | None,
    files: tuple[Path | None, Path | None, Path | None],
    report: Report,
) -> None:
    from ..mqtt_link import Credentials
    from .checks import examine

    if config is not None and url is not None:
        raise UsageError("--config and --url both name a broker: give one of them")
    target, rules = _target(config, state, url, Credentials.of(state, "doctor", *files), ntp)
    for finding in examine(target):
        report.finding(finding)
    report.end(rules)


def _ask_unit(port: str, report: Report) -> None:
    from contextlib import closing

    from ..cloud.interrupt import Interrupts, Stopped
    from ..config.firewall import Needs, table_of
    from .finding import Finding
    from .unit import examine

    rules: list[Rule] = []
    with Interrupts():
        try:
            # Closed at once, whatever happens here: that is what sets the unit going again.
            with closing(examine(port, lambda text: print(text, file=sys.stderr))) as events:
                for event in events:
                    if isinstance(event, Finding):
                        report.finding(event)
                    elif isinstance(event, Needs):
                        rules = table_of(event)
                    else:
                        report.unit(event)
        except Stopped as stopped:
            raise typer.Exit(stopped.exit_code) from None
    report.end(rules)


def _target(
    config: Path | None, state: Path, url: str | None, credentials: Credentials, ntp: list[str] | None
) -> tuple[Target, list[Rule]]:
    from ..mqtt_link import Endpoint
    from .checks import Target

    if url is not None:
        return Target([Endpoint.parse(url)], credentials, ntp or []), []
    if config is None:
        from ..cloud.state import read_endpoint

        where = read_endpoint(state)
        servers = ntp or [str(one) for one in where.get("ntp", [])]
        return Target([Endpoint.parse(where["broker"])], credentials, servers), []
    from ..config import load
    from ..config.firewall import rules

    site = load(config)
    cloud = site.cloud
    if not cloud.enabled or not cloud.urls:
        raise UsageError(f"{config}: [cloud] enabled = false, so a coupler with it connects to nothing")
    azure = cloud.dialect == "azure"
    endpoints = [Endpoint(one.scheme, one.host, one.port, _HUB_PATH if azure else one.path) for one in cloud.urls]
    return Target(endpoints, credentials, ntp or list(site.network.ntp), azure), rules(site)

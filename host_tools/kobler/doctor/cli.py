"""`kobler doctor`: can a coupler reach its broker from this network?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError

if TYPE_CHECKING:
    from ..config.firewall import Rule
    from ..mqtt_link import Credentials
    from .checks import Finding, Target

_STATE = Path(".kobler")
_MARKS = {True: "ok", False: "FAILED", None: "-"}


def doctor(
    config: Annotated[
        Path | None, typer.Option("--config", help="Check the broker and time servers of this configuration.")
    ] = None,
    state: Annotated[Path, typer.Option("--state", help="Check what runs on this state folder.")] = _STATE,
    url: Annotated[str | None, typer.Option("--url", help="Check this broker, wss://… or mqtts://…")] = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="The authority to trust (PEM), unless STATE's own.")] = None,
    cert: Annotated[Path | None, typer.Option("--cert", help="Our certificate (PEM), unless STATE's own.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Its key (PEM).")] = None,
    ntp: Annotated[list[str] | None, typer.Option("--ntp", help="Time server, HOST[:PORT]; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")] = False,
) -> None:
    """Check name, TCP, TLS, WebSocket, MQTT and time from here, each with the time it took and what to do."""
    from ..mqtt_link import Credentials
    from .checks import examine

    if config is not None and url is not None:
        raise UsageError("--config and --url both name a broker: give one of them")
    credentials = Credentials.of(state, "doctor", ca, cert, key)
    target, rules = _target(config, state, url, credentials, ntp)
    findings = []
    for finding in examine(target):
        findings.append(finding)
        _show(finding, as_json)
    for rule in rules:
        _show_rule(rule, as_json)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


def _target(
    config: Path | None, state: Path, url: str | None, credentials: Credentials, ntp: list[str] | None
) -> tuple[Target, list[Rule]]:
    from ..mqtt_link import Endpoint
    from .checks import Target

    if url is not None:
        return Target(Endpoint.parse(url), credentials, ntp or []), []
    if config is None:
        from ..cloud.state import read_endpoint

        where = read_endpoint(state)
        servers = ntp or [str(one) for one in where.get("ntp", [])]
        return Target(Endpoint.parse(where["broker"]), credentials, servers), []
    from ..config import load
    from ..config.firewall import rules

    site = load(config)
    cloud = site.cloud.url
    if not site.cloud.enabled or cloud is None:
        raise UsageError(f"{config}: [cloud] enabled = false, so a coupler with it connects to nothing")
    endpoint = Endpoint(cloud.scheme, cloud.host, cloud.port, cloud.path)
    return Target(endpoint, credentials, ntp or list(site.network.ntp)), rules(site)


def _show(finding: Finding, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"event": "check", **asdict(finding), "seconds": round(finding.seconds, 4)}), flush=True)
        return
    print(f"{finding.check:10} {_MARKS[finding.ok]:7} {finding.seconds * 1000:6.0f} ms  {finding.detail}", flush=True)
    if finding.remedy:
        print(f"{'':29}-> {finding.remedy}", flush=True)


def _show_rule(rule: Rule, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"event": "rule", **asdict(rule)}), flush=True)
    else:
        print(f"firewall   out to {rule.domain}, {rule.protocol} port {rule.port}: {rule.note}")

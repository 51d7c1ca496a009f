"""`kobler provision`: a unit's identity and configuration, over its serial port."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from . import est_cli

if TYPE_CHECKING:
    from ..config import Config
    from .line import Keeper
    from .steps import Lock, Provisioned
    from .unit import Fits


def provision(
    port: Annotated[
        str | None, typer.Option("--port", help="Serial port, or rfc2217://HOST:PORT of a virtual board.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="The site's configuration (TOML); without it the unit's stays."),
    ] = None,
    csr_out: Annotated[
        Path | None,
        typer.Option("--csr-out", help="Only make a key, and write its request for an external authority here."),
    ] = None,
    cert_in: Annotated[
        Path | None, typer.Option("--cert-in", help="Take the certificate that an external authority gave.")
    ] = None,
    ca_in: Annotated[
        Path | None,
        typer.Option("--ca-in", help="Its root and intermediates, unless they are in --cert-in's file."),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option("--trust", help="Further roots (PEM) that the unit trusts, such as Azure's."),
    ] = None,
    est: est_cli.Way = None,
    est_roots: est_cli.Roots = None,
    est_identity: est_cli.Identity = None,
    no_est_secret: est_cli.NoSecret = False,
    batch: Annotated[
        Path | None,
        typer.Option("--batch", help="One unit after the other, for the serial numbers in this CSV file."),
    ] = None,
    scan: Annotated[
        bool, typer.Option("--scan", help="One unit after the other; each serial number is typed or scanned.")
    ] = False,
    flash: Annotated[
        str | None, typer.Option("--flash", metavar="BOARD", help="In a batch: flash what `kobler build` made first.")
    ] = None,
    reissue: Annotated[
        list[str] | None,
        typer.Option("--reissue", metavar="SERIAL", help="In a batch: revoke what it got and begin it anew."),
    ] = None,
    wait: Annotated[
        float | None, typer.Option("--wait", min=0, help="In a batch: seconds to wait for a board.")
    ] = None,
    lock: Annotated[bool, typer.Option("--lock", help="Lock its console at the end (see `kobler unlock`).")] = False,
    owner_key: Annotated[
        Path | None,
        typer.Option("--owner-key", help="With --lock: the key (PEM, public or private) whose tokens open it."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, change nothing.")] = False,
    state: Annotated[Path, typer.Option("--state", help="Where keys, images and databases are kept.")] = Path(
        ".kobler"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")] = False,
) -> None:
    """Give a unit its certificate and configuration. Its private key is made on it and never leaves it."""
    line = batch is not None or scan
    ways = {"--csr-out": csr_out, "--cert-in": cert_in, "--batch": batch, "--scan": scan}
    chosen = [name for name, value in ways.items() if value]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} do not go together: choose one")
    if ca_in and not cert_in:
        raise UsageError("--ca-in goes with --cert-in")
    if not line and (flash or reissue or wait is not None):
        raise UsageError("--flash, --reissue and --wait are for --batch and --scan")
    if trust and (line or csr_out):
        raise UsageError(f"--trust does not go with {chosen[0]}")
    if owner_key and not lock:
        raise UsageError("--owner-key goes with --lock")
    if csr_out and lock:
        raise UsageError("--lock goes with --cert-in, not with --csr-out: the unit is not finished yet")
    if csr_out and config:
        raise UsageError("--config goes with --cert-in, not with --csr-out: nothing is configured yet")
    if scan and dry_run:
        raise UsageError("--dry-run knows no serial number before it is scanned: use it with --batch")

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    def tell(found: Provisioned | None, **more: str) -> None:
        if as_json and found is not None:
            print(json.dumps({"event": "provisioned", **vars(found), **more}), flush=True)

    site, compiled, fits = _compiled(config)
    roots = _roots(trust) if trust else b""
    shut = _lock(owner_key) if lock else None
    access = est_cli.access(est, est_roots, est_identity, no_est_secret, chosen, site, dry_run)

    def authority() -> Keeper:
        from ..pki import Authority
        from .est import EstAuthority

        if access:
            return EstAuthority(access, state / "est", say)
        return (Authority.open if dry_run else Authority.open_or_create)(state / "pki")

    if line:
        from .production import Production

        where = port or ("" if dry_run else only_port())
        Production(state, authority, batch, where, flash, wait, compiled, fits, say, tell, shut).run(
            reissue or [], dry_run
        )
        return
    from . import steps

    where = port or only_port()
    if csr_out:
        if dry_run:
            say(f"the request would be written to {csr_out}")
            steps.look(where, None, say, would="it would make a key that waits for its certificate")
        else:
            unit_id = steps.write_request(where, csr_out, say)
            if as_json:
                print(json.dumps({"event": "request", "id": unit_id, "csr": str(csr_out)}))
    elif cert_in:
        paths = [cert_in, *([ca_in] if ca_in else [])]
        tell(steps.take_certificate(where, paths, compiled, say, fits, dry_run, shut, roots))
    elif dry_run:
        would = steps.WOULD
        if access and est is est_cli.Est.HERE:
            from .est import EstAuthority

            names = ", ".join(EstAuthority(access, state / "est", say).names())
            say(f"the certificate would come from {access.url}, whose authorities are {names}")
        elif access:
            say(f"the unit would fetch its certificate from {access.url or 'its EST server'}")
            would = "it would get what it needs for that"
        steps.look(where, compiled, say, fits, would)
    elif access and est is est_cli.Est.UNIT:
        tell(steps.hand_over(where, access.secret, _roots(access.roots) + roots, compiled, say, fits, shut))
    else:
        tell(steps.provision(where, authority(), compiled, say, fits, shut, roots))


def _roots(path: Path) -> bytes:
    from .est_http import roots_der

    return roots_der(path)


def _lock(owner_key: Path | None) -> Lock:
    from .lock import owner_of
    from .steps import Lock

    return Lock(owner_of(owner_key) if owner_key else None)


def _compiled(path: Path | None) -> tuple[Config | None, bytes | None, Fits | None]:
    if path is None:
        return None, None, None
    from ..config import compile_config, load, must_fit

    site = load(path)

    def fits(sectors: int | None) -> None:
        for line in must_fit(site, sectors):
            print(f"warning: {line}", file=sys.stderr)

    return site, compile_config(site), fits


def only_port() -> str:
    from ..serial_ports import ports

    found = ports()
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"there are several serial ports: choose one of {', '.join(found)} with --port")
    raise UsageError("no USB serial port found: plug the board in, or name its port with --port")

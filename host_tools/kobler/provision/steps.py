"""What happens to a unit when it is provisioned, in order; until the last step but one it keeps what it had.

An authority is asked at once (`provision`), or elsewhere by files: `write_request` ends with the certificate request,
`take_certificate` goes on from there, days later if need be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ..errors import KoblerError
from ..pki import files, requests
from .console import Console
from .external import answer, read_certificates, request_pem
from .unit import Fits, Owner, Unit

Progress = Callable[[str], None]
WOULD = "it would get a new key and certificate"


class Certifier(Protocol):
    """Who signs: the local authority, or somebody like it."""

    @property
    def keep(self) -> bool:
        """Whether the answer may take so long that the unit's key has to wait for it."""

    def certify(self, csr_der: bytes, unit_id: str) -> requests.Answer:
        """What the unit is to get for its request."""


@dataclass(frozen=True)
class Lock:
    """The console is shut at the end; without an owner, for all but the button or the owner of before."""

    owner: Owner | None


@dataclass(frozen=True)
class Provisioned:
    """What the unit says it is now; no certificate: it has still to fetch its first one."""

    id: str
    fingerprint: str | None
    not_after: int | None
    rev: str | None
    seconds: float


@contextmanager
def at(port: str, say: Progress, fits: Fits | None = None, lock: Lock | None = None) -> Iterator[Unit]:
    """The unit at a port, and its restart at the end, whatever came between. `lock`: it is going to be locked."""
    say(f"connecting to the unit at {port}")
    with Console(port) as console:
        unit = Unit(console)
        try:
            if fits is not None:
                unit.room(fits)
            agree(unit, lock, say)
            yield unit
        finally:
            say("restarting the unit")
            unit.restart()


def agree(unit: Unit, lock: Lock | None, say: Progress) -> None:
    """Warn if this computer's clock and the unit's differ. They must not if the unit is going to be locked: a token
    that is older than the lock does not open it."""
    clocks = unit.clocks()
    if clocks and lock is not None:
        raise KoblerError(
            f"{clocks}: no token might open its console, so it was not locked. Set this computer's clock; if it is "
            "right, take the unit's power away for a moment, so that it forgets the time. Then run the command again"
        )
    if clocks:
        say(f"warning: {clocks}: is this computer's right?")


def provision(
    port: str,
    authority: Certifier,
    config: bytes | None,
    progress: Progress | None = None,
    fits: Fits | None = None,
    lock: Lock | None = None,
    trust: bytes = b"",
) -> Provisioned:
    """Give the unit at `port` an identity under `authority` and, unless None, this compiled configuration.

    `trust`: further roots (DER, one behind the other) that its peers may be under, besides the authority's.

    `fits` is told how many sectors of flash the unit has for its history (None: it keeps it in files), and raises
    UsageError if that is too little. Ends with a hard reset of the unit. Doing it again is safe; KoblerError leaves the
    unit as it was.
    """
    say = progress or _silent
    started = time.monotonic()
    with at(port, say, fits, lock) as unit:
        say(f"unit {unit.id} makes its key")
        request = unit.request(authority.keep)
        say("signing its certificate")
        found = install(unit, authority.certify(request, unit.id), config, say, lock, trust)
    return _end(found, started, say)


def hand_over(
    port: str,
    secret: str | None,
    roots: bytes,
    config: bytes | None,
    progress: Progress | None = None,
    fits: Fits | None = None,
    lock: Lock | None = None,
) -> Provisioned:
    """Have the unit fetch its certificate itself, by EST, when it is on its network.

    `secret`: user:password for its first request, None: it shows the certificate that it has. `roots`: the authorities
    (DER, one behind the other) that the server is verified by, and that its certificate must be under.
    """
    say = progress or _silent
    started = time.monotonic()
    with at(port, say, fits, lock) as unit:
        say(f"unit {unit.id} gets what it needs to fetch its certificate")
        unit.stage({"bootstrap": (secret or "").encode() + b"\n" + roots, "config": config})
        found = _switch(unit, None, say, lock)
    return _end(found, started, say)


def write_request(port: str, path: Path, progress: Progress | None = None) -> str:
    """Have the unit make a key, and write its request (PEM) to `path`; -> the unit's id.

    The key waits on the unit for its certificate; asked again before that has come, the request is for the same key.
    """
    say = progress or _silent
    with at(port, say) as unit:
        say(f"unit {unit.id} makes its key")
        request = unit.request(keep=True)
        requests.key_of(request, unit.id)
        files.write_public(path, request_pem(request))
    say(f"{path} is the request of unit {unit.id}; go on with --cert-in when its certificate has come")
    return unit.id


def take_certificate(
    port: str,
    paths: Sequence[Path],
    config: bytes | None,
    progress: Progress | None = None,
    fits: Fits | None = None,
    dry_run: bool = False,
    lock: Lock | None = None,
    trust: bytes = b"",
) -> Provisioned | None:
    """Give the unit the certificate for the request of `write_request`. `paths`: files with it, its intermediates and
    its root. With `dry_run` only look whether it would take it; -> None.
    """
    say = progress or _silent
    started = time.monotonic()
    there = [one for path in paths for one in read_certificates(path)]
    with at(port, say, fits, lock) as unit:
        if not unit.waits():
            raise KoblerError(f"no key of unit {unit.id} waits for a certificate: begin with --csr-out")
        given = answer(there, requests.key_of(unit.request(keep=True), unit.id), unit.id)
        if dry_run:
            say(f"unit {unit.id} would get this certificate, {len(given.chain)} intermediate(s) and its root")
            return None
        found = install(unit, given, config, say, lock, trust)
    return _end(found, started, say)


def look(
    port: str,
    config: bytes | None,
    progress: Progress | None = None,
    fits: Fits | None = None,
    would: str = WOULD,
) -> None:
    """Say what provisioning would do. The unit is asked and restarted, nothing on it changes."""
    say = progress or _silent
    with at(port, say, fits) as unit:
        has = unit.fingerprint()
        now = f"it has a certificate (SHA-256 {has[:16]}…)" if has else "it has no certificate"
        then = "and this configuration" if config is not None else "and keep its configuration"
        say(f"unit {unit.id}: {now}; {would} {then}")


def install(
    unit: Unit,
    given: requests.Answer,
    config: bytes | None,
    say: Progress,
    lock: Lock | None = None,
    trust: bytes = b"",
) -> Provisioned:
    """Copy certificates and configuration to a unit whose key is staged, have it switch, and lock it."""
    say("copying certificate and configuration")
    unit.stage({"cert": given.certificate + b"".join(given.chain), "ca": given.ca + trust, "config": config})
    return _switch(unit, given, say, lock)


def _switch(unit: Unit, given: requests.Answer | None, say: Progress, lock: Lock | None) -> Provisioned:
    started = time.monotonic()
    say("the unit checks what it got and switches")
    found = unit.switch(given.certificate if given else None)
    if given and found.chain < len(given.chain):
        say(
            f"warning: the unit shows {found.chain} of its {len(given.chain)} intermediates (there is room for 4000 "
            "bytes): its peers have to know the others"
        )
    if lock is not None:
        say("locking its console")
        unit.lock(lock.owner)
    return Provisioned(unit.id, found.fingerprint, found.not_after, found.rev, time.monotonic() - started)


def _end(found: Provisioned, started: float, say: Progress) -> Provisioned:
    what = "its certificate" if found.fingerprint else "what it needs to fetch its certificate,"
    say(f"unit {found.id} has {what} and configuration {found.rev}")
    return replace(found, seconds=time.monotonic() - started)


def _silent(_: str) -> None:
    pass

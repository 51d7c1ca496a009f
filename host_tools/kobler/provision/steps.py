"""What happens to a unit when it is provisioned, in order; until the last step but one it keeps what it had.

The private key is made on the unit and stays there. What crosses the wire: the certificate request up; the
certificate, the authority's certificate and the compiled configuration down.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import KoblerError
from .console import Console, Refused

if TYPE_CHECKING:
    from ..pki import Authority

Progress = Callable[[str], None]
Fits = Callable[[int | None], None]

# Bytes in one statement: the unit holds its text, its base64 and its result at once.
_CHUNK = 768
# A chip takes a second or two for the arithmetic of one P-256 signature, in the worst of conditions.
_ARITHMETIC_SECONDS = 60.0
_MINIMUM = (1, 24)


@dataclass(frozen=True)
class Provisioned:
    """What the unit says it is now."""

    id: str
    fingerprint: str
    not_after: int
    rev: str | None
    seconds: float


def provision(
    port: str,
    authority: Authority,
    config: bytes | None,
    progress: Progress | None = None,
    fits: Fits | None = None,
) -> Provisioned:
    """Give the unit at `port` an identity under `authority` and, unless None, this compiled configuration.

    `fits` is told how many sectors of flash the unit has for its history (None: it keeps it in files), and raises
    UsageError if that is too little. Ends with a hard reset of the unit. Doing it again is safe; KoblerError leaves the
    unit as it was.
    """
    say = progress or (lambda _: None)
    started = time.monotonic()
    say(f"connecting to the unit at {port}")
    with Console(port) as console:
        unit_id = _identify(console)
        try:
            if fits is not None:
                _room(console, unit_id, fits)
            answer = _enrol(console, unit_id, authority, config, say)
        except BaseException:
            # Back to work with what it has; if it does not hear this, its watchdog sees to it.
            _restart(console)
            raise
        say("restarting the unit")
        _restart(console)
    found = Provisioned(unit_id, *answer, seconds=time.monotonic() - started)
    say(f"unit {found.id} has its certificate and configuration {found.rev}")
    return found


def _identify(console: Console) -> str:
    unknown = f"the board at {console.port} runs MicroPython, but not Kobler: run `kobler flash` first"
    step = "asking who it is"
    version = console.ask("__import__('sys').implementation.version[:2]", step)
    if tuple(version) < _MINIMUM:
        found = ".".join(str(part) for part in version)
        raise KoblerError(f"the board at {console.port} runs MicroPython {found}; Kobler needs 1.24 or later")
    try:
        console.run("from coupler import hal\nfrom coupler.trust import enrol\nh=hal.get()", step)
        return str(console.ask("enrol.unit_id(h)", step))
    except Refused as refused:
        if refused.kind in ("ImportError", "AttributeError", "NameError"):
            raise KoblerError(unknown) from None
        raise KoblerError(f"the unit at {console.port} failed while {step}: {refused}") from None


def _room(console: Console, unit_id: str, fits: Fits) -> None:
    step = "asking for its room"
    try:
        sectors = console.ask("getattr(h.flash(),'sectors',None)", step)
    except Refused as refused:
        if refused.kind == "AttributeError":
            return  # older firmware keeps no history
        raise _complaint(unit_id, step, refused) from None
    fits(sectors if isinstance(sectors, int) else None)


def _enrol(
    console: Console, unit_id: str, authority: Authority, config: bytes | None, say: Progress
) -> tuple[str, int, str | None]:
    # -> what the unit says: fingerprint, end of validity, revision of its configuration
    say(f"unit {unit_id} makes its key")
    _ask(console, unit_id, f"h.set_time({int(time.time() * 1000)})", "setting its clock")
    begin = "__import__('binascii').b2a_base64(enrol.begin(h)).decode()"
    request = _ask(console, unit_id, begin, "making its key", _ARITHMETIC_SECONDS)
    say("signing its certificate")
    try:
        csr = base64.b64decode(str(request))
    except ValueError:
        csr = b""
    certificate = authority.sign_csr(csr, unit_id)
    say("copying certificate and configuration")
    _stage(console, unit_id, "cert", certificate)
    _stage(console, unit_id, "ca", authority.ca_der)
    if config is not None:
        _stage(console, unit_id, "config", config)
    say("the unit checks what it got and switches")
    _run(console, unit_id, "from coupler import compose", "loading its firmware")
    commit = "enrol.commit(h,compose.check)"
    answer = _ask(console, unit_id, commit, "switching to its new identity", _ARITHMETIC_SECONDS)
    expected = hashlib.sha256(certificate).hexdigest()
    if not isinstance(answer, dict) or answer.get("id") != unit_id or answer.get("fingerprint") != expected:
        raise KoblerError(f"unit {unit_id} does not confirm its new certificate: run the command again")
    return expected, int(answer["not_after"]), answer["rev"]


def _stage(console: Console, unit_id: str, name: str, data: bytes) -> None:
    step = f"copying its {name}"
    _run(console, unit_id, "import binascii\n_b=bytearray()", step)
    for start in range(0, len(data), _CHUNK):
        text = base64.b64encode(data[start : start + _CHUNK]).decode()
        _run(console, unit_id, f"_b.extend(binascii.a2b_base64('{text}'))", step)
    _ask(console, unit_id, f"enrol.stage(h,{name!r},_b,{hashlib.sha256(data).hexdigest()!r})", step)
    _run(console, unit_id, "_b=None", step)


def _ask(console: Console, unit_id: str, expression: str, step: str, seconds: float = 20.0) -> object:
    try:
        return console.ask(expression, step, seconds)
    except Refused as refused:
        raise _complaint(unit_id, step, refused) from None


def _run(console: Console, unit_id: str, code: str, step: str) -> None:
    try:
        console.run(code, step)
    except Refused as refused:
        raise _complaint(unit_id, step, refused) from None


def _complaint(unit_id: str, step: str, refused: Refused) -> KoblerError:
    if refused.kind == "EnrolError":
        return KoblerError(f"unit {unit_id} refused while {step}: {refused.text}; it keeps what it had")
    if refused.kind == "OSError" and "28" in refused.text:
        return KoblerError(f"unit {unit_id} has no room left in its file system while {step}: run `kobler flash`")
    return KoblerError(f"unit {unit_id} failed while {step}: {refused}; it keeps what it had")


def _restart(console: Console) -> None:
    try:
        # Not at once: the console's last byte, for which mpremote waits, would be lost with the reset.
        console.reset("import time\ntime.sleep(0.1)\nh.reset()")
    except KoblerError:
        pass

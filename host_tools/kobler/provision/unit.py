"""A unit at its console, spoken to as coupler/trust/enrol.py on it expects; until it switches it keeps what it had.

The private key is made on the unit and stays there. What crosses the wire: the certificate request up; certificates and
the compiled configuration down.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import KoblerError
from .console import Console, Refused, printable

Fits = Callable[[int | None], None]
ID = re.compile(r"[0-9a-f]{8,32}")

# Bytes in one statement: the unit holds its text, its base64 and its result at once.
_CHUNK = 768
# A chip takes a second or two for the arithmetic of one P-256 signature, in the worst of conditions.
_ARITHMETIC_SECONDS = 60.0
_MINIMUM = (1, 24)
_CLOCKS_APART_MS = 600_000
_END_OF_TIME_MS = 1 << 42  # 2109

# A staged key is forgotten at the next boot. One that waits for an authority elsewhere lies in this file until then.
_KEPT = "/etc/key.csr"
_REQUEST = f"""
from coupler.trust import csr,switch
enrol.recover(h)
_k=h.read_file('{_KEPT}')
if _k is None:
 _r=enrol.begin(h)
 _k=h.read_file(switch.STAGED[switch.KEY])
 h.write_file('{_KEPT}',_k)
else:
 h.write_file(switch.STAGED[switch.KEY],_k)
 _r=csr.request(csr.read_key(_k),enrol.unit_id(h))
_k=None
"""


@dataclass(frozen=True)
class Owner:
    """Whose tokens a unit takes: the key's id, and its point (65 bytes) in hex."""

    kid: str
    point: str


@dataclass(frozen=True)
class Switched:
    """What the unit says it has after it switched; no certificate: it has still to fetch its first one. chain: how many
    intermediates it shows with it."""

    fingerprint: str | None
    not_after: int | None
    rev: str | None
    chain: int


class Unit:
    """Asks the unit at the console who it is. KoblerError names what is missing on it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.id = _identify(console)

    def room(self, fits: Fits) -> None:
        """Tells `fits` how many sectors of flash there are for the history; None: it is kept in files."""
        step = "asking for its room"
        try:
            sectors = self._console.ask("getattr(h.flash(),'sectors',None)", step)
        except Refused as refused:
            if refused.kind == "AttributeError":
                return  # older firmware keeps no history
            raise self._complaint(step, refused) from None
        fits(sectors if isinstance(sectors, int) else None)

    def fingerprint(self) -> str | None:
        """Of the certificate it has; None if it has none."""
        found = self._ask("enrol.status(h)", "asking for its certificate")
        return printable(str(found["fingerprint"])) if isinstance(found, dict) and found.get("fingerprint") else None

    def waits(self) -> bool:
        """Whether a key on it waits for its certificate."""
        return bool(self._ask(f"h.read_file('{_KEPT}') is not None", "looking for a key that waits"))

    def clocks(self) -> str | None:
        """What this computer's clock and the unit's say, if they differ by much; None also if the unit knows no time.
        To be asked first: what follows sets the unit's."""
        try:
            theirs, ours = self._console.ask("h.now_ms()", "asking for its time"), int(time.time() * 1000)
        except Refused:
            return None  # older firmware
        if not isinstance(theirs, int) or abs(theirs - ours) <= _CLOCKS_APART_MS or not 0 < theirs < _END_OF_TIME_MS:
            return None
        now, then = (f"{dt.datetime.fromtimestamp(ms // 1000, dt.UTC):%Y-%m-%d %H:%M}" for ms in (ours, theirs))
        return f"this computer's clock says {now} (UTC), that of unit {self.id} {then}"

    def request(self, keep: bool = False) -> bytes:
        """The certificate request (DER) for a new key. `keep`: for the key that waits; it makes one if there is none,
        and that outlives a restart."""
        self._ask(f"h.set_time({int(time.time() * 1000)})", "setting its clock")
        answer = "__import__('binascii').b2a_base64(%s).decode()"
        if keep:
            self._run(_REQUEST, "making its key", _ARITHMETIC_SECONDS)
            text = self._ask(answer % "_r", "sending its request")
        else:
            text = self._ask(answer % "enrol.begin(h)", "making its key", _ARITHMETIC_SECONDS)
        try:
            return base64.b64decode(str(text))
        except ValueError:
            return b""

    def stage(self, what: Mapping[str, bytes | None]) -> None:
        """Copy what the unit is to have, by enrol.py's names for it; None: that stays as it is."""
        if not self._ask("hasattr(enrol.x509,'split')", "looking at its firmware"):
            raise KoblerError(f"the firmware of unit {self.id} is older than this program: run `kobler flash` first")
        for name, data in what.items():
            if data is not None:
                self._stage(name, data)

    def switch(self, certificate: bytes | None) -> Switched:
        """Have the unit check what is staged and take it; afterwards it is the new one.

        `certificate`: what it must have then (DER), None: as before.
        """
        self._run("from coupler import compose", "loading its firmware")
        step = "switching to its new identity"
        answer = self._ask("enrol.commit(h,compose.check)", step, _ARITHMETIC_SECONDS)
        found = answer if isinstance(answer, dict) else {}
        fingerprint, end, rev = found.get("fingerprint"), found.get("not_after"), found.get("rev")
        if certificate is None:
            right = found.get("est") is True and isinstance(end, int | None) and isinstance(fingerprint, str | None)
        else:
            right = fingerprint == hashlib.sha256(certificate).hexdigest() and isinstance(end, int)
        chain = found.get("chain")
        if found.get("id") != self.id or not right or not isinstance(chain, int):
            raise KoblerError(f"unit {self.id} does not confirm what it got: run the command again")
        self.forget()
        return Switched(
            printable(fingerprint) if fingerprint else None,
            end,
            printable(rev) if isinstance(rev, str) else None,
            chain,
        )

    def forget(self) -> None:
        """Remove the key that waits, if there is one: what has its certificate must not get another."""
        self._run(f"h.remove('{_KEPT}')", "removing the key that waited")

    def lock(self, owner: Owner | None) -> None:
        """Shut its console from the restart on; without an owner the one of before stays."""
        step = "locking its console"
        self._ask(f"h.set_time({int(time.time() * 1000)})", step)  # tokens of before are void
        known = (owner.kid, owner.point) if owner else (None, None)
        self._run(f"from coupler.trust import lock\nlock.shut(h,*{known!r})", step)

    def restart(self) -> None:
        """Back to work, with what it has; if it does not hear this, its watchdog sees to it."""
        restart(self._console)

    def _stage(self, name: str, data: bytes) -> None:
        self._send(name, data)
        digest = hashlib.sha256(data).hexdigest()
        self._ask(f"enrol.stage(h,{name!r},_b,{digest!r})", f"copying its {name}")
        self._run("_b=None", f"copying its {name}")

    def _send(self, name: str, data: bytes) -> None:
        step = f"copying its {name}"
        self._run("import binascii\n_b=bytearray()", step)
        for start in range(0, len(data), _CHUNK):
            text = base64.b64encode(data[start : start + _CHUNK]).decode()
            self._run(f"_b.extend(binascii.a2b_base64('{text}'))", step)

    def _ask(self, expression: str, step: str, seconds: float = 20.0) -> object:
        try:
            return self._console.ask(expression, step, seconds)
        except Refused as refused:
            raise self._complaint(step, refused) from None

    def _run(self, code: str, step: str, seconds: float = 20.0) -> None:
        try:
            self._console.run(code, step, seconds)
        except Refused as refused:
            raise self._complaint(step, refused) from None

    def _complaint(self, step: str, refused: Refused) -> KoblerError:
        if refused.kind == "EnrolError":
            return KoblerError(f"unit {self.id} refused while {step}: {refused.text}; it keeps what it had")
        if refused.kind == "OSError" and "28" in refused.text:
            return KoblerError(f"unit {self.id} has no room left in its file system while {step}: run `kobler flash`")
        return KoblerError(f"unit {self.id} failed while {step}: {refused}; it keeps what it had")


def restart(console: Console) -> None:
    """Restart whatever answers at the console."""
    try:
        # Not at once: the console's last byte, for which mpremote waits, would be lost with the reset.
        console.reset("import time\ntime.sleep(0.1)\nh.reset()")
    except KoblerError:
        pass


def _identify(console: Console) -> str:
    unknown = f"the board at {console.port} runs MicroPython, but not Kobler: run `kobler flash` first"
    step = "asking who it is"
    version = console.ask("__import__('sys').implementation.version[:2]", step)
    if not isinstance(version, list) or len(version) != 2 or not all(isinstance(part, int) for part in version):
        raise KoblerError(f"the board at {console.port} says that it runs {version!r}: is it MicroPython?")
    if tuple(version) < _MINIMUM:
        found = ".".join(str(part) for part in version)
        raise KoblerError(f"the board at {console.port} runs MicroPython {found}; Kobler needs 1.24 or later")
    try:
        console.run("from coupler import hal\nfrom coupler.trust import enrol\nh=hal.get()", step)
        found = console.ask("enrol.unit_id(h)", step)
    except Refused as refused:
        if refused.kind in ("ImportError", "AttributeError", "NameError"):
            raise KoblerError(unknown) from None
        raise KoblerError(f"the unit at {console.port} failed while {step}: {refused}") from None
    if not isinstance(found, str) or not ID.fullmatch(found):
        # A certificate under a name of its own choosing could be another client's.
        raise KoblerError(f"the board at {console.port} says that its id is {found!r}, which no unit has")
    return found

# How the unit's identity and configuration change: all at once or not at all, through any power cut.
#
# What is new is staged beside what is in use (/etc/key.new beside /etc/key.der), and nobody reads it there.
# The switch is a redo log: /etc/commit, written in one step, lists what is to be taken over, with digests;
# from then on the new set is the unit's. Each file is then replaced, the log removed, the staged files last.
# A cut before the log leaves the old set untouched; a cut after it is made good by `recover` at the next
# boot, as every step may be done twice. The identity's second place (vault.py) takes the new set before the log is
# removed; what the flash has lost of it brings the old one back. This module is imported at every boot: keep it small.
import binascii
import hashlib
import json

KEY = "/etc/key.der"
CERT = "/etc/cert.der"
CA = "/etc/ca.der"
CONFIG = "/etc/config.json"
BOOTSTRAP = "/etc/bootstrap"  # see enrol.py
NEXT = "/etc/next.der"  # see candidate.py
STAGED = {KEY: "/etc/key.new", CERT: "/etc/cert.new", CA: "/etc/ca.new", CONFIG: "/etc/config.new"}
STAGED[BOOTSTRAP] = "/etc/bootstrap.new"
IDENTITY = (KEY, CERT, CA)
_LOG = "/etc/commit"


def digest(data):
    """SHA-256 in hex; None of None."""
    return None if data is None else binascii.hexlify(hashlib.sha256(data).digest()).decode()


def pending(hal):
    """Whether a switch was begun and not ended."""
    return hal.read_file(_LOG) is not None


def begin(hal, targets):
    """The point of no return for these targets, whose staged files were found good; without one a target is removed."""
    log = {}
    for target in targets:
        log[target] = digest(hal.read_file(STAGED[target])) if target in STAGED else None
    hal.write_file(_LOG, json.dumps(log).encode())


def finish(hal):
    """Carry out what the log says; answers what the flash has lost and could not be taken over."""
    lost = []
    try:
        log = json.loads(hal.read_file(_LOG))
    except ValueError:
        log = {}
        lost.append(_LOG)
    for target, wanted in log.items():
        # Once replaced it is not written again when the log is redone: that spares the flash.
        if digest(hal.read_file(target)) == wanted:
            continue
        data = None if wanted is None else hal.read_file(STAGED[target])
        if wanted is None:
            hal.remove(target)
        elif digest(data) == wanted:
            hal.write_file(target, data)
        else:
            lost.append(target)
    try:
        if lost:
            _vault().check(hal, IDENTITY)
        elif any(target in IDENTITY for target in log):
            _vault().keep(hal, IDENTITY)
    except (OSError, ValueError):
        lost.append("vault")  # the next boot says why
    hal.remove(_LOG)
    discard(hal)
    return lost


def discard(hal):
    """Forget what is staged; answers whether anything was."""
    found = False
    for path in STAGED.values():
        if hal.read_file(path) is not None:
            hal.remove(path)
            found = True
    return found


def recover(hal):
    """Finish or forget what was interrupted, then make the identity whole; for the boot.

    "clean", "completed", "discarded", "restored" from its second place, or "damaged".
    """
    if pending(hal):
        return "damaged" if finish(hal) else "completed"
    found = "discarded" if discard(hal) else "clean"
    return _vault().check(hal, IDENTITY) or found


def _vault():
    from coupler.trust import vault

    return vault

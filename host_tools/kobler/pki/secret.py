"""Passphrases and PINs: from the environment or from the keyboard, never from the command line, never printed."""

from __future__ import annotations

import getpass
import os
import sys

from ..errors import UsageError

ROOT_PASSPHRASE = "KOBLER_ROOT_PASSPHRASE"
ROOT_PIN = "KOBLER_ROOT_PIN"
PIN = "KOBLER_PKCS11_PIN"
EST = "KOBLER_EST_SECRET"
_SHORTEST = 12
_LONGEST = 1023  # bytes, as OpenSSL takes them


def ask(variable: str, what: str) -> str:
    """A secret that exists already. `variable` of the environment goes before the question."""
    found = os.environ.get(variable)
    if found:
        return _check(found, what)
    if not sys.stdin.isatty():
        raise UsageError(f"{what} is needed: set {variable}, or run this at a terminal")
    return _check(getpass.getpass(f"{what}: "), what)


def choose(variable: str, what: str) -> str:
    """A new passphrase, asked for twice."""
    found = ask(variable, f"new {what}")
    if len(found) < _SHORTEST:
        raise UsageError(f"{what}: take at least {_SHORTEST} characters, better four words")
    if not os.environ.get(variable) and getpass.getpass("once more: ") != found:
        raise UsageError(f"{what}: the two do not agree; nothing was made")
    return found


def _check(found: str, what: str) -> str:
    if not found.isprintable() or len(found.encode(errors="replace")) > _LONGEST:
        raise UsageError(f"{what}: at most {_LONGEST} bytes, and printable characters only")
    return found

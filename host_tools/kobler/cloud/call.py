"""`kobler call` and `kobler write`: a coupler's methods, through the broker."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from ..bus.remote import MethodRefused
from ..errors import UsageError
from .at import At

_CLIENT = "call"


def call(at: At, method: str, text: str | None, as_json: bool) -> None:
    """Print what a method answers. MethodRefused with the coupler's own words, KoblerError."""
    if not method or set(method) & set("/+#\0"):
        raise UsageError(f"METHOD {method!r}: a name such as read or diagnose")
    given = arguments(sys.stdin.read() if text == "-" else text or "{}")
    with at.coupler(_CLIENT) as coupler:
        found = {"event": "answer", "device": coupler.device, "method": method}
        try:
            answer = coupler.call(method, **given)
        except MethodRefused as refused:
            if as_json:
                print(json.dumps({**found, "status": refused.status, "error": refused.text}))
            raise
    if as_json:
        print(json.dumps({**found, "status": 200, "answer": answer}))
    else:
        print(json.dumps(answer, indent=1, ensure_ascii=True))


def arguments(text: str) -> dict[str, Any]:
    """A method's arguments. UsageError that shows where the text is no JSON object."""
    example = """such as '{"point": "field/meter/power"}'"""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"the arguments are not JSON ({error}): give an object, {example}") from None
    if not isinstance(found, dict):
        raise UsageError(f"the arguments are no JSON object: give one, {example}")
    return found


def write(at: At, point: str, value: str, confirm: Callable[[str], bool], as_json: bool) -> None:
    """Write a point by the rules of the coupler's configuration, and show what the device holds then. KoblerError."""
    from ..bus.transfer import store_point

    with at.coupler(_CLIENT) as coupler:
        store_point(coupler, point, value, confirm, as_json)

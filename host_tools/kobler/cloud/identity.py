"""Who a client is, by its certificate alone, and which topics are its own.

A unit's certificate says `urn:dev:kobler:ID`, any other client's (an observer) `urn:kobler:client:NAME`, each
with its common name at the end. What the client calls itself in MQTT (client identifier, user name) decides
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNIT_URN = "urn:dev:kobler:"
OBSERVER_URN = "urn:kobler:client:"


class IdentityError(Exception):
    """A certificate of our own authority that is neither a unit's nor an observer's."""


@dataclass(frozen=True)
class Identity:
    """The holder of a verified certificate."""

    name: str
    unit: bool

    def may_publish(self, topic: str) -> bool:
        """Whether a PUBLISH or a will to this topic is its right."""
        levels = topic.split("/")
        if len(levels) < 3 or levels[0] != "kobler":
            return False
        if self.unit:
            # What goes down to a unit is not the unit's to say, not even about itself.
            return levels[1] == self.name and not _is_downward(levels)
        return bool(levels[1]) and _is_downward(levels)

    def may_subscribe(self, pattern: str) -> bool:
        """Whether a topic filter stays within what it may read."""
        # An observer may read all there is, and a broker holds nothing but kobler/#.
        return not self.unit or pattern.split("/")[:2] == ["kobler", self.name]

    @classmethod
    def of(cls, certificate: Mapping[str, Any]) -> Identity:
        """The identity in a verified peer certificate, as ssl.SSLObject.getpeercert() gives it."""
        names = [value for rdn in certificate.get("subject", ()) for key, value in rdn if key == "commonName"]
        if len(names) != 1 or not names[0] or set(names[0]) & set("/+#\0"):
            raise IdentityError("the certificate needs one common name, free of '/', '+' and '#'")
        name = names[0]
        urns = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
        if UNIT_URN + name in urns:
            return cls(name, unit=True)
        if OBSERVER_URN + name in urns:
            return cls(name, unit=False)
        raise IdentityError(f"the certificate of {name!r} is neither a unit's nor an observer's")


def _is_downward(levels: list[str]) -> bool:
    return levels[2:] in (["desired"], ["ack"]) or (levels[2] == "method" and len(levels) > 3)

"""What units say, as events: MQTT messages in, samples, presence and reported properties out. Hostile input
is counted.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from typing import Any

URN = "urn:dev:kobler:"
# RFC 8428, section 4.5.3: times below 2**28 count from now.
_RELATIVE = 1 << 28


@dataclass(frozen=True)
class Sample:
    """One value of one point. `time` is Unix seconds, None where the unit did not know it; quality "good" or
    why not.
    """

    device: str
    point: str
    value: float | str | bool | None
    unit: str
    time: float | None
    quality: str
    seq: int | None

    @property
    def good(self) -> bool:
        """Whether the value was really read from the device."""
        return self.quality == "good" and self.value is not None

    def as_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        found = {name: getattr(self, name) for name in ("device", "point", "value", "unit", "time", "quality")}
        return {"event": "sample", **found} | ({"seq": self.seq} if self.seq is not None else {})


@dataclass(frozen=True)
class Presence:
    """A unit came or went."""

    device: str
    online: bool
    boot: int | None
    firmware: str


@dataclass(frozen=True)
class Reported:
    """A unit's reported properties, whole."""

    device: str
    properties: dict[str, Any]

    def bus(self) -> tuple[int, int]:
        """Requests and errors over all its buses."""
        buses = self.properties.get("bus")
        rows = [row for row in buses.values() if isinstance(row, dict)] if isinstance(buses, dict) else []
        return sum(_count(row, "requests") for row in rows), sum(_count(row, "errors") for row in rows)


Event = Sample | Presence | Reported


@dataclass
class Feed:
    """Turns messages into events; `malformed` counts the messages that were none."""

    malformed: int = 0
    last_error: str = field(default="")

    def take(self, topic: str, payload: bytes) -> list[Event]:
        """The events in one message; none for topics that carry no state."""
        levels = topic.split("/")
        if len(levels) != 3 or levels[0] != "kobler" or levels[2] not in ("telemetry", "presence", "reported"):
            return []
        device, kind = levels[1:]
        try:
            body = json.loads(payload)
            if kind == "telemetry":
                return list(samples(device, body))
            if not isinstance(body, dict):
                raise ValueError("not an object")
            if kind == "reported":
                return [Reported(device, body)]
            boot = body.get("boot")
            online = body.get("state") == "online"
            return [Presence(device, online, boot if isinstance(boot, int) else None, str(body.get("firmware", "")))]
        except (ValueError, RecursionError) as error:
            self.malformed += 1
            self.last_error = f"{topic}: {error}"
            return []


def samples(device: str, pack: Any) -> list[Sample]:
    """Resolve a SenML pack (RFC 8428, section 4.6). Raises ValueError naming the record that is wrong."""
    if not isinstance(pack, list):
        raise ValueError("a SenML pack is an array")
    base: dict[str, Any] = {"bn": "", "bt": 0, "bu": ""}
    found = []
    for at, record in enumerate(pack):
        if not isinstance(record, dict):
            raise ValueError(f"record {at} is not an object")
        base.update({key: record[key] for key in base if key in record})
        name = _text(record, "n", at)
        value = next((record[key] for key in ("v", "vs", "vb") if key in record), None)
        if not name and value is None and "q" not in record:
            continue  # a record of base fields alone
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"record {at}: {value} is no JSON number")
        if value is not None and not isinstance(value, (int, float, str, bool)):
            raise ValueError(f"record {at}: a value is a number, a text or true or false")
        quality = _text(record, "q", at) or "good"
        if quality != "good" and value == "":
            value = None  # SenML wants a value in each record; a unit that has none sends an empty text
        full = _text(base, "bn", at) + name
        seq = record.get("seq")
        found.append(
            Sample(
                device,
                full.removeprefix(f"{URN}{device}:"),
                value,
                _text(record, "u", at) or _text(base, "bu", at),
                _moment(
                    _number(base, "bt", at) + _number(record, "t", at),
                    timed="bt" in record or base["bt"] != 0,
                ),
                quality,
                seq if isinstance(seq, int) else None,
            )
        )
    return found


def _moment(total: float, *, timed: bool) -> float | None:
    if not timed and not total:
        return None
    return time.time() + total if total < _RELATIVE else total


def _text(record: dict[str, Any], key: str, at: int) -> str:
    value = record.get(key, "")
    if not isinstance(value, str):
        raise ValueError(f"record {at}: {key} is not a text")
    return value


def _number(record: dict[str, Any], key: str, at: int) -> float:
    value = record.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"record {at}: {key} is not a number")
    return value


def _count(row: dict[str, Any], key: str) -> int:
    value = row.get(key, 0)
    return value if isinstance(value, int) and value >= 0 else 0

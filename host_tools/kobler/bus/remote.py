"""A running coupler as the way to its buses: its methods, called through the broker."""

from __future__ import annotations

import json
import re
import secrets
import time
from typing import Any

from ..errors import KoblerError, UsageError
from ..mqtt_client import MqttClient
from . import pdu
from .errors import DeviceRefused, NoAnswer

_PRESENCE_S = 3.0
_ANSWER_S = 40.0  # the unit itself gives up after 30
_CONFLICT, _TOO_LATE = 409, 504


class MethodRefused(KoblerError):
    """The unit answered a call with another status than 200; the text is its own."""

    def __init__(self, device: str, status: int, text: str) -> None:
        super().__init__(f"coupler {device}: {text}")
        self.status, self.text = status, text


class Coupler:
    """A unit at a broker; takes the client over. `bus`: which of its buses, if it has several. A context manager."""

    def __init__(self, client: MqttClient, device: str, bus: str | None = None) -> None:
        self.device = device
        self._client, self._bus = client, bus
        self._presence: bytes | None = None
        self._answers: dict[str, tuple[int, bytes]] = {}

    def __enter__(self) -> Coupler:
        try:
            self._meet()
        except BaseException:
            self._client.close()
            raise
        return self

    def _meet(self) -> None:
        # Presence is retained: it comes at once, or nobody has ever heard of this unit.
        self._client.subscribe(f"kobler/{self.device}/presence", self._take)
        self._client.subscribe(f"kobler/{self.device}/result/#", self._take)
        deadline = time.monotonic() + _PRESENCE_S
        while self._presence is None and time.monotonic() < deadline:
            self._client.loop(0.25)
        if self._presence is None:
            raise KoblerError(f"the broker has never heard of a coupler {self.device}: check --device")
        if not _is_online(self._presence):
            raise KoblerError(f"the coupler {self.device} is offline: check its power and its network")

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def _take(self, topic: str, payload: bytes) -> None:
        parts = topic.split("/")
        if parts[1:] == [self.device, "presence"]:
            self._presence = payload
        elif len(parts) == 5 and parts[3].isdecimal():
            self._answers[parts[4]] = int(parts[3]), payload

    def call(self, method: str, /, **arguments: Any) -> dict[str, Any]:
        """What a method answers. MethodRefused with the unit's own words; KoblerError."""
        rid = secrets.token_hex(8)
        self._client.publish(f"kobler/{self.device}/method/{method}/{rid}", json.dumps(arguments).encode())
        deadline = time.monotonic() + _ANSWER_S
        while rid not in self._answers:
            if time.monotonic() > deadline:
                raise NoAnswer(f"the coupler {self.device} did not answer {method!r} within {_ANSWER_S:.0f} s")
            self._client.loop(0.25)
        status, payload = self._answers.pop(rid)
        self._answers.clear()  # others' calls, and answers too late for us
        try:
            answer = json.loads(payload)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise KoblerError(f"the coupler {self.device} answered {method!r} with what is no JSON object")
        if status != 200:
            raise MethodRefused(self.device, status, str(answer.get("error", f"status {status}")))
        return answer

    @property
    def bus(self) -> str:
        """The name of the bus that is meant. UsageError if that is not clear."""
        if self._bus is None:
            found = self.call("diagnose").get("bus")
            names = sorted(found) if isinstance(found, dict) else []
            if len(names) != 1:
                raise UsageError(f"the coupler {self.device} has the buses {', '.join(names) or '(none)'}: give --bus")
            self._bus = str(names[0])
        return self._bus

    def request(self, unit: int, request: bytes, timeout: float) -> bytes:
        """The PDU that answers; how long the device may take stands in the unit's configuration. BusFailure."""
        try:
            answer = self.call("request", bus=self.bus, unit=unit, pdu=request.hex())
            return bytes.fromhex(answer["pdu"])
        except MethodRefused as refused:
            # Its own words name the unit where a device had a part in it.
            text = str(refused) if refused.text.startswith("unit ") else f"{pdu.where(unit, request)}: {refused}"
            code = re.search(r": exception (\d+)", text)
            if refused.status == _CONFLICT and code:
                raise DeviceRefused(text, int(code[1])) from None
            if refused.status == _TOO_LATE:
                raise NoAnswer(text) from None
            raise KoblerError(text) from None
        except (KeyError, TypeError, ValueError):
            raise KoblerError(f"the coupler {self.device} answered with what is no Modbus answer") from None


def _is_online(payload: bytes) -> bool:
    try:
        return bool(json.loads(payload)["state"] == "online")
    except (ValueError, KeyError, TypeError):
        return False

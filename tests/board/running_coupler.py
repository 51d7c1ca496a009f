"""A running coupler, seen from outside, and someone who calls its methods."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kobler.cloud.watch import connect
from kobler.mqtt_client import Credentials
from kobler.pki import Authority
from leaks import key_in, leaks, private_number

Message = tuple[str, bytes]


class Coupler:
    """One running coupler, seen from outside: its USB port and its broker."""

    def __init__(self, state: Path, arguments: list[str]) -> None:
        self.state = state
        self.messages: list[Message] = []  # that were waited for,
        self.heard: list[Message] = []  # and all of them
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._ending = threading.Event()
        command = [sys.executable, "-m", "kobler", "up", "--json", "--state", str(state), *arguments]
        self._log = (state.parent / "up.log").open("w+")
        self._up = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._log)
        deadline = time.monotonic() + 120
        while not (state / "endpoint.json").exists():
            assert self._up.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.1)
        self.endpoint: dict[str, Any] = json.loads((state / "endpoint.json").read_text())
        self._thread = threading.Thread(target=self._observe, daemon=True)
        self._thread.start()

    @property
    def usb(self) -> str:
        return str(self.endpoint["usb"])

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()[-3000:]

    def _observe(self) -> None:
        issued = Authority.open(self.state / "pki").issue_client("hil")
        client = connect(self.endpoint["broker"], Credentials(issued.ca_pem, issued.cert_pem, issued.key_pem))
        client.subscribe("kobler/#", self._take)
        while not self._ending.is_set():
            client.loop(0.1)
        client.close()

    def _take(self, topic: str, payload: bytes) -> None:
        self.heard.append((topic, payload))
        self._inbox.put((topic, payload))

    def wait(self, wanted: Callable[[str, Any], bool], seconds: float = 30.0) -> Any:
        """The payload, decoded, of the next message that `wanted(last part of the topic, payload)` accepts."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                topic, payload = self._inbox.get(timeout=left)
            except queue.Empty:
                break
            self.messages.append((topic, payload))
            decoded = json.loads(payload) if payload else None
            if wanted(topic.rpartition("/")[2], decoded):
                return decoded
        raise AssertionError(f"it did not come within {seconds:.0f} s; log:\n{self.log()}")

    def mpremote(self, *arguments: str, seconds: float = 60) -> str:
        """The unmodified mpremote at the USB port."""
        done = subprocess.run(
            [sys.executable, "-m", "mpremote", "connect", self.usb, *arguments],
            capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def close(self) -> None:
        self._ending.set()
        self._thread.join(5)
        self._up.send_signal(signal.SIGTERM)
        try:
            self._up.wait(20)
        except subprocess.TimeoutExpired:
            self._up.kill()
            raise
        finally:
            log = self.log()
            self._log.close()
        self._assert_no_secret(log)

    def _assert_no_secret(self, log: str) -> None:
        # Whatever the tests made it send. On hardware there is no image to look the key up in.
        image = self.state / "board" / "virtual.bin"
        key = key_in(image) if image.exists() else None
        if key is not None:
            said = [log.encode(), *(topic.encode() + b" " + payload for topic, payload in self.heard)]
            assert leaks(private_number(key), said) == []


class Caller:
    """Someone who calls the methods of a running coupler."""

    def __init__(self, coupler: Coupler) -> None:
        self._coupler = coupler
        issued = Authority.open(coupler.state / "pki").issue_client("caller")
        self.device = str(coupler.endpoint["device"])
        self._results: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._client = connect(coupler.endpoint["broker"], Credentials(issued.ca_pem, issued.cert_pem, issued.key_pem))
        self._client.subscribe(f"kobler/{self.device}/result/#", lambda *message: self._results.put(message))
        self._number = 0

    def call(self, method: str, **arguments: Any) -> tuple[int, Any]:
        self._number += 1
        topic = f"kobler/{self.device}/method/{method}/{self._number}"
        self._client.publish(topic, json.dumps(arguments).encode())
        for _ in range(100):
            self._client.loop(0.25)
            while not self._results.empty():
                topic, payload = self._results.get()
                status, number = topic.split("/")[3:]
                if number == str(self._number):
                    return int(status), json.loads(payload)
        raise AssertionError(f"{method} was not answered; log:\n{self._coupler.log()}")

    def close(self) -> None:
        self._client.close()

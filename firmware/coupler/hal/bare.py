# A host without the chip's modules: clock, files and sockets are real, there is no UART, LED or watchdog to drive.

import json

from coupler.hal.base import Base


class Bare(Base):
    def __init__(self):
        super().__init__()
        self._numbers = None

    def unique_id(self):
        return b"\x02\x00\x00\x00\x00\x01"  # a locally administered address

    def flash(self):
        return None

    def get_number(self, name):
        return self._load().get(name)

    def put_number(self, name, value):
        self._load()[name] = value
        self.write_file("/numbers.json", json.dumps(self._numbers).encode())

    def _load(self):
        if self._numbers is None:
            self._numbers = json.loads(self.read_file("/numbers.json") or b"{}")
        return self._numbers

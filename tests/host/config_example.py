"""The contract's example of a configuration, and how the tests change and load it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kobler.config import Config, compile_config, load

# The example of the contract, word for word.
CONTRACT = """\
[device]
name = "ahu-roof"

[network]
kind = "ethernet"            # ethernet | wifi | modem
address = "dhcp"             # or "192.0.2.10/24", with gateway and dns
ntp = ["pool.ntp.org"]

[cloud]
enabled = false              # off by default; nothing is sent, nothing is connected
url = "wss://localhost:8443/mqtt"   # wss:// or mqtts://
dialect = "plain"            # plain | azure
ack = "broker"               # broker: PUBACK moves the cursor | store: the store's acknowledgement does

[[bus]]
name = "field"
kind = "rtu"                 # rtu | tcp
baudrate = 19200
parity = "even"              # even | odd | none
stop_bits = 1

[[bus.unit]]
id = 17
name = "meter"
timeout = "500ms"
# profile = "eastron-sdm630" # points from the library instead of, or besides, those below

[[bus.unit.point]]
name = "power"
table = "input"              # coil | discrete | input | holding
address = 52                 # protocol address, from 0
type = "float32"             # bool u16 i16 u32 i32 u64 i64 float32 float64 string(N) bits(FROM,COUNT)
order = "ABCD"               # ABCD | CDAB | BADC | DCBA
scale = 1.0
offset = 0.0
unit = "W"
poll = "1s"
report = { deadband = 5.0, min = "1s", max = "60s", aggregate = "last" }   # deadband absolute, or "2%"
history = true

[[bus.unit.point]]
name = "setpoint"
table = "holding"
address = 0
type = "i16"
scale = 0.1
unit = "Cel"
poll = "5s"
write = { min = 10.0, max = 30.0, verify = true, role = "operator" }
"""


class Site:
    """A configuration file in a test's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "site.toml"

    def __call__(self, text: str) -> Config:
        self.path.write_text(text, encoding="utf-8")
        return load(self.path)


def compiled(config: Config) -> dict[str, Any]:
    result = json.loads(compile_config(config))
    assert isinstance(result, dict)
    return result


def swap(old: str, new: str) -> str:
    assert old in CONTRACT
    return CONTRACT.replace(old, new, 1)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1

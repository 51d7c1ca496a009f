"""Who the interpreter says it is: version from the real one, machine from the board."""

import sys

import _chip

_CHIPS = {"esp32": "ESP32", "esp32s3": "ESP32S3"}

chip = _chip.getenv("KOBLER_CHIP") or "esp32"
machine = "Virtual Kobler board with " + _CHIPS[chip]
_numbers = sys.implementation.version
release = "%d.%d.%d" % tuple(_numbers[:3])
if len(_numbers) > 3 and _numbers[3]:
    release += "-" + _numbers[3]
_built = sys.version.split(" on ")[-1]
version = "v%s on %s" % (release, _built)
if sys.implementation.name == "micropython":
    banner = "MicroPython %s; %s" % (version, machine)
else:
    banner = "CPython %s; %s" % (sys.version.split()[0], machine)

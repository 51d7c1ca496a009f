"""The network interface: what a soft reset or a failed attempt left behind is no obstacle."""

import sys

from bus_fakes import Hal, run
from check import raises


class Chip:
    """Stands in for `machine` and `network` while the module is imported."""

    STA_IF = 0


_kept = {name: sys.modules.get(name) for name in ("machine", "network")}
for _name in _kept:
    sys.modules[_name] = Chip  # type: ignore[assignment]
from coupler.hal import interface  # noqa: E402

for _name, _module in _kept.items():
    if _module is None:
        del sys.modules[_name]
    else:
        sys.modules[_name] = _module

WIFI = {"kind": "wifi", "ssid": "plant", "password": "secret"}


class Wlan:
    """As on the chip: connect() fails while it is connected, or on the way, to another network."""

    def __init__(self, active=False, ssid=None, faults=0):
        self.on = active
        self.ssid = ssid
        self.faults = faults

    def active(self, value=None):
        if value is not None:
            self.on = value
        return self.on

    def connect(self, ssid, key):
        if self.ssid is not None or self.faults:
            self.faults -= 1
            raise OSError("Wifi Internal State Error")
        self.ssid = ssid

    def disconnect(self):
        self.ssid = None

    def isconnected(self):
        return self.ssid is not None


def make(wlan):
    Chip.WLAN = lambda kind: wlan
    return interface.Interface(WIFI, {})


def test_a_fresh_interface_connects():
    wlan = Wlan()
    assert run(make(wlan).up(Hal()))
    assert wlan.ssid == "plant"


def test_after_a_soft_reset_the_network_of_before_is_left():
    wlan = Wlan(active=True, ssid="workshop")
    assert run(make(wlan).up(Hal()))
    assert wlan.ssid == "plant"


def test_a_failed_attempt_is_made_again():
    wlan = Wlan(faults=1)
    net = make(wlan)
    raises(OSError, lambda: run(net.up(Hal())))
    assert run(net.up(Hal()))
    assert wlan.ssid == "plant"


def test_a_lost_network_is_the_chips_affair_and_connected_once():
    wlan = Wlan()
    net = make(wlan)
    assert run(net.up(Hal()))
    wlan.connect = None  # not called again
    assert run(net.up(Hal()))

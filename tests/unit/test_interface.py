"""The network interface: what a soft reset or a failed attempt left behind is no obstacle; and several of them."""

import sys

from bus_fakes import Hal, run
from check import raises


class Chip:
    """Stands in for `machine` and `network` while the module is imported."""

    STA_IF = 0


_kept = {name: sys.modules.get(name) for name in ("machine", "network")}
for _name in _kept:
    sys.modules[_name] = Chip  # type: ignore[assignment]
from coupler.hal import interface, interfaces  # noqa: E402

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
        self.there = True

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
        return self.ssid is not None and self.on and self.there

    def ifconfig(self):
        return "192.0.2.7", "255.255.255.0", "192.0.2.1", "192.0.2.1"

    def config(self, name):
        return b"\2\0\0\0\0\1"


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


class Lan:
    """there: whether a cable leads to a network."""

    def __init__(self, there=True):
        self.there = there
        self.on = False

    def active(self, value=None):
        if value is not None:
            assert value, "an Ethernet controller is never stopped"
            self.on = value
        return self.on

    def isconnected(self):
        return self.on and self.there

    def ifconfig(self):
        return "198.51.100.7", "255.255.255.0", "198.51.100.1", "198.51.100.53"

    def config(self, name):
        return b"\2\0\0\0\0\2"


class Site:
    """A board with both, asked every 5 s as the application does; Ethernet is preferred unless told otherwise."""

    def __init__(self, lan=True, after=30000, wifi_first=False):
        self.hal = Hal()
        self.lan = Lan(lan)
        self.wlan = Wlan()
        self.made = 0
        Chip.WLAN = self._make_wlan
        interface._lan = lambda wiring: self.lan
        nets = [{"kind": "ethernet"}, dict(WIFI)]
        if wifi_first:
            nets.reverse()
        nets[1]["after"] = after
        self.net = interfaces.Interfaces(dict(nets[0], fallback=[nets[1]]), {"ethernet": {"kind": "rmii"}})

    def _make_wlan(self, kind):
        self.made += 1
        return self.wlan

    def ask(self):
        """Which one is in use, None while it has no address."""
        began = self.hal.us
        up = run(self.net.up(self.hal))
        assert self.hal.us - began < 35000000
        self.hal.us += 5000000
        return self.net.info()["kind"] if up else None

    def seconds_until(self, kind):
        began = self.hal.us
        while self.ask() != kind:
            assert self.hal.us - began < 600000000
        return (self.hal.us - began) // 1000000


def test_a_fallback_is_not_touched_while_the_preferred_one_is_up():
    site = Site()
    for _ in range(100):
        assert site.ask() == "ethernet"
    assert site.made == 0, "no memory for what is not needed"


def test_a_fallback_is_taken_after_its_time_and_left_after_as_long():
    for lan in (True, False):
        site = Site(lan)
        assert site.ask() == ("ethernet" if lan else None)
        site.lan.there = False
        assert 15 <= site.seconds_until("wifi") <= 60
        assert site.net.info()["dns"] == ["192.0.2.1"], "of the interface in use"
        for _ in range(100):
            assert site.ask() == "wifi"
        site.lan.there = True
        assert 30 <= site.seconds_until("ethernet") <= 45
        assert not site.wlan.on, "what is not used is off"
        assert site.net.info()["dns"] == ["198.51.100.53"]


def test_a_short_loss_changes_nothing():
    site = Site()
    for _ in range(20):
        site.ask()
        site.lan.there = False
        assert site.ask() is None
        site.lan.there = True
        assert site.ask() == "ethernet"
    assert site.made == 0


def test_a_preferred_one_that_comes_and_goes_is_left_alone_until_it_stays():
    site = Site(lan=False)
    site.seconds_until("wifi")
    for i in range(60):
        site.lan.there = i % 5 != 0
        assert site.ask() == "wifi"
    site.lan.there = True
    assert site.seconds_until("ethernet") <= 45


def test_when_the_fallback_is_lost_the_preferred_one_is_taken_at_once():
    site = Site(lan=False)
    site.seconds_until("wifi")
    site.wlan.there = False
    assert site.ask() is None
    site.lan.there = True
    assert site.ask() == "ethernet" and not site.wlan.on
    site.lan.there = False
    site.wlan.there = True
    site.wlan.ssid = None
    assert site.seconds_until("wifi") <= 60, "and back again"


def test_while_all_are_down_each_is_still_looked_for():
    for first in (True, False):
        site = Site(lan=False)
        site.wlan.there = False
        for _ in range(30):
            assert site.ask() is None
        (site.lan if first else site.wlan).there = True
        assert site.seconds_until("ethernet" if first else "wifi") <= 20


def test_a_driver_that_fails_lets_the_others_have_their_turn():
    site = Site(wifi_first=True)
    site.wlan.faults = 1000
    assert site.seconds_until("ethernet") <= 60
    assert site.lan.on


def test_a_controller_that_does_not_answer_lets_the_others_have_their_turn():
    site = Site()

    def dead(wiring):
        raise OSError("no PHY")

    interface._lan = dead
    site.net = interfaces.Interfaces(dict(kind="ethernet", fallback=[dict(WIFI, after=30000)]), {"ethernet": {}})
    assert site.seconds_until("wifi") <= 60


def test_an_address_for_neighbours_only_is_none():
    site = Site()
    site.ask()
    assert "ip6" not in site.net.info(), "the chip's images do not tell"
    for addresses, found in (
        ([], None),
        ([("FE80::1", 1, 0, 0)], None),
        ([("fe80::1", 1, 0, 0), ("2001:db8::7", 1, 0, 0)], "2001:db8::7"),
        ([("fd00::7", 1, 0, 0)], "fd00::7"),
    ):
        site.lan.ipconfig = lambda key, addresses=addresses: addresses
        assert site.net.info().get("ip6") == found

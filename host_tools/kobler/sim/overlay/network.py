"""Stands in for `network`: interfaces that come up as the chip's do, over the machine's own sockets."""

import _chip
from _interfaces import Interface, dns_servers

STA_IF = 0
AP_IF = 1
MODE_11B, MODE_11G, MODE_11N, MODE_LR = 1, 2, 4, 8
AUTH_OPEN, AUTH_WEP, AUTH_WPA_PSK, AUTH_WPA2_PSK, AUTH_WPA_WPA2_PSK, AUTH_WPA2_ENTERPRISE = 0, 1, 2, 3, 4, 5
AUTH_WPA3_PSK, AUTH_WPA2_WPA3_PSK, AUTH_WAPI_PSK, AUTH_OWE, AUTH_WPA3_ENT_192 = 6, 7, 8, 9, 10
AUTH_WPA3_EXT_PSK, AUTH_WPA3_EXT_PSK_MIXED_MODE, AUTH_MAX = 11, 12, 13
STAT_IDLE, STAT_CONNECTING, STAT_GOT_IP = 1000, 1001, 1010
STAT_BEACON_TIMEOUT, STAT_NO_AP_FOUND, STAT_WRONG_PASSWORD, STAT_ASSOC_FAIL = 200, 201, 202, 203
STAT_HANDSHAKE_TIMEOUT, STAT_NO_AP_FOUND_W_COMPATIBLE_SECURITY = 204, 210
STAT_NO_AP_FOUND_IN_AUTHMODE_THRESHOLD, STAT_NO_AP_FOUND_IN_RSSI_THRESHOLD = 211, 212
ETH_INITIALIZED, ETH_STARTED, ETH_STOPPED, ETH_CONNECTED, ETH_DISCONNECTED, ETH_GOT_IP = 0, 1, 2, 3, 4, 5
PHY_LAN8710, PHY_LAN8720, PHY_IP101, PHY_RTL8201, PHY_DP83848, PHY_KSZ8041, PHY_KSZ8081 = 0, 1, 2, 3, 4, 5, 6
PHY_KSZ8851SNL, PHY_DM9051, PHY_W5500 = 100, 101, 102

_ASSOCIATE_US = 250000
_DHCP_US = 150000
_ETHERNET_US = 80000  # the PHY's link; a real one takes its time for autonegotiation

_hostname = "mpy-esp32"
_country = "XX"
_phy_mode = MODE_11B | MODE_11G | MODE_11N
_lan = None
_wlans = {}


class _Lan(Interface):
    """What network.LAN() returns."""

    def __init__(self):
        Interface.__init__(self, 3)
        self._status = ETH_INITIALIZED
        self._pending = None

    def active(self, value=None):
        if value is None:
            return self._status not in (ETH_INITIALIZED, ETH_STOPPED)
        if value and not self.active():
            self._status = ETH_STARTED
            self._pending = _chip.at(_chip.now() + _ETHERNET_US, self._connected)
        elif not value and self.active():
            self._cancel()
            self._status = ETH_STOPPED
        return self.active()

    def _connected(self, _):
        self._status = ETH_CONNECTED
        self._pending = _chip.at(_chip.now() + (0 if self._static else _DHCP_US), self._leased)

    def _leased(self, _):
        self._pending = None
        self._status = ETH_GOT_IP

    def status(self, parameter=None):
        if parameter is not None:
            raise ValueError("unknown config param")
        _chip.poll()
        if self._id in _chip.unplugged:
            if self._status in (ETH_STARTED, ETH_CONNECTED, ETH_GOT_IP):
                self._cancel()
                self._status = ETH_DISCONNECTED
        elif self._status == ETH_DISCONNECTED:
            self._status = ETH_STARTED
            self._pending = _chip.at(_chip.now() + _ETHERNET_US, self._connected)
        return self._status

    def isconnected(self):
        return self.status() == ETH_GOT_IP

    def config(self, *args, **values):
        return self._config(args, values, ("mac",), ("mac",))


def LAN(id=0, *, phy_addr, phy_type, **wiring):
    """One Ethernet interface; the first call wires it, later ones return it."""
    global _lan
    if _lan is not None:
        return _lan
    for name in wiring:
        if name not in ("mdc", "mdio", "reset", "power", "spi", "cs", "int", "ref_clk_mode", "ref_clk"):
            raise TypeError("extra keyword arguments given")
    if id != 0:
        raise ValueError("invalid interface identifier")
    if not 0 <= phy_addr <= 31:
        raise ValueError("invalid phy address")
    if phy_type >= PHY_KSZ8851SNL:
        if wiring.get("spi") is None:
            raise ValueError("spi must be specified")
        if wiring.get("cs") is None or wiring.get("int") is None:
            raise ValueError("cs and int must be specified")
        if phy_type not in (PHY_KSZ8851SNL, PHY_DM9051, PHY_W5500):
            raise ValueError("invalid phy type")
    else:
        if not 0 <= phy_type <= PHY_KSZ8081:
            raise ValueError("invalid phy type")
        if wiring.get("mdc") is None or wiring.get("mdio") is None:
            raise ValueError("mdc and mdio must be specified")
    if wiring.get("power") is not None:
        wiring["power"].init(wiring["power"].OUT, value=1)
    _lan = _Lan()
    return _lan


class WLAN(Interface):
    IF_STA = 0
    IF_AP = 1
    PM_NONE, PM_PERFORMANCE, PM_POWERSAVE = 0, 1, 2
    SEC_OPEN, SEC_WEP, SEC_WPA, SEC_WPA2, SEC_WPA_WPA2, SEC_WPA2_ENT = 0, 1, 2, 3, 4, 5
    SEC_WPA3, SEC_WPA2_WPA3, SEC_WAPI, SEC_OWE = 6, 7, 8, 9

    def __new__(cls, interface_id=STA_IF):
        if interface_id not in (STA_IF, AP_IF):
            raise ValueError("invalid interface identifier")
        return _wlans.get(interface_id) or object.__new__(cls)

    def __init__(self, interface_id=STA_IF):
        if interface_id in _wlans:
            return
        _wlans[interface_id] = self
        Interface.__init__(self, interface_id)
        self._active = False
        self._status = STAT_IDLE
        self._pending = None
        self._values.update(ssid="", essid="", channel=1, hidden=False, security=0, authmode=0, reconnects=-1)
        self._values.update(key="", password="", txpower=20, protocol=7, pm=WLAN.PM_PERFORMANCE)

    def active(self, value=None):
        if value is not None:
            if not value:
                self._cancel()
                self._status = STAT_IDLE
            self._active = bool(value)
        return self._active

    def connect(self, ssid=None, key=None, *, bssid=None):
        if not self._active:
            raise OSError("Wifi Not Started")
        if ssid is not None:
            self._config((), {"ssid": ssid if isinstance(ssid, str) else str(ssid, "utf8")}, (), ("ssid",))
        self._connect()

    def _connect(self):
        self._cancel()
        self._status = STAT_CONNECTING
        wait = _ASSOCIATE_US + (0 if self._static else _DHCP_US)
        self._pending = _chip.at(_chip.now() + wait, self._got_ip)

    def _got_ip(self, _):
        self._pending = None
        self._status = STAT_GOT_IP

    def disconnect(self):
        if not self._active:
            raise OSError("Wifi Not Started")
        self._cancel()
        self._status = STAT_IDLE

    def _look(self):
        # The chip goes on trying by itself when its access point is gone.
        _chip.poll()
        if self._id in _chip.unplugged:
            if self._status in (STAT_CONNECTING, STAT_GOT_IP):
                self._cancel()
                self._status = STAT_NO_AP_FOUND
        elif self._status == STAT_NO_AP_FOUND:
            self._connect()

    def isconnected(self):
        self._look()
        return self._status == STAT_GOT_IP if self._id == STA_IF else False

    def status(self, parameter=None):
        self._look()
        if parameter == "rssi":
            return -55
        if parameter == "stations" and self._id == AP_IF:
            return []
        if parameter is not None:
            raise ValueError("unknown status param")
        return self._status if self._id == STA_IF else None

    def scan(self):
        if not self._active:
            raise OSError("STA must be active")
        _chip.sleep_us(1500000)
        return []

    def config(self, *args, **values):
        return self._config(args, values, tuple(self._values), tuple(self._values))


def country(code=None):
    global _country
    if code is None:
        return _country
    if len(code) != 2:
        raise ValueError
    _country = code


def hostname(name=None):
    global _hostname
    if name is None:
        return _hostname
    if len(name) > 32:
        raise ValueError
    _hostname = name


def phy_mode(mode=None):
    global _phy_mode
    if mode is None:
        return _phy_mode
    _phy_mode = mode


def ipconfig(*args, **values):
    """Settings of all interfaces: dns, prefer."""
    if args and values:
        raise TypeError("either pos or kw args are allowed")
    if args:
        if args[0] == "dns":
            return dns_servers[0]
        if args[0] == "prefer":
            return 4
        raise ValueError("unknown config param")
    for name in values:
        if name == "dns":
            dns_servers[0] = values[name]
        elif name != "prefer":
            raise ValueError("unknown config param")

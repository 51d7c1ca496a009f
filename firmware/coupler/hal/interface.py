# A network interface that the configuration names, on the pins of the board's file: Ethernet (RMII or SPI) or Wi-Fi.
# The stubs know little of network.LAN:
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

import machine
import network

from coupler.const import const

_WAIT_MS = const(15000)
_STEP_MS = const(100)


def _pin(wiring, name):
    number = wiring.get(name)
    return None if number is None else machine.Pin(number)


class Interface:
    """net: the configuration's part; board: board.json. ValueError if the board has no such interface."""

    def __init__(self, net, board):
        self._net = net
        self._ready = False
        if net["kind"] == "ethernet":
            wiring = board.get("ethernet")
            if not wiring:
                raise ValueError("net.kind: this board has no ethernet")
            self._nic = _lan(wiring)
        elif net["kind"] == "wifi":
            self._nic = network.WLAN(network.STA_IF)
        else:
            raise ValueError("net.kind: %r is not ethernet or wifi" % net["kind"])

    async def up(self, hal, wait_ms=_WAIT_MS):
        """True when there is an address, False if not within wait_ms: the interface goes on trying, ask again."""
        nic = self._nic
        if not self._ready:
            # It may be active already: a soft reset leaves it so, with the network of before, and so does a failed try.
            if not nic.active():
                nic.active(True)
            elif self._net["kind"] == "wifi":
                nic.disconnect()
            address = self._net.get("address", "dhcp")
            if address != "dhcp":
                dns = address.get("dns") or ["0.0.0.0"]
                gateway = address.get("gateway") or "0.0.0.0"
                nic.ifconfig((address["ip"], address["mask"], gateway, dns[0]))
            if self._net["kind"] == "wifi":
                nic.connect(self._net["ssid"], self._net.get("password"))
            self._ready = True
        waited = 0
        while not nic.isconnected():
            if waited >= wait_ms:
                return False
            await hal.sleep_ms(_STEP_MS)
            waited += _STEP_MS
        return True

    def connected(self):
        """Whether it has an address at this moment."""
        return self._ready and self._nic.isconnected()

    def down(self):
        """Another one is used. An Ethernet controller stays as it is: not every one comes back without a reset."""
        if self._net["kind"] == "wifi":
            self._nic.active(False)

    def info(self):
        nic = self._nic
        ip, mask, gateway, dns = nic.ifconfig()
        address = self._net.get("address", "dhcp")
        servers = [dns] if address == "dhcp" else address.get("dns") or []
        answer = {
            "kind": self._net["kind"],
            "ip": ip,
            "mask": mask,
            "gateway": gateway,
            "dns": [server for server in servers if server and server != "0.0.0.0"],
            "mac": ":".join(["%02x" % byte for byte in nic.config("mac")]),
        }
        ip6 = _ip6(nic)
        if ip6:
            answer["ip6"] = ip6[0]
        return answer


def _ip6(nic):
    # The addresses that others than neighbours can answer to. ESP32 images know no such key, and get none.
    try:
        found = [address[0] for address in nic.ipconfig("addr6")]
    except (AttributeError, ValueError):
        return ()
    return [ip for ip in found if ip[:3].lower() not in ("fe8", "fe9", "fea", "feb")]


def _lan(wiring):
    options = {}
    if wiring["kind"] == "spi":
        options["spi"] = machine.SPI(
            wiring["spi"], sck=_pin(wiring, "sck"), mosi=_pin(wiring, "mosi"), miso=_pin(wiring, "miso")
        )
        names = ("cs", "int", "reset", "power")
    else:
        options["ref_clk_mode"] = machine.Pin.OUT if wiring["clk_mode"] == "out" else machine.Pin.IN
        options["ref_clk"] = _pin(wiring, "clk")
        names = ("mdc", "mdio", "reset", "power")
    for name in names:
        pin = _pin(wiring, name)
        if pin is not None:
            options[name] = pin
    phy = getattr(network, "PHY_" + wiring["phy"])
    lan = getattr(network, "LAN")  # the stubs know neither its arguments nor its methods
    return lan(phy_type=phy, phy_addr=wiring.get("addr", 0), **options)

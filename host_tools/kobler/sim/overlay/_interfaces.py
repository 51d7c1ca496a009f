"""What all network interfaces of the virtual board share: addresses, name servers, settings."""

import _chip

dns_servers = (_chip.getenv("KOBLER_DNS") or "127.0.0.1").split(",")
_mac = bytes.fromhex(_chip.getenv("KOBLER_MAC") or "02000000c0b1")


class Interface:
    def __init__(self, mac_offset):
        self._id = mac_offset
        self._static = None
        self._values = {"mac": _mac[:5] + bytes([_mac[5] + mac_offset & 0xFF])}

    def _cancel(self):
        if self._pending is not None:
            _chip.cancel(self._pending)
            self._pending = None

    def _address(self):
        if not self.isconnected():
            return ("0.0.0.0", "0.0.0.0", "0.0.0.0")
        return self._static or ("127.0.0.1", "255.0.0.0", "127.0.0.1")

    def ifconfig(self, value=None):
        """(address, netmask, gateway, name server)"""
        if value is None:
            return self._address() + (dns_servers[0],)
        if value == "dhcp":
            self._static = None
        elif len(value) == 4:
            self._static = tuple(value[:3])
            dns_servers[0] = value[3]
        else:
            raise ValueError("requested length 4 but object has length %d" % len(value))

    def ipconfig(self, *args, **values):
        if args and values:
            raise TypeError("either pos or kw args are allowed")
        if args:
            if len(args) > 1:
                raise TypeError("function expected at most 1 arguments, got %d" % len(args))
            address, mask, gateway = self._address()
            answers = {
                "dhcp4": self._static is None,
                "has_dhcp4": self._static is None and self.isconnected(),
                "addr4": (address, mask),
                "gw4": gateway,
                "autoconf6": False,
                "addr6": [],
            }
            if args[0] not in answers:
                raise ValueError("unknown config param")
            return answers[args[0]]
        for name in values:
            value = values[name]
            old = self._static or ("0.0.0.0", "255.255.255.0", "0.0.0.0")
            if name == "dhcp4":
                self._static = None if value else old
            elif name == "addr4":
                if isinstance(value, str):
                    value = (value.split("/")[0], _mask(value))
                self._static = (value[0], value[1], old[2])
            elif name == "gw4":
                self._static = (old[0], old[1], value)
            elif name != "autoconf6":
                raise ValueError("unknown config param")

    def _config(self, args, values, readable, writable):
        if args and values:
            raise TypeError("either pos or kw args are allowed")
        if args:
            if len(args) != 1:
                raise TypeError("can query only one param")
            if args[0] not in readable:
                raise ValueError("unknown config param")
            return self._values[args[0]]
        for name in values:
            if name not in writable:
                raise ValueError("unknown config param")
            self._values[name] = values[name]
            for one, other in (("ssid", "essid"), ("key", "password"), ("security", "authmode")):
                if name in (one, other) and one in self._values:
                    self._values[one] = self._values[other] = values[name]


def _mask(text):
    bits = int(text.split("/")[1]) if "/" in text else 24
    mask = (0xFFFFFFFF << 32 - bits) & 0xFFFFFFFF
    return "%d.%d.%d.%d" % (mask >> 24, mask >> 16 & 255, mask >> 8 & 255, mask & 255)

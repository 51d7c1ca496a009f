from coupler.const import const

# Kinds of failure, in the order of Client.stats["errors"].
KINDS = ("timeout", "crc", "exception", "frame")

_NAMES = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target did not respond",
}

ILLEGAL_FUNCTION = const(1)
ILLEGAL_ADDRESS = const(2)
ILLEGAL_VALUE = const(3)


class BusError(Exception):
    """A transaction that gave no value: kind is timeout, crc, exception (then code is Modbus's) or frame."""

    def __init__(self, kind, unit, fc, address, count, code=0):
        self.kind = kind
        self.unit = unit
        self.fc = fc
        self.address = address
        self.count = count
        self.code = code

    @property
    def quality(self):
        return "exception:%d" % self.code if self.kind == "exception" else self.kind

    def __str__(self):
        what = self.kind
        if what == "exception":
            what = "exception %d (%s)" % (self.code, _NAMES.get(self.code, "unknown"))
        return "unit %d, function %d, address %d, count %d: %s" % (
            self.unit,
            self.fc,
            self.address,
            self.count,
            what,
        )

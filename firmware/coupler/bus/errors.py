# Kinds of failure, in the order of Client.stats["errors"].
KINDS = ("timeout", "crc", "exception", "frame")

# By exception code.
_NAMES = (
    "unknown",
    "illegal function",
    "illegal data address",
    "illegal data value",
    "device failure",
    "acknowledge",
    "device busy",
    "unknown",
    "memory parity error",
    "unknown",
    "gateway path unavailable",
    "gateway target did not respond",
)


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
            name = _NAMES[self.code] if self.code < len(_NAMES) else "unknown"
            what = "exception %d (%s)" % (self.code, name)
        where = (self.unit, self.fc, self.address, self.count, what)
        return "unit %d, function %d, address %d, count %d: %s" % where

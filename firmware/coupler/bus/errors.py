# Kinds of failure, in the order of a client's stats["errors"].
KINDS = ("timeout", "crc", "exception", "frame", "link")


class BusError(Exception):
    """A transaction that gave no value: kind is timeout, crc, exception (then code is Modbus's), frame or link."""

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
        from coupler.bus.words import words  # for a person: not while polling

        return words(self)

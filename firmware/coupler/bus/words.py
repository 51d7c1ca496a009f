# A BusError for people.

_EXCEPTIONS = {
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


def words(error):
    what = error.kind
    if what == "exception":
        what = "exception %d (%s)" % (error.code, _EXCEPTIONS.get(error.code, "unknown"))
    where = (error.unit, error.fc, error.address, error.count, what)
    return "unit %d, function %d, address %d, count %d: %s" % where

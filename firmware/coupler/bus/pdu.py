# Modbus PDUs for reading (Modbus Application Protocol V1.1b3, sections 6.1 to 6.4), without any transport: what polling
# needs. All other functions are in request.py.

from coupler.const import const

_READ_DISCRETE = const(2)
_READ_INPUT = const(4)
_MAX_BITS = const(2000)
_MAX_REGISTERS = const(125)


def most(fc):
    """How many bits or registers one request with this function may ask for; ValueError for another function."""
    if not 1 <= fc <= _READ_INPUT:
        raise ValueError("function %s: 1, 2, 3 or 4" % fc)
    return _MAX_BITS if fc <= _READ_DISCRETE else _MAX_REGISTERS


def byte_count(fc, count):
    """Bytes of data in the answer."""
    return (count + 7) // 8 if fc <= _READ_DISCRETE else 2 * count


def check(fc, address, count):
    """byte_count() of a request; ValueError unless a server may be asked it."""
    if not 1 <= count <= most(fc):
        raise ValueError("count %d: 1 to %d with function %d" % (count, most(fc), fc))
    if not 0 <= address <= 65536 - count:
        raise ValueError("address %d, count %d: beyond 65535" % (address, count))
    return (count + 7) // 8 if fc <= _READ_DISCRETE else 2 * count

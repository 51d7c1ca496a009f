# Modbus PDUs for reading (Modbus Application Protocol V1.1b3, sections 6.1 to 6.4 and 7), without any transport.

from coupler.const import const

READ_COILS = const(1)
READ_DISCRETE = const(2)
READ_HOLDING = const(3)
READ_INPUT = const(4)

REQUEST_SIZE = const(5)
_EXCEPTION_SIZE = const(2)
_MAX_BITS = const(2000)
_MAX_REGISTERS = const(125)


def most(fc):
    """How many bits or registers one request with this function may ask for; ValueError for another function."""
    if fc == READ_HOLDING or fc == READ_INPUT:
        return _MAX_REGISTERS
    if fc == READ_COILS or fc == READ_DISCRETE:
        return _MAX_BITS
    raise ValueError("function %s: 1, 2, 3 or 4" % fc)


def byte_count(fc, count):
    """Bytes of data in the answer."""
    return (count + 7) // 8 if fc <= READ_DISCRETE else 2 * count


def check(fc, address, count):
    """ValueError unless it is a request a server may be asked."""
    if not 1 <= count <= most(fc):
        raise ValueError("count %d: 1 to %d with function %d" % (count, most(fc), fc))
    if not 0 <= address <= 65536 - count:
        raise ValueError("address %d, count %d: beyond 65535" % (address, count))


def put_read(buf, at, fc, address, count):
    """Write the request's PDU into buf from `at`; returns its end."""
    buf[at] = fc
    buf[at + 1] = address >> 8
    buf[at + 2] = address & 255
    buf[at + 3] = count >> 8
    buf[at + 4] = count & 255
    return at + REQUEST_SIZE


def answer_size(buf, at, end, fc, size):
    """Length of the answer's PDU that begins at buf[at], read as an answer to function `fc` with `size` data bytes.

    0 while buf[:end] holds too little to tell, -1 if it is no such answer: another function, another byte count.
    """
    if at >= end:
        return 0
    if buf[at] == fc:
        if at + 1 >= end:
            return 0
        return size + 2 if buf[at + 1] == size else -1
    return _EXCEPTION_SIZE if buf[at] == fc | 0x80 else -1

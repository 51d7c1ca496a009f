# Any Modbus request and what answers it (Modbus Application Protocol V1.1b3, sections 6 and 7), without any transport.
# Loaded with the first request that is not a read of the poller.

from coupler.bus import pdu as reads
from coupler.const import const

_COIL = const(5)
_REGISTER = const(6)
_COILS = const(15)
_REGISTERS = const(16)
_MASK = const(22)
_BOTH = const(23)
_IDENTIFY = const(43)
_MEI = const(14)
_ONE_OBJECT = const(4)
_MOST_COILS = const(1968)
_MOST_REGISTERS = const(123)
_MOST_BOTH = const(121)
_LONGEST = const(253)

WRITES = (_COIL, _REGISTER, _COILS, _REGISTERS, _MASK)  # which may be broadcast

# By function: bytes of the request, without the values whose number its last byte tells; then bytes that its answer
# begins with too. 1: only the function, then a byte count follows.
_SIZES = {
    1: (5, 1), 2: (5, 1), 3: (5, 1), 4: (5, 1), _COIL: (5, 5), _REGISTER: (5, 5), _COILS: (6, 5), _REGISTERS: (6, 5),
    _MASK: (7, 7), _BOTH: (10, 1), _IDENTIFY: (4, 3),
}  # fmt: skip


def _word(pdu, at):
    return pdu[at] << 8 | pdu[at + 1]


def _check_write(pdu, at, most):
    # Address, number and byte count of what is written.
    fc = pdu[0]
    address = _word(pdu, at)
    count = _word(pdu, at + 2)
    if not 1 <= count <= most:
        raise ValueError("count %d: 1 to %d with function %d" % (count, most, fc))
    if address + count > 65536:
        raise ValueError("address %d, count %d: beyond 65535" % (address, count))
    size = (count + 7) // 8 if fc == _COILS else 2 * count
    if pdu[at + 4] != size:
        raise ValueError("function %d: byte count %d, count %d needs %d" % (fc, pdu[at + 4], count, size))


def check_request(pdu):
    """ValueError, which says why, unless it is a request a server may be asked; FC 43 with MEI type 14 only."""
    length = len(pdu)
    fc = pdu[0] if length else 0
    if fc not in _SIZES:
        raise ValueError("function %d: 1 to 6, 15, 16, 22, 23 or 43" % fc)
    size = _SIZES[fc][0]
    if length >= size and fc in (_COILS, _REGISTERS, _BOTH):
        size += pdu[size - 1]
    if length != size:
        raise ValueError("function %d: %d bytes instead of %d" % (fc, length, size))
    if fc <= 4:
        reads.check(fc, _word(pdu, 1), _word(pdu, 3))
    elif fc == _COIL:
        if _word(pdu, 3) not in (0, 0xFF00):
            raise ValueError("function 5: value %04X, FF00 or 0000" % _word(pdu, 3))
    elif fc == _COILS:
        _check_write(pdu, 1, _MOST_COILS)
    elif fc == _REGISTERS:
        _check_write(pdu, 1, _MOST_REGISTERS)
    elif fc == _BOTH:
        reads.check(3, _word(pdu, 1), _word(pdu, 3))
        _check_write(pdu, 5, _MOST_BOTH)
    elif fc == _IDENTIFY and (pdu[1] != _MEI or not 1 <= pdu[2] <= _ONE_OBJECT):
        raise ValueError("function 43: type %d, code %d, 14 and 1 to 4" % (pdu[1], pdu[2]))


def answer(request):
    """(what the PDU of its answer begins with, how long that is; 0 with FC 43: see objects_size)."""
    fc = request[0]
    same = _SIZES[fc][1]
    if same == 1:
        size = reads.byte_count(fc, _word(request, 3))
        return bytes((fc, size)), size + 2
    return bytes(request[:same]), same if fc != _IDENTIFY else 0


def probe(write):
    """A read of the coil or register that this request writes."""
    return bytes((1 if write[0] == _COIL else 3, write[1], write[2], 0, 1))


def objects_size(buf, at, end):
    """Length of the answer to FC 43 at buf[at]: 0 too little to tell, -1 it is none."""
    if end - at < 7:
        return 0
    if buf[at + 4] not in (0, 255):  # more follows
        return -1
    i = at + 7
    last = -1
    for _ in range(buf[at + 6]):
        if i + 2 > end:
            return 0
        if buf[i] <= last:
            return -1
        last = buf[i]
        i += 2 + buf[i + 1]
        if i - at > _LONGEST:
            return -1
    return i - at


def answer_size(request, buf, at, end):
    """Length of the PDU at buf[at] that answers `request`: 0 too little to tell, -1 it is no such answer."""
    have = end - at
    if have <= 0:
        return 0
    head, size = answer(request)
    if buf[at] == head[0] | 0x80:
        return 2
    n = min(have, len(head))
    if bytes(buf[at : at + n]) != head[:n]:
        return -1
    if n < len(head):
        return 0
    if size:
        return size
    size = objects_size(buf, at, end)
    if size > 0 and request[2] == _ONE_OBJECT and (buf[at + 6] != 1 or buf[at + 7] != request[3]):
        return -1
    return size

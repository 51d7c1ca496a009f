# What may be written, and the Modbus request that does it (Modbus Application Protocol V1.1b3, sections 6.5, 6.6, 6.11,
# 6.12, 6.16, 6.17). Imported when something is to be written only.
#
# - A point is written as a whole, by one request, and only if its row says that it is writable.
# - Its value is within its limits, before and after it is rounded to what the registers can hold.
# - Bits are written by function 22, which leaves the others of the register to the device. Points of a whole register
#   never need it.

import struct

from coupler.const import const
from coupler.points.encode import encode, mask, outside, shown
from coupler.points.kinds import width

_COIL = const(5)
_REGISTER = const(6)
_COILS = const(15)
_REGISTERS = const(16)
_MASK = const(22)
_READ_WRITE = const(23)
_ALL = const(0xFFFF)
_ORDER = const(1)  # in a point's form


def plan_write(point, block, value, multi=False):
    """The PDU (bytes) that writes `value` to a point of `block`; ValueError, with its name, if it may not be written.

    multi: the unit takes single registers, too, by function 16 only."""
    if point.wr is None:
        raise ValueError("%s is not writable" % point.name)
    try:
        data = encode(point, value)
        if not isinstance(value, str):
            _check(point, value, False)
        _check_data(point, data, -point.at)
    except ValueError as error:
        raise ValueError("%s: %s" % (point.name, error))
    address = block["a"] + point.at
    if point.form[_ORDER] is None:
        return struct.pack(">BH", _COIL, address) + data
    keep = mask(point) ^ _ALL
    if keep:
        return struct.pack(">BHH", _MASK, address, keep) + data
    if len(data) == 2 and not multi:
        return struct.pack(">BH", _REGISTER, address) + data
    return struct.pack(">BHHB", _REGISTERS, address, len(data) // 2, len(data)) + data


def read_back(pdu):
    """(function, address, count) that reads what a PDU of plan_write() writes."""
    fc, address, count = struct.unpack_from(">BHH", pdu)
    return 1 if fc == _COIL else 3, address, count if fc == _REGISTERS else 1


def holds(pdu, data):
    """Whether what read_back() asked for, the answer's data, is what the PDU wrote."""
    fc = pdu[0]
    if fc == _COIL:
        return bool(data[0] & 1) == bool(pdu[3])
    if fc == _MASK:
        _, _, keep, bits = struct.unpack(">BHHH", pdu)
        return (data[0] << 8 | data[1]) | keep == bits | keep
    return bytes(data) == pdu[6 if fc == _REGISTERS else 3 :]


def check_raw(unit, fc, address, data):
    """LookupError or ValueError unless a foreign request writes nothing but writable points of the unit (its
    configuration), each as a whole and within its limits: these it gives back. Points that are not writable may be
    views of the same ones.

    data: what follows the address in the PDU; with function 23 what follows the address of what is written."""
    touched, data = _written(fc, data)
    left = list(touched)
    points = []
    for block in unit["blocks"]:
        if block["fc"] == (1 if fc in (_COIL, _COILS) else 3):
            for point in block["p"]:
                first = block["a"] + point.at - address
                if point.wr is not None and first < len(left) and first + width(point) > 0:
                    if _claim(point, first, touched, left, data):
                        points.append(point)
    for i, bits in enumerate(left):
        if bits:
            what = "coil" if fc in (_COIL, _COILS) else "bits %04x of register" % bits if bits != _ALL else "register"
            raise LookupError("%s %d belongs to no writable point" % (what, address + i))
    return points


def _written(fc, data):
    # ([the bits written of each register, or 1 for a coil], data as an answer that reads them back would hold them).
    n = len(data)
    if fc == _COIL and n == 2 and data[0] in (0, 255) and not data[1]:
        return [1], bytes((data[0] & 1,))
    if fc == _REGISTER and n == 2:
        return [_ALL], data
    if fc == _MASK and n == 4:
        bits = (data[0] << 8 | data[1]) ^ _ALL
        if bits:
            return [bits], data[2:]
        raise ValueError("this function 22 changes no bit")
    if fc in (_COILS, _REGISTERS, _READ_WRITE) and n > 3:
        count = data[0] << 8 | data[1]
        size = (count + 7) // 8 if fc == _COILS else 2 * count
        if n == 3 + size and data[2] == size:
            return [1 if fc == _COILS else _ALL] * count, data[3:]
    raise ValueError("function %d with these data is no request that writes" % fc)


def _claim(point, first, touched, left, data):
    # Take what is the point's out of `left`; False if it has no part in it.
    own = 1 if point.form[_ORDER] is None else mask(point)
    last = first + width(point)
    if len(touched) == 1 and not touched[0] & own:
        return False
    if first < 0 or last > len(touched) or touched[first] & own != own:
        raise ValueError("%s: only a part of it would be written" % point.name)
    try:
        _check_data(point, data, first - point.at)
    except ValueError as error:
        raise ValueError("%s: %s" % (point.name, error))
    for i in range(first, last):
        left[i] &= ~own
    return True


def _check_data(point, data, shift):
    kind, _, _, _, _, texts, _, scale, offset = point.form
    value = point.read(data, shift)
    if value is None:
        raise ValueError("what would be written is not a number")
    if value == ():
        raise ValueError("what would be written means not available")
    if texts:
        if not isinstance(value, str):
            raise ValueError("%s is none of the point's values" % value)
    elif not isinstance(value, str):
        _check(point, value, kind[0] == "f" or scale != 1 or offset)


def _check(point, value, noisy):
    # noisy: 0.1 in a float32 is 0.10000000149, and scaling leaves noise of this kind too. No step of a whole number is.
    kind, _, _, _, _, _, _, scale, offset = point.form
    for limit, sign in zip((point.wr.get("min"), point.wr.get("max")), (1, -1)):
        if limit is not None:
            noise = 1e-6 * (abs(limit) + abs(offset)) if noisy else 0
            if kind[0] != "f":
                noise = min(noise, abs(scale) / 4)
            if sign * (limit - value) > noise:
                raise outside(point, shown(value))

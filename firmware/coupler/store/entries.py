# What a point came to in an hour or a day, as bytes. Needed when such a span ends and for queries, so app forgets it.
#
#   length of what follows (0: no more in this frame), flags, what of it is there
#   flags  0..4: form  5: the step from the last point's number follows, else it is 1
#          6: the duration follows, else it is all of the span  7: the last value holds on
#   then   count, duration in ms; last; if they are not all the same: last - least, most - last, first - least, and
#          where the mean lies between least and most, in 24 bits
#   form   as of a sample (see samples): 0..9, 16..25; 29: no numbers, 30: four of float32, 31: four of float64
#
# An entry in memory is what Cells.entry() gives.
import struct

from coupler.const import const
from coupler.store.samples import decimal, get_count, is_single, put_count, put_number, straight, value_of

MOST = const(64)  # bytes of an entry
_SINGLE = const(16)
_NONE = const(29)
_FLOAT = const(30)
_DOUBLE = const(31)
_FORM = const(31)
_STEP = const(32)
_DURATION = const(64)
_HELD = const(128)
_FULL = const(0xFFFFFF)


def encode(out, at, step, entry, span):
    """Write an entry at out[at:]; returns where it ends. step: from the number of the point before."""
    count, duration, first, last, low, high, part, held = entry
    begun = at
    form, numbers = _form(last, low, high, first)
    flags = form | (_HELD if held else 0)
    at += 2
    if step != 1:
        flags |= _STEP
        at = put_count(out, at, step)
    at = put_count(out, at, count)
    if duration != span:
        flags |= _DURATION
        at = put_count(out, at, duration)
    out[begun + 1] = flags
    more = low != high
    if form >= _FLOAT:
        code = "<f" if form == _FLOAT else "<d"
        for value in (last, low, high, first) if more else (last,):
            struct.pack_into(code, out, at, value)
            at += 4 * (form - _FLOAT + 1)
    elif form != _NONE:
        last, low, high, first = numbers
        at = put_number(out, at, last)
        if more:
            at = put_count(out, at, last - low)
            at = put_count(out, at, high - last)
            at = put_count(out, at, first - low)
    if more and duration:
        part = int(part * _FULL + 0.5)
        part = min(part, _FULL)
        for shift in (0, 8, 16):
            out[at] = part >> shift & 255
            at += 1
    out[begun] = at - begun - 1
    return at


def step_at(buf, at):
    """From the number of the point before to that of the entry at buf[at:]."""
    return get_count(buf, at + 2)[0] if buf[at + 1] & _STEP else 1


def decode(buf, at, span):
    """The entry at buf[at:], which step_at() did not show to be another point's."""
    end = at + 1 + buf[at]
    flags = buf[at + 1]
    form = flags & _FORM
    at += 2
    if flags & _STEP:
        _, at = get_count(buf, at)
    count, at = get_count(buf, at)
    duration = span
    if flags & _DURATION:
        duration, at = get_count(buf, at)
    held = flags & _HELD
    if form == _NONE:
        return [count, duration, None, None, None, None, 0, held]
    part = 0
    if form >= _FLOAT:
        code = "<f" if form == _FLOAT else "<d"
        size = 4 * (form - _FLOAT + 1)
        n = (end - at) // size
        values = [struct.unpack_from(code, buf, at + i * size)[0] for i in range(n)]
        last, low, high, first = values if n > 1 else 4 * values
        at += n * size
    else:
        number, at = get_count(buf, at)
        last = low = high = first = straight(number)
        if at < end:
            number, at = get_count(buf, at)
            low = last - number
            number, at = get_count(buf, at)
            high = last + number
            number, at = get_count(buf, at)
            first = low + number
        last, low, high, first = [value_of(number, form) for number in (last, low, high, first)]
    if at < end:
        part = (buf[at] | buf[at + 1] << 8 | buf[at + 2] << 16) / _FULL
    return [count, duration, first, last, low, high, part, held]


def merge(a, b):
    """What two spans come to together; b was later. Either may be None."""
    if b is None or not b[0] and not b[1]:  # it was only held, for no time
        return a
    if a is None:
        return b
    count = a[0] + b[0]
    if b[2] is None or a[2] is None:
        known = a if b[2] is None else b
        return [count] + known[1:]
    _, duration, first, last, low, high, part, held = b
    least = min(a[4], low)
    most = max(a[5], high)
    mean = low - least + part * (high - low)  # above the least
    total = a[1] + duration
    if total:
        before = a[4] - least + a[6] * (a[5] - a[4])
        mean = before + (mean - before) * (duration / total)
    part = mean / (most - least) if most > least else 0
    return [count, total, a[2], last, least, most, min(max(part, 0), 1), held]


def mean(entry):
    """Weighted by time; of a value that never held, the last."""
    _, duration, _, last, low, high, part, _ = entry
    if last is None or not duration:
        return last
    return low * (1 - part) + high * part if part else low


def _form(*values):
    if values[0] is None:
        return _NONE, values
    whole = [isinstance(value, int) for value in values]
    if all(whole):
        return 0, values
    for digits in range(10):
        for form in (digits, digits | _SINGLE):
            numbers = []
            for value in values:
                number = decimal(value, form)
                if number is None:
                    break
                numbers.append(number)
            else:
                return form, numbers
    for value in values:
        if not is_single(value):
            return _DOUBLE, values
    return _FLOAT, values

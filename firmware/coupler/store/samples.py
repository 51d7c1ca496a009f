# Samples as bytes. Each is told by its difference from what could be expected: the point that followed the last time,
# the time that had passed then, the value it had then. What is as expected takes one byte.
#
#   0tttvvvv            the expected point, its value moved by -8..7
#   10tttvvv vvvvvvvv   by -1024..1023
#   11a11aaa aaaaaaaa   the expected point after 1..128 half seconds and -4..3 ms, its value moved by -2..1: how a point
#                       comes that is reported when it changes
#   11aTT11a aaaaaaaa   one of the 32 points behind the last one, its value moved by -16..15; TT as below
#   11PTTKKK ...        P: the point's number follows. TT 0: no time passed, 1: as expected, 2: the difference follows.
#                       KKK 0: the value's difference follows, 1: its form and its number, 2: float32, 3: float64,
#                       4: a text, 5: no value but a quality
#   ttt 0..6: the time passed differs by -3..3 ms from what is expected, 7: no time passed
# The time that is expected is what passed before this point twice in succession: a reading that is late, or a value
# that changed between two that did not, costs nothing the next time.
#
# A value is kept as a whole number m, by its form: 0..9 is m / 10 ** form; 16..25 the same as float32, which an
# interpreter with float64 needs to give a register's float back; 32 is false or true. All of it is exact: a value for
# which there is no such number is kept as a float.
import struct
from array import array

from coupler.const import const

MOST = const(84)  # bytes of a sample whose text has 64
_DIGITS = const(9)
_SINGLE = const(16)
_BOOL = const(32)
_UNKNOWN = const(255)
_RAW = const(254)
_HALF = const(500)  # ms
_WHOLE = const(1000000000)
_LONGEST = const(63)  # shift of a number's last byte: the difference of two of 64 bits
_POWERS = tuple([10**i for i in range(_DIGITS + 1)])
_cell = array("f", [0.0])


def put_number(out, at, value):
    """Write a whole number: zigzag, then as put_count()."""
    return put_count(out, at, value * 2 if value >= 0 else -2 * value - 1)


def put_count(out, at, value):
    """Write a number that is not negative at out[at:], seven bits a byte, the low ones first; returns where it ends."""
    while value > 127:
        out[at] = value & 127 | 128
        value >>= 7
        at += 1
    out[at] = value
    return at + 1


def get_count(buf, at):
    """The number at buf[at:], and where it ends. ValueError."""
    value = shift = 0
    while True:
        byte = buf[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > _LONGEST:
            raise ValueError("no number")


def straight(value):
    """What put_number() made a count of."""
    return -(value + 1 >> 1) if value & 1 else value >> 1


def is_single(value):
    """Whether a float is exact as a float32."""
    _cell[0] = value if -3e38 < value < 3e38 else 0.0
    return _cell[0] == value


def value_of(number, form):
    """The value for which a whole number stands in this form."""
    if not form:
        return number
    if form < _SINGLE:
        return number / _POWERS[form]
    if form == _BOOL:
        return number != 0
    _cell[0] = number / _POWERS[form & 15]
    return _cell[0]


def decimal(value, form):
    """The whole number that stands for a float in this form, None where none does so exactly."""
    power = _POWERS[form & 15]
    scaled = value * power
    if not -_WHOLE < scaled < _WHOLE:
        return None
    m = int(scaled + 0.5 if scaled >= 0 else scaled - 0.5)
    if form < _SINGLE:
        return m if m / power == value else None
    _cell[0] = m / power
    return m if _cell[0] == value else None


class Samples:
    """What writer and reader both know: of each of n points what came last. reset() at the begin of each sector."""

    def __init__(self, n):
        self._n = n
        self.reset()
        # What decode() found:
        self.index = self.dt = 0
        self.value = self.quality = None
        self._at = 0

    def reset(self):
        n = self._n
        self._gaps = [0] * n
        self._others = [0] * n  # the last time that passed unexpectedly
        self._numbers = [0] * n
        self._forms = bytearray(b"\xff" * n)
        self._after = [0] * (n + 1)
        self._last = n

    def encode(self, out, at, index, value, quality, dt):
        """Write a sample at out[at:]; returns where it ends. dt: ms since the one before."""
        expected = self._after[self._last] == index
        ahead = index - self._last - 1
        if not expected:
            self._after[self._last] = index
        self._last = index
        r = 0
        if not dt:
            t = 7
        else:
            r = dt - self._gaps[index]
            t = r + 3 if -3 <= r <= 3 else -1
            if t < 0:
                self._unexpected(index, dt)
        kind = 5
        text = quality
        number = d = 0
        form = known = self._forms[index]
        if value is not None:
            if isinstance(value, float):
                number = None
                if form != _RAW:
                    number, form = self._form(value, form)
                if number is None:
                    form = _RAW
                    kind = 2 if is_single(value) else 3
            elif isinstance(value, str):
                kind = 4
                text = value
                number = None
            else:
                form = _BOOL if value is True or value is False else 0
                number = int(value)
            if number is not None:
                if form == known:
                    kind = 0
                    d = number - self._numbers[index]
                    if expected and t >= 0:
                        if -8 <= d <= 7:
                            self._numbers[index] = number
                            out[at] = t << 4 | d & 15
                            return at + 1
                        if -1024 <= d <= 1023:
                            self._numbers[index] = number
                            out[at] = 0x80 | t << 3 | d >> 8 & 7
                            out[at + 1] = d & 255
                            return at + 2
                    if expected:
                        halves = (dt + 250) // _HALF
                        late = dt - _HALF * halves
                        if t < 0 and -2 <= d <= 1 and 1 <= halves <= 128 and -4 <= late <= 3:
                            few = (halves - 1) << 5 | late + 4 << 2 | d + 2
                            out[at] = 0xD8 | few >> 6 & 32 | few >> 8 & 7
                            out[at + 1] = few & 255
                            self._numbers[index] = number
                            return at + 2
                    elif 0 <= ahead < 32 and -16 <= d <= 15:
                        few = ahead << 5 | d + 16
                        out[at] = 0xC6 | few >> 4 & 32 | (0 if not dt else 8 if not r else 16) | few >> 8 & 1
                        out[at + 1] = few & 255
                        self._numbers[index] = number
                        return put_number(out, at + 2, r) if r else at + 2
                else:
                    kind = 1
                self._numbers[index] = number
            if kind != 4:
                self._forms[index] = form
        head = 0xC0 | kind
        if not expected:
            head |= 0x20
        if dt:
            head |= 8 if not r else 16
        out[at] = head
        at += 1
        if not expected:
            at = put_number(out, at, index)
        if r:
            at = put_number(out, at, r)
        if kind == 0:
            return put_number(out, at, d)
        if kind == 1:
            out[at] = form
            return put_number(out, at + 1, number)
        if kind == 2:
            struct.pack_into("<f", out, at, value)
            return at + 4
        if kind == 3:
            struct.pack_into("<d", out, at, value)
            return at + 8
        text = text.encode()
        at = put_number(out, at, len(text))
        end = at + len(text)
        out[at:end] = text
        return end

    def _unexpected(self, index, dt):
        if not self._gaps[index] or -5 < dt - self._others[index] < 5:
            self._gaps[index] = dt
        self._others[index] = dt

    def _form(self, value, form):
        # The form that the point had serves most often; else the shortest one that is exact.
        if form != _UNKNOWN and form != _BOOL:
            number = decimal(value, form)
            if number is not None:
                return number, form
        first = is_single(value)
        for form in range(_DIGITS + 1):
            number = decimal(value, form)
            if number is not None:
                return number, form
            if first:
                number = decimal(value, form | _SINGLE)
                if number is not None:
                    return number, form | _SINGLE
        return None, _RAW

    def decode(self, buf, at):
        """Read the sample at buf[at:] into index, value, quality and dt; returns where it ends."""
        head = buf[at]
        at += 1
        index = self._after[self._last]
        if head < 0xC0:
            if head < 0x80:
                t = head >> 4
                d = (head & 15 ^ 8) - 8
            else:
                t = head >> 3 & 7
                d = (((head & 7) << 8 | buf[at]) ^ 1024) - 1024
                at += 1
            self.dt = 0 if t == 7 else self._gaps[index] + t - 3
            self._moved(index, d)
        elif head & 24 == 24:
            few = (head & 32) << 6 | (head & 7) << 8 | buf[at]
            at += 1
            self.dt = _HALF * (few >> 5) + _HALF + (few >> 2 & 7) - 4
            self._unexpected(index, self.dt)
            self._moved(index, (few & 3) - 2)
        elif head & 6 == 6:
            few = (head & 32) << 4 | (head & 1) << 8 | buf[at]
            self._at = at + 1
            index = self._last + 1 + (few >> 5)
            if index >= self._n:
                raise ValueError("no point %d" % index)
            self._after[self._last] = index
            self._wait(buf, index, head)
            self._moved(index, (few & 31) - 16)
            at = self._at
        else:
            self._at = at
            if head & 0x20:
                index = self._number(buf)
                if not 0 <= index < self._n:
                    raise ValueError("no point %d" % index)
                self._after[self._last] = index
            self._wait(buf, index, head)
            self.quality = None
            self._load(buf, index, head & 7)
            at = self._at
        self._last = self.index = index
        return at

    def _moved(self, index, d):
        self._numbers[index] = number = self._numbers[index] + d
        self.value = value_of(number, self._forms[index])
        self.quality = None

    def _wait(self, buf, index, head):
        self.dt = self._gaps[index] if head & 24 else 0
        if head & 16:
            r = self._number(buf)
            self.dt += r
            if not -3 <= r <= 3:
                self._unexpected(index, self.dt)

    def _load(self, buf, index, kind):
        at = self._at
        if kind == 0:
            self._moved(index, self._number(buf))
        elif kind == 1:
            self._forms[index] = buf[at]
            self._at = at + 1
            self._numbers[index] = number = self._number(buf)
            self.value = value_of(number, self._forms[index])
        elif kind == 2 or kind == 3:
            end = at + 4 * (kind - 1)
            if end > len(buf):
                raise ValueError("no float")
            self.value = struct.unpack_from("<f" if kind == 2 else "<d", buf, at)[0]
            self._at = end
            self._forms[index] = _RAW
        else:
            length = self._number(buf)
            end = self._at + length
            if not self._at <= end <= len(buf):
                raise ValueError("no text")
            text = bytes(memoryview(buf)[self._at : end]).decode()
            self._at = end
            self.value, self.quality = (text, None) if kind == 4 else (None, text)

    def _number(self, buf):
        value, self._at = get_count(buf, self._at)
        return straight(value)

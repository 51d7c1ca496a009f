# SenML JSON (RFC 8428). Extension fields: seq, the sample's number; q, its quality, absent when good; h, true where the
# owner has enabled history: only these may be kept, the others are of their moment.
#
# A time is exact to the millisecond: it is built from integers, since a float has 24 bits on the chip. A record's
# time is bt + t. A sample whose time is not known has neither, or `bt` 0: "now" to every SenML reader (RFC 8428,
# 4.5.3). A sample without a value (nothing was read, or NaN) has the empty string and its quality: every record needs
# a value.
import json
import struct

_SINGLE = 1.0 + 2.0**-30 == 1.0  # floats of this interpreter


def number(value):
    """The shortest text that reads back as this number, float32 or double; not for NaN and infinities."""
    if not isinstance(value, float):
        return str(value)
    if _SINGLE or _is_float32(value):
        for form in ("%.6g", "%.7g", "%.8g"):
            text = form % value
            if _float32(float(text)) == value:
                return text
        return "%.9g" % value
    # 15 digits hide the last bits, where the noise of scaling is; at the very end of the range they would round to
    # infinity.
    return ("%.15g" if -1e308 < value < 1e308 else "%.17g") % value


def _float32(value):
    try:
        return struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return None


def _is_float32(value):
    return _float32(value) == value


def seconds(ms):
    """Milliseconds (int) as decimal seconds."""
    sign = ""
    if ms < 0:
        sign = "-"
        ms = -ms
    whole, part = divmod(ms, 1000)
    if not part:
        return "%s%d" % (sign, whole)
    text = "%s%d.%03d" % (sign, whole, part)
    while text.endswith("0"):
        text = text[:-1]
    return text


def _value(value):
    if value is True:
        return '"vb":true'
    if value is False:
        return '"vb":false'
    if isinstance(value, str):
        return '"vs":' + json.dumps(value)
    if value is None or value - value != 0:  # NaN and infinities are no numbers in JSON
        return '"vs":""'
    return '"v":' + number(value)


def pack(device_id, samples, after=None):
    """Samples (seq, point, value, quality, unix_ms or None) -> one pack, in their order.

    A point has name, unit and history. after: no number between this and the first is still to come; left out where it
    is the one before the first."""
    parts = []
    base = 0
    lead = '[{"bn":"urn:dev:kobler:%s:",' % device_id
    for seq, point, value, quality, unix_ms in samples:
        parts.append(lead)
        lead = ",{"
        time = ""
        if unix_ms is None:
            if base:
                parts.append('"bt":0,')
                base = 0
        elif not base:
            parts.append('"bt":%s,' % seconds(unix_ms))
            base = unix_ms
        elif unix_ms != base:
            time = ',"t":' + seconds(unix_ms - base)
        parts.append('"n":%s,' % json.dumps(point.name))
        parts.append(_value(value))
        if point.unit:
            parts.append(',"u":%s' % json.dumps(point.unit))
        parts.append('%s,"seq":%d' % (time, seq))
        if after is not None:
            if after != seq - 1:
                parts.append(',"after":%d' % after)
            after = None
        if point.history:
            parts.append(',"h":true')
        if quality is None and value is not None and not isinstance(value, str) and value - value != 0:
            quality = "range"
        parts.append(',"q":%s}' % json.dumps(quality) if quality else "}")
    parts.append("]" if samples else "[]")
    return "".join(parts).encode()

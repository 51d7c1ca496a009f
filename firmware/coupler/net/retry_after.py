# How long a server asks to wait (Retry-After; RFC 9110, 10.2.3).
from coupler.const import const

_DAY = const(86400)
_MONTHS = "janfebmaraprmayjunjulaugsepoctnovdec"


def seconds(value, now_ms):
    """Seconds from now_ms (Unix; None: the clock is not known), never less than 0. None for no value or no sense."""
    value = (value or "").strip()
    if value.isdigit():
        return int(value) if len(value) < 10 else None
    try:
        then = _date(value.replace(",", " ").replace("-", " ").split(), now_ms)
    except (ValueError, IndexError):
        return None
    return None if then is None or now_ms is None else max(0, then - now_ms // 1000)


def _date(parts, now_ms):
    # The three forms of an HTTP-date (RFC 9110, 5.6.7); Unix seconds
    if len(parts) == 5:  # asctime
        _, month, day, time, year = parts
    else:
        _, day, month, year, time, zone = parts
        if zone != "GMT":
            return None
    index = _MONTHS.find(month.lower())
    hour, minute, second = [_number(part) for part in time.split(":")]
    day = _number(day)
    if index % 3 or len(month) != 3 or not 1 <= day <= 31 or hour > 23 or minute > 59 or second > 60:
        return None
    month = index // 3 + 1
    if len(year) == 2:  # not more than 50 years ahead
        year = _number(year) + 2000
        if now_ms is not None and year > 2020 + now_ms // 31556952000:
            year -= 100
    else:
        year = _number(year)
    # Days since 1970, the year beginning in March
    months = 12 * year + month - 3
    year = months // 12
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * (months % 12) + 2) // 5 + day - 719469
    return days * _DAY + hour * 3600 + minute * 60 + second


def _number(text):
    if not text.isdigit():
        raise ValueError
    return int(text)

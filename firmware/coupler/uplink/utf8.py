class Utf8:
    """RFC 3629, byte by byte, so that a bad text fails at once; what small interpreters' decoders accept differs."""

    def __init__(self):
        self._need = 0
        self._low = 0x80
        self._high = 0xBF

    def feed(self, data):
        """False at the first byte that no valid text can have here."""
        need = self._need
        low = self._low
        high = self._high
        for b in data:
            if need:
                if b < low or b > high:
                    return False
                need -= 1
                low = 0x80
                high = 0xBF
            elif b < 0x80:
                pass
            elif b < 0xC2 or b > 0xF4:
                return False
            elif b < 0xE0:
                need = 1
            elif b < 0xF0:
                need = 2
                if b == 0xE0:
                    low = 0xA0  # no overlong forms
                elif b == 0xED:
                    high = 0x9F  # no surrogates
            else:
                need = 3
                if b == 0xF0:
                    low = 0x90
                elif b == 0xF4:
                    high = 0x8F  # nothing above U+10FFFF
        self._need = need
        self._low = low
        self._high = high
        return True

    def whole(self):
        """Whether the text may end here."""
        return not self._need


def valid(data):
    check = Utf8()
    return check.feed(data) and check.whole()

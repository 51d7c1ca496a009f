"""The chip's serial line, on the pseudo-terminal: Ctrl-C as an interrupt or as a byte, text or bytes out."""

import sys
import termios

import _chip

_OPOST = 1

_attributes = termios.tcgetattr(0)
_interrupts = None
_text = None


def mode(interrupts, text):
    """interrupts: Ctrl-C raises KeyboardInterrupt instead of being read. text: a line feed goes out as CR LF."""
    global _interrupts, _text
    if interrupts != _interrupts:
        _interrupts = interrupts
        _chip.ctrl_c(interrupts)
    if text != _text:
        _text = text
        _attributes[1] = _attributes[1] | _OPOST if text else _attributes[1] & ~_OPOST
        termios.tcsetattr(0, termios.TCSANOW, _attributes)


def text(on):
    mode(_interrupts, on)


def kbd_intr(char):
    """micropython.kbd_intr: -1 lets Ctrl-C through as a byte. Only 3 and -1 exist on this line."""
    global _interrupts
    if char == 3:
        mode(True, _text)
    elif _interrupts:
        _interrupts = False
        _chip.mask()


class _Binary:
    """sys.stdout.buffer: bytes go out as they are."""

    def __init__(self, stream):
        self._stream = stream

    def write(self, *args):
        before = _text
        text(False)
        try:
            return self._stream.write(*args)
        finally:
            text(before)

    def flush(self):
        pass


raw_out = sys.stdout.buffer
binary_out = _Binary(raw_out)


class Output:
    """sys.stdout with a buffer that does not translate line ends."""

    buffer = binary_out

    def __init__(self, stream):
        self._stream = stream
        self.write = stream.write

    def flush(self):
        pass

    def __getattr__(self, name):
        return getattr(self._stream, name)

"""The chip's REPL: friendly, paste, raw and raw paste, as MicroPython's shared/runtime/pyexec.c defines them.

The unix port's own would end the process at Ctrl-D and let no soft interrupt run while it waits for a key.
"""

import gc
import io
import select

import _chip
import _edit
import _identity
import _tty

_WINDOW = 1024  # of raw paste; what the host may send before it is told to go on

_in = open(0, "rb", 0)
_poller = select.poll()
_poller.register(0, 1)
_poller.register(_chip._file, 1)
_ready = getattr(_poller, "ipoll", _poller.poll)  # CPython has no ipoll
out = _tty.raw_out.write


def getc():
    """The next byte from the host; soft interrupts run while it is awaited."""
    while True:
        try:
            _chip.poll()
        except KeyboardInterrupt:  # typed when a program was about to end
            return 3
        wait = -1
        if _chip._due and not _chip.masked:
            wait = max(0, (_chip._due[0][0] - _chip.now()) // 1000)
        for f, _ in _ready(wait):
            if f == 0:
                byte = _in.read(1)
                if not byte:
                    raise SystemExit  # the board is gone
                return byte[0]


def serving(program):
    """A program runs (Ctrl-C stops it, text goes out) or the REPL reads (all bytes are bytes)."""
    _tty.mode(program, program)


def _print_exception(e):
    """Without the frames of this file, which the chip does not have."""
    text = io.StringIO()
    _chip.print_exception(e, text)
    lines = text.getvalue().split("\n")
    while len(lines) > 1 and lines[1].startswith('  File "') and "/overlay/_" in lines[1]:
        lines.pop(1)
        while lines[1].startswith("    "):  # CPython shows the source too
            lines.pop(1)
    print("\n".join(lines), end="")


def run(source, name, kind, scope, end=None, next_runs=False):
    """Compile and run: 1 done, 0 it raised, -1 it asked for a soft reset. `end` ends the output and the error.

    next_runs: another program follows, and a Ctrl-C typed now is meant for it.
    """
    result = 1
    serving(True)
    try:
        try:
            code = compile(source, name, kind)
            source = None
            exec(code, scope)
        finally:
            serving(next_runs)
        if end:
            out(end)
    except SystemExit:
        result = -1
        if end:
            out(end)
    except BaseException as e:
        result = 0
        if end:
            out(end)
        _tty.text(True)
        _print_exception(e)
        _tty.text(next_runs)
    if end:
        out(end)
    return result


def _paste_source():
    """Read a program in raw paste mode; None when it was cancelled."""
    out(b"R\x01" + _WINDOW.to_bytes(2, "little") + b"\x01")
    source = bytearray()
    left = _WINDOW
    while True:
        c = getc()
        if c == 4 or c == 3:
            out(b"\x04")
            return source if c == 4 else None
        source.append(c)
        left -= 1
        if not left:
            out(b"\x01")
            left = _WINDOW


def raw(scope):
    """(go on, stay raw)"""
    serving(False)
    out(b"raw REPL; CTRL-B to exit\r\n")
    while True:
        out(b">")
        line = bytearray()
        while True:
            c = getc()
            if c == 1:
                if line == b"\x05A":
                    source = _paste_source()
                    if source is None:
                        out(b"\x04Traceback (most recent call last):\r\nKeyboardInterrupt: \r\n\x04")
                        break
                    if _execute(source, scope) < 0:
                        return False, True
                    break
                out(b"R\x00" if line[:1] == b"\x05" else b"raw REPL; CTRL-B to exit\r\n")
                break
            if c == 2:
                out(b"\r\n")
                return True, False
            if c == 3:
                line = bytearray()
            elif c == 4:
                if not line:
                    out(b"\r\n")
                    return False, True
                out(b"OK")
                if _execute(line, scope) < 0:
                    return False, True
                break
            else:
                line.append(c)


def _execute(source, scope):
    try:
        source = str(source, "utf8")
    except UnicodeError:
        out(b"\x04UnicodeError: \r\n\x04")
        return 0
    gc.collect()
    return run(source, "<stdin>", "exec", scope, b"\x04")


def friendly(scope):
    """(go on, raw next)"""
    serving(False)
    out(_identity.banner.encode() + b'\r\nType "help()" for more information.\r\n')
    while True:
        text = _edit.line(b">>> ", getc, out, scope)
        if text == 1:
            return True, True
        if text == 2:
            out(b"\r\n" + _identity.banner.encode() + b'\r\nType "help()" for more information.\r\n')
        elif text == 3:
            out(b"\r\n")
        elif text == 4:
            out(b"\r\n")
            return False, False
        elif text == 5:
            text = _paste()
            if text is not None and run(text, "<stdin>", "exec", scope) < 0:
                return False, False
        elif text.strip():
            text = _continued(text, scope)
            if text is not None and run(text, "<stdin>", "single", scope) < 0:
                return False, False


def _continued(text, scope):
    while _edit.wants_more(text):
        more = _edit.line(b"... ", getc, out, scope, _edit.indent(text))
        if isinstance(more, int):
            out(b"\r\n")
            if more == 4:
                return text
            return None
        text += "\n" + more
    return text


def _paste():
    out(b"\r\npaste mode; Ctrl-C to cancel, Ctrl-D to finish\r\n=== ")
    source = bytearray()
    while True:
        c = getc()
        if c == 3:
            out(b"\r\n")
            return None
        if c == 4:
            out(b"\r\n")
            return str(source, "utf8")
        source.append(10 if c == 13 else c)
        out(b"\r\n=== " if c == 13 else bytes([c]))

"""One line of the friendly REPL: editing keys, history, completion, and whether a statement goes on."""

_history = []
_COMPOUND = ("if", "while", "for", "try", "with", "def", "class", "async")


def wants_more(text):
    """Is this the beginning of a statement that the next line continues? (py/repl.c of MicroPython)"""
    first = ""
    for c in text:
        if not (c.isalpha() or c == "_"):
            break
        first += c
    compound = text.startswith("@") or first in _COMPOUND
    depth = 0
    quote = ""
    i = 0
    while i < len(text):
        c = text[i]
        if quote:
            if c == "\\":
                i += 1
            elif text[i : i + len(quote)] == quote:
                i += len(quote) - 1
                quote = ""
        elif c in "'\"":
            quote = c * 3 if text[i : i + 3] == c * 3 else c
            i += len(quote) - 1
        elif c == "#":
            while i + 1 < len(text) and text[i + 1] != "\n":
                i += 1
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        i += 1
    if len(quote) == 3 or (depth > 0 and not quote) or text.endswith("\\"):
        return True
    return compound and not text.endswith("\n")


def indent(text):
    """The spaces that the next line begins with."""
    last = text.rsplit("\n", 1)[-1]
    spaces = len(last) - len(last.lstrip(" "))
    if last.rstrip().endswith(":"):
        spaces += 4
    return " " * spaces if last.strip() else ""


def _names(text, scope):
    """What the word at the end can become: (its beginning, the names)."""
    i = len(text)
    while i and (text[i - 1].isalpha() or text[i - 1].isdigit() or text[i - 1] in "_."):
        i -= 1
    parts = text[i:].split(".")
    if len(parts) == 1:
        names = list(scope)
    else:
        try:
            thing = scope[parts[0]]
            for part in parts[1:-1]:
                thing = getattr(thing, part)
        except (KeyError, AttributeError):
            return "", []
        names = dir(thing)
    start = parts[-1]
    return start, sorted(n for n in names if n.startswith(start) and (start or not n.startswith("_")))


def _complete(text, scope, out, prompt):
    start, names = _names(text, scope)
    if not names:
        return ""
    common = names[0]
    for name in names:
        while not name.startswith(common):
            common = common[:-1]
    if len(common) > len(start):
        return common[len(start) :]
    if len(names) > 1:
        out(b"\r\n" + "  ".join(names).encode() + b"\r\n" + prompt + text.encode())
    return ""


_DELETE = 255
_CODES = {b"[A": 16, b"[B": 14, b"[C": 6, b"[D": 2, b"[H": 1, b"[F": 5, b"[1~": 1, b"[4~": 5, b"OH": 1, b"OF": 5}
_CODES[b"[3~"] = _DELETE


def _escape(getc):
    """The control code that an escape sequence stands for."""
    code = bytes([getc()])
    while code in (b"[", b"O") or code[-1:].isdigit():
        code += bytes([getc()])
        if len(code) > 4:
            break
    return _CODES.get(code, 0)


def line(prompt, getc, out, scope, start=""):
    """Read a line. An int, 1..5 for Ctrl-A..Ctrl-E, for Ctrl-C and for the others when pressed on the empty line."""
    out(prompt + start.encode())
    text = bytearray(start.encode())
    at = len(text)
    shown = len(_history)

    def redraw():
        out(b"\r" + prompt + text + b"\x1b[K")
        if at < len(text):
            out(b"\x1b[%dD" % (len(text) - at))

    while True:
        c = getc()
        if c == 27:
            c = _escape(getc)
        elif c in (1, 2, 4, 5) and len(text) == len(start):
            return c
        if c == 3:
            return c
        if c in (13, 10):
            out(b"\r\n")
            if text == start.encode():
                return ""  # Enter on nothing but the indentation ends the statement
            try:
                result = str(text, "utf8")
            except UnicodeError:
                result = ""
            if result.strip() and result not in _history[-1:]:
                _history.append(result)
                del _history[:-50]
            return result
        if c in (8, 127):
            if at:
                # In the indentation a backspace takes a level back.
                n = 4 if at % 4 == 0 and not text[:at].strip() else 1
                text[at - n : at] = b""
                at -= n
                redraw()
        elif c == _DELETE or c == 4:
            text[at : at + 1] = b""
            redraw()
        elif c in (1, 5):
            at = 0 if c == 1 else len(text)
            redraw()
        elif c in (2, 6):
            at = max(0, at - 1) if c == 2 else min(len(text), at + 1)
            redraw()
        elif c == 11:
            del text[at:]
            redraw()
        elif c == 21:
            text[:at] = b""
            at = 0
            redraw()
        elif c in (14, 16):
            shown = max(0, shown - 1) if c == 16 else min(len(_history), shown + 1)
            text[:] = _history[shown].encode() if shown < len(_history) else b""
            at = len(text)
            redraw()
        elif c == 9 and at == len(text):
            try:
                more = "    " if not text.strip() else _complete(str(text, "utf8"), scope, out, prompt)
            except UnicodeError:
                more = ""
            text += more.encode()
            at = len(text)
            out(more.encode())
        elif c >= 32:
            text[at:at] = bytes([c])
            at += 1
            if at == len(text):
                out(bytes([c]))
            elif c < 128 or c >= 192:
                redraw()

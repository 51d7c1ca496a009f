"""What runs after a reset, on either interpreter: boot.py, main.py, then the REPL until a soft reset is asked for."""

import gc

import _chip
import _repl
import _tty

_open = open  # the interpreter's own: nothing may be raised inside littlefs
_raw = _chip.getenv("KOBLER_RAW") == "1"


def _run_file(path, scope, next_runs):
    """1 done or not there, 0 it raised, -1 it asked for a soft reset."""
    try:
        with _open(path) as f:
            source = f.read()
    except OSError:
        return 1
    return _repl.run(source, path, "exec", scope, None, next_runs)


def run(folder=""):
    """`folder`: what the names of the two files begin with."""
    scope = {"__name__": "__main__"}
    raw = _raw
    gc.collect()
    ended = _run_file(folder + "boot.py", scope, not raw)
    if ended == 1 and not raw:
        ended = _run_file(folder + "main.py", scope, False)
    on = ended >= 0
    while on:
        on, raw = _repl.raw(scope) if raw else _repl.friendly(scope)
    _tty.text(True)
    print("MPY: soft reboot")
    _chip.send(_chip.RESTART, bytes([raw]))

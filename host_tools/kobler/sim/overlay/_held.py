"""What the host's scheduler holds up is taken off the release of the driver.

The chip runs one program; this process shares a computer. When it is kept waiting between the last stop bit and the
release of the RS-485 driver, the answer would be destroyed on the simulated wires by something no chip does. So the
release is stamped with the program's own time: when it was to wake, and the processor time it has used since. What
the program itself is late stays in.
"""

import _chip

_end = 0  # of what was written last
_seen = False  # the program has been told that it is sent


def wrote(end):
    global _end, _seen
    _end, _seen = end, False
    _chip.awake(_chip.now())


def sent():
    """The program learns that all is sent: what it does from now on is its own time."""
    global _seen
    if _end and not _seen:
        _seen = True
        _chip.awake(max(_end, _chip.own()))


def _stamp():
    global _end
    now = _chip.now()
    if _end and now > _end:
        now, _end = max(_end, _chip.own()), 0
    return now


_chip.stamp = _stamp

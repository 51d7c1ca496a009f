"""What the host's scheduler holds up is taken off the driver's release.

The chip runs one program; this process shares a computer. When it is kept waiting between the last stop bit and
the release of the RS-485 driver, the answer would be destroyed on the simulated wires by something no chip does.
Sleeps that ended late are counted by `_chip.wait`; here the gaps of a program that watches `txdone()`. What the
program itself is late stays in.
"""

import _chip

_end = 0  # of what was written last
_before = 0  # _chip.held at that time
_asked = 0
_waits = 0


def wrote(start, end):
    global _end, _before, _asked, _waits
    _end, _before, _asked, _waits = end, _chip.held, start, _chip.waits


def asks(now):
    """The program asks whether all is sent. If it does so without waiting, it asks every few microseconds."""
    global _asked, _waits, _before
    _watch(now)
    if now <= _end:
        _before = _chip.held  # what was held up before made no difference
    _asked, _waits = now, _chip.waits


def _watch(now):
    if now > _end and _asked and _chip.waits == _waits and now - _asked > 200:
        _chip.held += now - max(_asked, _end)


def _stamp():
    global _end
    now = _chip.now()
    if _end and now > _end:
        _watch(now)
        late, _end = now - _end, 0
        now -= min(late, _chip.held - _before)
    return now


_chip.stamp = _stamp

"""What the unit tests share on every interpreter: no pytest, so that MicroPython runs them as they are."""

import gc
import sys


def raises(error, function, *args):
    """Call function(*args), which must raise `error`; returns the exception."""
    try:
        function(*args)
    except error as caught:
        return caught
    raise AssertionError("%s was not raised" % error.__name__)


def tidy():
    """Collect what is not needed any more, where memory is small; elsewhere that takes long and changes nothing."""
    if sys.implementation.name != "cpython":
        gc.collect()

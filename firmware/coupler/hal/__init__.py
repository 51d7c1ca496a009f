# The only place that knows which runtime this is. main.py asks for the hal once and hands it to those who need it.

import sys

_hal = None


def get():
    """The hal of this runtime, made on the first call."""
    global _hal
    if _hal is None:
        if sys.implementation.name == "micropython":
            from coupler.hal.micropython import Hal
        else:
            from coupler.hal.cpython import Hal
        _hal = Hal()
    return _hal

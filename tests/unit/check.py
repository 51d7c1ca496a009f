"""What the unit tests share on every interpreter: no pytest, so that MicroPython runs them as they are."""


def raises(error, function, *args):
    """Call function(*args), which must raise `error`; returns the exception."""
    try:
        function(*args)
    except error as caught:
        return caught
    raise AssertionError("%s was not raised" % error.__name__)

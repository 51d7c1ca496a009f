"""The unmodified esptool with this package's URL handlers: `python -m kobler.urls ARGUMENTS OF ESPTOOL`."""

from __future__ import annotations

from . import use

if __name__ == "__main__":
    use()
    import esptool

    esptool._main()

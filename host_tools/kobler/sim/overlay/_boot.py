"""First file of the guest: takes the link, then starts the chip's firmware. Nothing else belongs into `__main__`."""

import _chip

_chip.attach(int(_chip.getenv("KOBLER_LINK")))

import _start

_start.run()

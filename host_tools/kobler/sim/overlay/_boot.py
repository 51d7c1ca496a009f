"""First file of the guest: takes the link, then starts the chip's firmware."""

import _chip

_chip.attach(int(_chip.getenv("KOBLER_LINK")))

import _start  # noqa: E402

_start.run()

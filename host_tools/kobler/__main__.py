"""`python -m kobler` is the command `kobler`."""

from .cli import main

main()

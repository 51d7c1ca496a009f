"""The command `kobler`, also as `python -m kobler`."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run one command; see cli.main for the exit codes."""
    # Importing takes a moment; Ctrl-C in it should end the process quietly instead of showing where it was.
    handler = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from .cli import furnish
    from .cli import main as run

    furnish()
    signal.signal(signal.SIGINT, handler)
    run()


if __name__ == "__main__":
    main()

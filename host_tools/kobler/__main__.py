"""The command `kobler`, also as `python -m kobler`."""

from __future__ import annotations

import signal


def main() -> None:
    """Run one command; see cli.main for the exit codes."""
    # Importing takes a moment; Ctrl-C in it should end the process quietly instead of showing where it was.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .cli import main as run

    signal.signal(signal.SIGINT, handler)
    run()


if __name__ == "__main__":
    main()

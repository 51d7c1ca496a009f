"""The command `kobler`: one subcommand a room, and one place where errors become a line and an exit code."""

from __future__ import annotations

import os
import sys

import typer

from . import __version__
from .errors import KoblerError

app = typer.Typer(
    name="kobler",
    help="Build, flash, provision, watch and simulate Kobler couplers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kobler {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


def furnish() -> None:
    """Hang every room's commands on the app; their modules import only light, portable things at the top."""
    from .build.cli import build
    from .bus.cli import app as bus
    from .cloud.cli import call, up, watch, write
    from .config.cli import app as config
    from .doctor.cli import doctor
    from .flash.cli import flash
    from .pki.cli import app as pki
    from .provision.cli import provision
    from .provision.lock_cli import lock, unlock
    from .sim.cli import app as sim

    for command in (up, build, flash, provision, lock, unlock, doctor, watch, call):
        app.command(command.__name__)(command)
    # A value may begin with a minus sign.
    app.command("write", context_settings={"ignore_unknown_options": True})(write)
    for name, group in (("bus", bus), ("config", config), ("pki", pki), ("sim", sim)):
        app.add_typer(group, name=name)


def main() -> None:
    """Run one command; exit 0 done, 1 could not be done (one line says why), 2 wrong usage, 130 Ctrl-C."""
    try:
        app()
    except KoblerError as error:
        for line in str(error).splitlines():  # a file may have several mistakes, one a line
            print(f"kobler: {line}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone (`kobler … | head`): leave quietly, as every Unix tool does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"kobler: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)

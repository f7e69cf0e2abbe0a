"""The ``symprop`` command: list, show, generate, verify, train, time and check networks.

Results go to standard output, messages to standard error. Exit status: 0 success,
1 the work failed (kernels that do not verify, a loss that diverges), 2 wrong usage or
a bad description, 130 interrupted. Everything but click is imported where it is
used, so that ``symprop --help`` answers at once.
"""

from __future__ import annotations

import gc
import sys

import click

from symprop import __version__
from symprop.cli import making, reading, timing, working
from symprop.errors import SympropError

__all__ = ["main"]

_NEW_OBJECTS = 200_000
"""After how many new objects Python looks for garbage.

Nearly all that derivation and compilation make is kept: as often as by default (700), that takes a
fifth of the time of a command.
"""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; always exits through `sys.exit`."""
    gc.set_threshold(_NEW_OBJECTS)
    try:
        sys.exit(cli.main(arguments, prog_name="symprop", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except SympropError as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(error.exit_status)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone: nobody to tell
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(__version__, prog_name="symprop")
def cli() -> None:
    """Neural networks as equations: gradient formulas to read, compiled kernels to run."""


for command in (
    reading.list_networks, reading.show, reading.report, reading.explain, making.generate,
    making.verify, making.train, timing.bench, working.check, working.exercise,
):  # fmt: skip
    cli.add_command(command)

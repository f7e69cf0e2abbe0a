"""The commands for worked examples: check, exercise."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from symprop.cli.options import NET_HELP, json_option, net_argument
from symprop.cli.shared import find_network, print_json
from symprop.errors import OutputError

__all__ = ["check", "exercise"]


@click.command(epilog=NET_HELP)
@net_argument
@json_option
def check(net: str, as_json: bool) -> None:
    """Check every number that the worked example of NET prints, and name the first wrong one.

    The numbers are the [[claims]] of the description. Exit status 1 if one is wrong.
    """
    from symprop.explain.claims import check as check_claims

    report = check_claims(find_network(net)[0])
    if as_json:
        print_json(report.as_dict())
    else:
        click.echo(report)
    sys.exit(0 if report.ok else 1)


@click.command(epilog=NET_HELP)
@net_argument
@click.option("--seed", type=int, default=0, show_default=True, help="Which exercise.")
@click.option("--answers", is_flag=True, help="Print the answers to it.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
    help="Write to this file, which must not exist yet.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.")
def exercise(net: str, seed: int, answers: bool, output: Path | None, force: bool) -> None:
    """Print NET with fresh numbers as an exercise to fill in; `symprop check FILE` marks it."""
    from symprop.explain.exercise import sheet

    text = sheet(find_network(net)[0], seed, answers)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with output.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise OutputError(f"{output}: exists already; give another name, or --force") from None
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror or error}") from None
    click.echo(output)

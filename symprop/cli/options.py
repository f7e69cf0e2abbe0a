"""The options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["NET_HELP", "json_option", "kernel_options", "net_argument", "output_options"]

Command = TypeVar("Command", bound=Callable[..., Any])

NET_HELP = """NET is a .toml file, the name of a network that comes with symprop (see `symprop
list`), or file.py:name, a Network in Python code, which is thereby run."""


def net_argument(function: Command) -> Command:
    """Add the NET argument."""
    return click.argument("net", metavar="NET")(function)


def json_option(function: Command) -> Command:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(
        function
    )


def kernel_options(function: Command) -> Command:
    """Add the options that decide which kernels are generated."""
    for decorate in (
        click.option("--optimizer", help="Update rule; the description's unless given."),
        click.option(
            "--dtype", type=click.Choice(["float64", "float32"]), default="float64",
            show_default=True, help="Precision of the kernels.",
        ),
    ):  # fmt: skip
        function = decorate(function)
    return function


def output_options(function: Command) -> Command:
    """Add the options that decide where files are written."""
    for decorate in (
        click.option("--force", is_flag=True, help="Overwrite a file that symprop did not write."),
        click.option(
            "-o", "--output", type=click.Path(file_okay=False, path_type=Path),
            default=Path("generated"), show_default=True, help="Folder to write to.",
        ),
    ):  # fmt: skip
        function = decorate(function)
    return function

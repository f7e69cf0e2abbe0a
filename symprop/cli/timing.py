"""The command that times kernels: bench."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from symprop.cli.options import NET_HELP, json_option
from symprop.cli.shared import find_network, print_json, say

__all__ = ["bench"]


@click.command(epilog=NET_HELP)
@click.argument("nets", metavar="[NET]...", nargs=-1)
@click.option(
    "--peer", "peers", multiple=True,
    type=click.Choice(["torch", "torch-compile", "jax", "sklearn", "none"]),
    help="Only beside this library; may be repeated. All that are installed unless given.",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(["float64", "float32"]),
    help="Precision; that of the bench network, else float64.",
)  # fmt: skip
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Samples an update; the description's."
)
@click.option(
    "--samples", type=click.IntRange(min=1),
    help="Samples of an epoch; those of the bench network, else 10,000.",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True,
    help="Threads and processors of every contestant.",
)  # fmt: skip
@click.option(
    "--rounds", type=click.IntRange(min=1), default=5, show_default=True,
    help="How often each contestant is timed; the median is shown.",
)  # fmt: skip
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Draw the times to a file as well (needs matplotlib).",
)  # fmt: skip
@json_option
def bench(
    nets: tuple[str, ...], peers: tuple[str, ...], plot: Path | None, as_json: bool, **options: Any
) -> None:
    """Time the kernels of each NET beside other libraries that do the same work.

    Without NET: T1, T2, M0, M1 and M3. The samples are synthetic. Shown are the time of a step and
    of a sample, as a multiple of symprop's, the rate and its share of the measured peak, the
    share that the step's floor has in it (flops, transcendentals and bytes at the machine's
    best), how far the loss after one epoch is from symprop's, and the seconds of the first epoch
    with all that is compiled for it.
    """
    from symprop import examples
    from symprop.bench import bench as bench_networks
    from symprop.bench import check_plot

    if plot is not None:
        check_plot(plot)
    chosen = [peer for peer in peers if peer != "none"] if peers else None
    networks = [find_network(net)[0] for net in nets or examples.bench_names()]
    report = bench_networks(networks, peers=chosen, say=say, **options)
    if plot is not None:
        report.plot(plot)
    if as_json:
        print_json(report.as_dict())
    else:
        click.echo(report)
    for problem in report.problems():
        click.echo(problem, err=True)
    sys.exit(0 if report.ok else 1)

"""The commands that show a network: list, show, report, explain."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from symprop.cli.options import NET_HELP, json_option, net_argument
from symprop.cli.shared import (
    count_samples,
    count_weights,
    find_data,
    find_network,
    print_json,
    say,
)

if TYPE_CHECKING:
    from symprop.derivation import Derivation
    from symprop.explain.pages import Page
    from symprop.explain.report import Report
    from symprop.explain.worked import Worked
    from symprop.network import Network

__all__ = ["explain", "list_networks", "report", "show"]


@click.command("list")
@json_option
def list_networks(as_json: bool) -> None:
    """List the networks that come with symprop."""
    from symprop import examples

    groups = {"example": examples.names(), "bench": examples.bench_names()}
    networks = [
        (examples.load_example(name), group) for group, names in groups.items() for name in names
    ]
    rows = [
        {"name": net.name, "inputs": len(net.inputs), "parameters": count_weights(net),
         "equations": len(net.equations), "group": group}
        for net, group in networks
    ]  # fmt: skip
    if as_json:
        print_json(rows)
        return
    width = max(len(net.name) for net, _ in networks)
    for row in rows:
        if row["group"] == "bench" and row["name"] == groups["bench"][0]:
            click.echo("\nFor `symprop bench`, without data:")
        click.echo(
            f"{row['name']:{width}}  {row['equations']:2} equations  "
            f"{row['parameters']:6} weights and biases"
        )


@click.command(epilog=NET_HELP)
@net_argument
@click.option(
    "--wrt", metavar="NAME",
    help='Only the derivative by this variable, or by one element as in "W1[0,1]".',
)  # fmt: skip
@click.option("--kernel", is_flag=True, help="The lowered kernels, and what was chosen and why.")
@click.option(
    "--dtype",
    type=click.Choice(["float64", "float32"]),
    default="float64",
    show_default=True,
    help="Numbers of the kernels that --kernel shows.",
)
@click.option("--expand", is_flag=True, help="Gradients in inputs, targets and parameters only.")
@click.option("--steps", is_flag=True, help="The chain rule factor by factor, then the update.")
@click.option("--forward", is_flag=True, help="The forward pass.")
@click.option("--numbers", is_flag=True, help="With the numbers of a sample put in.")
@click.option(
    "--data", "data_file", type=click.Path(path_type=Path), metavar="FILE",
    help="CSV or .npz that --numbers takes the sample from; the description's data unless given.",
)  # fmt: skip
@click.option(
    "--sample", type=click.IntRange(min=0), default=0, show_default=True,
    help="Which sample of the data --numbers takes.",
)  # fmt: skip
@click.option(
    "--iteration", type=click.IntRange(min=1), default=1, show_default=True,
    help="Which iteration --numbers shows: 2 is after one update.",
)  # fmt: skip
@click.option(
    "--format", "style", type=click.Choice(["text", "latex", "json", "html"]), default="text",
    show_default=True, help="How to print.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
def show(
    net: str, wrt: str | None, expand: bool, style: str, as_json: bool, **options: Any
) -> None:
    """Print the equations of NET and the formula of every gradient."""
    from symprop.derivation import differentiate
    from symprop.explain import show as pages

    _check_show(wrt, expand, style, options)
    network, folder = find_network(net)
    derivation = differentiate(network)
    style = "json" if as_json else style
    if options["kernel"]:
        _show_kernel(derivation, options["dtype"], style)
    elif options["steps"] or options["forward"]:
        worked = _worked(derivation, folder, options) if options["numbers"] else None
        page = pages.explanation(derivation, wrt, worked, forward=options["forward"])
        _print_page(page, style)
    elif style == "html":
        click.echo(pages.formula_page(derivation, wrt, expand).html())
    elif style == "json":
        print_json(pages.as_data(derivation, wrt, expand))
    elif style == "latex":
        click.echo(pages.latex_page(derivation, wrt, expand))
    else:
        click.echo(pages.text_page(derivation, wrt, expand))


def _show_kernel(derivation: Derivation, dtype: str, style: str) -> None:
    """Print the lowered kernels, as text or as JSON."""
    from symprop.explain import kernels
    from symprop.lower import lower

    program = lower(derivation, dtype)
    if style == "json":
        print_json(kernels.as_data(program))
    else:
        click.echo(kernels.listing(program))


def _check_show(wrt: str | None, expand: bool, style: str, options: Mapping[str, Any]) -> None:
    """Raise `UsageError` for options of `show` that do not go together."""
    if options["steps"] and wrt is None:
        raise click.UsageError("--steps needs --wrt NAME: the steps lead to one variable")
    others = wrt or expand or options["steps"] or options["forward"] or options["numbers"]
    if options["kernel"] and others:
        raise click.UsageError("--kernel shows kernels, not formulas; give it alone")
    if options["kernel"] and style in ("latex", "html"):
        raise click.UsageError(f"--kernel: got --format {style}, expected text or json")
    if options["numbers"] and not (options["steps"] or options["forward"]):
        raise click.UsageError("--numbers goes with --steps or --forward")
    if expand and (options["steps"] or options["forward"]):
        raise click.UsageError("--expand shows one formula, --steps and --forward show many")
    if wrt and not options["steps"] and (options["forward"] or "[" in wrt):
        raise click.UsageError(f"--wrt {wrt}: add --steps")


def _worked(derivation: Derivation, folder: Path, options: Mapping[str, Any]) -> Worked:
    """Work the sample and the iteration that the options ask for."""
    from symprop.explain.worked import work

    data = find_data(derivation.network, folder, options.get("data_file"))
    if options["sample"] >= count_samples(data):
        raise click.UsageError(
            f"--sample {options['sample']}: the data has the samples 0 to {count_samples(data) - 1}"
        )
    sample = {name: array[options["sample"]] for name, array in data.items()}
    worked = work(derivation, sample=sample)
    for _ in range(options["iteration"] - 1):
        worked = worked.after_step()
    return worked


def _print_page(page: Page, style: str) -> None:
    """Print a page, as text in Unicode where the output can take it."""
    if style == "json":
        print_json(page.as_dict())
    elif style in ("latex", "html"):
        click.echo(page.latex() if style == "latex" else page.html())
    else:
        click.echo(page.text(unicode=_unicode()))


def _unicode() -> bool:
    """Tell whether standard output can show the signs of mathematics."""
    try:
        "∂Σ←·²…≤".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


@click.command(epilog=NET_HELP)
@net_argument
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), default=Path("report.html"),
    show_default=True, help="File to write.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite a file that symprop did not write.")
@click.option("--wrt", metavar="NAME", help="The variable whose derivative is worked in steps.")
@click.option(
    "--data", "data_file", type=click.Path(path_type=Path), metavar="FILE",
    help="CSV or .npz with the inputs and targets by name; the description's data unless given.",
)  # fmt: skip
@click.option(
    "--sample", type=click.IntRange(min=0), default=0, show_default=True,
    help="Which sample of the data is worked.",
)  # fmt: skip
@click.option(
    "--epochs", type=click.IntRange(min=0),
    help="Epochs of the training that is drawn; 0 for none. The description's unless given.",
)  # fmt: skip
@json_option
def report(net: str, output: Path, force: bool, as_json: bool, **options: Any) -> None:
    """Write a page about NET to hand out: drawing, formulas, a worked step, its training."""
    from symprop.explain.report import write

    done = _report(*find_network(net), options)
    path = write(done, output, force=force)
    if as_json:
        print_json({"name": done.title, "path": str(path)})
    else:
        click.echo(path)


@click.command()
@click.argument("place", metavar="FILE.py:LINE")
@click.option("--net", metavar="NET", help="The description, unless it comes with symprop.")
@json_option
def explain(place: str, net: str | None, as_json: bool) -> None:
    """Say which gradient a line of generated kernels belongs to, and by which rule."""
    from symprop.derivation import differentiate
    from symprop.explain.lines import explain as explain_line
    from symprop.explain.lines import find_line

    path, _, number = place.rpartition(":")
    if not path or not number.isdigit():
        raise click.UsageError(f"got {place!r}, expected FILE.py:LINE, as in kumar.py:120")
    line = find_line(path, int(number))
    found = explain_line(line, differentiate(find_network(net or line.network)[0]))
    if as_json:
        print_json(found.as_dict())
    else:
        click.echo(found)


def _report(network: Network, folder: Path, options: Mapping[str, Any]) -> Report:
    """Derive, compile, verify, work and train NETWORK, and make its report."""
    from symprop.compiler import compile
    from symprop.data import split
    from symprop.explain.report import history, report
    from symprop.verification import verify

    say(f"{network.name}: deriving, compiling and verifying")
    kernels = compile(network)
    found = verify(network, module=kernels)
    if not (network.data.samples or network.data.file or options["data_file"]):
        return report(kernels.derivation, wrt=options["wrt"], verification=found)
    worked = _worked(kernels.derivation, folder, {**options, "iteration": 1})
    data, _ = split(find_data(network, folder, options["data_file"]), network.data.test_samples)
    epochs = options["epochs"]
    if epochs is None:  # one epoch is no curve
        epochs = network.training.epochs if network.training.epochs > 1 else 100
    drawn = history(kernels, data, epochs=epochs) if epochs else None
    return report(
        kernels.derivation, worked=worked, wrt=options["wrt"], verification=found, training=drawn
    )

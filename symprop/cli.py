"""The ``symprop`` command: list, show, generate, verify, train and check networks.

Results go to standard output, messages to standard error. Exit status: 0 success,
1 the work failed (kernels that do not verify, a loss that diverges), 2 wrong usage or
a bad description, 130 interrupted. Everything but click is imported where it is
used, so that ``symprop --help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from symprop import __version__
from symprop.errors import DescriptionError, DivergenceError, OutputError, SympropError

if TYPE_CHECKING:
    from symprop.derivation import Derivation
    from symprop.explain.pages import Page
    from symprop.explain.report import Report
    from symprop.explain.worked import Worked
    from symprop.network import Network

__all__ = ["main"]

Command = TypeVar("Command", bound=Callable[..., Any])

NET_HELP = """NET is a .toml file, the name of a network that comes with symprop (see `symprop
list`), or file.py:name, a Network in Python code, which is thereby run."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; always exits through `sys.exit`."""
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


@cli.command("list")
@json_option
def list_networks(as_json: bool) -> None:
    """List the networks that come with symprop."""
    from symprop import examples

    networks = [examples.load_example(name) for name in examples.names()]
    rows = [
        {"name": net.name, "inputs": len(net.inputs), "parameters": _count_weights(net),
         "equations": len(net.equations)}
        for net in networks
    ]  # fmt: skip
    if as_json:
        _print_json(rows)
        return
    width = max(len(net.name) for net in networks)
    for row in rows:
        click.echo(
            f"{row['name']:{width}}  {row['equations']:2} equations  "
            f"{row['parameters']:5} weights and biases"
        )


@cli.command(epilog=NET_HELP)
@net_argument
@click.option(
    "--wrt", metavar="NAME",
    help='Only the derivative by this variable, or by one element as in "W1[0,1]".',
)  # fmt: skip
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

    _check_show(wrt, expand, options)
    network, folder = _network(net)
    derivation = differentiate(network)
    style = "json" if as_json else style
    if options["steps"] or options["forward"]:
        worked = _worked(derivation, folder, options) if options["numbers"] else None
        page = pages.explanation(derivation, wrt, worked, forward=options["forward"])
        _print_page(page, style)
    elif style == "html":
        click.echo(pages.formula_page(derivation, wrt, expand).html())
    elif style == "json":
        _print_json(pages.as_data(derivation, wrt, expand))
    elif style == "latex":
        click.echo(pages.latex_page(derivation, wrt, expand))
    else:
        click.echo(pages.text_page(derivation, wrt, expand))


def _check_show(wrt: str | None, expand: bool, options: Mapping[str, Any]) -> None:
    """Raise `UsageError` for options of `show` that do not go together."""
    if options["steps"] and wrt is None:
        raise click.UsageError("--steps needs --wrt NAME: the steps lead to one variable")
    if options["numbers"] and not (options["steps"] or options["forward"]):
        raise click.UsageError("--numbers goes with --steps or --forward")
    if expand and (options["steps"] or options["forward"]):
        raise click.UsageError("--expand shows one formula, --steps and --forward show many")
    if wrt and not options["steps"] and (options["forward"] or "[" in wrt):
        raise click.UsageError(f"--wrt {wrt}: add --steps")


def _worked(derivation: Derivation, folder: Path, options: Mapping[str, Any]) -> Worked:
    """Work the sample and the iteration that the options ask for."""
    from symprop.explain.worked import work

    data = _data(derivation.network, folder, options.get("data_file"))
    if options["sample"] >= _samples(data):
        raise click.UsageError(
            f"--sample {options['sample']}: the data has the samples 0 to {_samples(data) - 1}"
        )
    sample = {name: array[options["sample"]] for name, array in data.items()}
    worked = work(derivation, sample=sample)
    for _ in range(options["iteration"] - 1):
        worked = worked.after_step()
    return worked


def _print_page(page: Page, style: str) -> None:
    """Print a page, as text in Unicode where the output can take it."""
    if style == "json":
        _print_json(page.as_dict())
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


@cli.command(epilog=NET_HELP)
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

    done = _report(*_network(net), options)
    path = write(done, output, force=force)
    if as_json:
        _print_json({"name": done.title, "path": str(path)})
    else:
        click.echo(path)


@cli.command()
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
    found = explain_line(line, differentiate(_network(net or line.network)[0]))
    if as_json:
        _print_json(found.as_dict())
    else:
        click.echo(found)


def _report(network: Network, folder: Path, options: Mapping[str, Any]) -> Report:
    """Derive, compile, verify, work and train NETWORK, and make its report."""
    from symprop.compiler import compile
    from symprop.data import split
    from symprop.explain.report import history, report
    from symprop.verification import verify

    _say(f"{network.name}: deriving, compiling and verifying")
    kernels = compile(network)
    found = verify(network, module=kernels)
    if not (network.data.samples or network.data.file or options["data_file"]):
        return report(kernels.derivation, wrt=options["wrt"], verification=found)
    worked = _worked(kernels.derivation, folder, {**options, "iteration": 1})
    data, _ = split(_data(network, folder, options["data_file"]), network.data.test_samples)
    epochs = options["epochs"]
    if epochs is None:  # one epoch is no curve
        epochs = network.training.epochs if network.training.epochs > 1 else 100
    drawn = history(kernels, data, epochs=epochs) if epochs else None
    return report(
        kernels.derivation, worked=worked, wrt=options["wrt"], verification=found, training=drawn
    )


@cli.command(epilog=NET_HELP)
@net_argument
@kernel_options
@output_options
@json_option
def generate(
    net: str, dtype: str, optimizer: str | None, output: Path, force: bool, as_json: bool
) -> None:
    """Verify the kernels of NET and write them as a module to the output folder."""
    from symprop.compiler import compile, place, write
    from symprop.verification import check

    network, _ = _network(net)
    place(network, output, force=force)
    kernels = compile(network, dtype=dtype, optimizer=optimizer)
    check(kernels)
    path = write(kernels, output, force=force)
    if as_json:
        _print_json({"name": network.name, "path": str(path), "dtype": dtype})
    else:
        click.echo(path)


@cli.command(epilog=NET_HELP)
@net_argument
@kernel_options
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random points.")
@json_option
def verify(net: str, dtype: str, optimizer: str | None, seed: int, as_json: bool) -> None:
    """Compare the kernels of NET with the mathematics, evaluated with 50 digits."""
    from symprop.compiler import compile
    from symprop.verification import verify as verify_network

    network, _ = _network(net)
    kernels = compile(network, dtype=dtype, optimizer=optimizer)
    report = verify_network(network, dtype=dtype, seed=seed, module=kernels)
    if as_json:
        _print_json(report.as_dict())
    else:
        click.echo(report)
    sys.exit(0 if report.ok else 1)


@cli.command(epilog=NET_HELP)
@net_argument
@kernel_options
@output_options
@click.option(
    "--data", "data_file", type=click.Path(path_type=Path), metavar="FILE",
    help="CSV or .npz with the inputs and targets by name; the description's data unless given.",
)  # fmt: skip
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the data.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Samples an update.")
@click.option("--learning-rate", type=float, help="Step size of the optimizer.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of weights and shuffling.")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE",
    help="Another hyperparameter of the optimizer; may be repeated.",
)  # fmt: skip
@click.option(
    "--test-samples", type=click.IntRange(min=0),
    help="How many samples are kept for the test, chosen by a fixed permutation.",
)  # fmt: skip
@json_option
def train(net: str, as_json: bool, **options: Any) -> None:
    """Derive, generate, verify and train NET, then evaluate it."""
    from symprop.compiler import compile, place, write
    from symprop.data import split
    from symprop.options import check_hyperparameters
    from symprop.training import evaluate, save_parameters
    from symprop.training import train as train_network
    from symprop.verification import check
    from symprop.weights import check_place

    network, folder = _network(net)
    rates = _hyperparameters(options)
    data = _data(network, folder, options["data_file"])
    held = options["test_samples"]
    training, test = split(data, network.data.test_samples if held is None else held)
    weights = options["output"] / f"{network.name}.safetensors"
    place(network, options["output"], force=options["force"])
    check_place(weights, network, force=options["force"])
    kernels = compile(network, dtype=options["dtype"], optimizer=options["optimizer"])
    check_hyperparameters(kernels.options.optimizer, rates)
    _say(f"{network.name}: derived and compiled, verifying")
    check(kernels)
    path = write(kernels, options["output"], force=options["force"])
    _say(f"{network.name}: verified, training")
    try:
        result = train_network(
            kernels, training, epochs=options["epochs"], batch_size=options["batch_size"],
            seed=options["seed"], progress=True, **rates,
        )  # fmt: skip
    except DivergenceError as error:
        save_parameters(weights, error.state.parameters, network, force=options["force"])
        click.echo(f"the parameters before that epoch are in {weights}", err=True)
        raise
    save_parameters(weights, result.parameters, network, force=options["force"])
    report = {
        "name": network.name,
        "kernels": str(path),
        "weights": str(weights),
        "epochs": len(result.losses),
        "loss": float(result.losses[-1]) if len(result.losses) else None,
        "training": evaluate(kernels, result.parameters, training),
        "test": evaluate(kernels, result.parameters, test) if _samples(test) else None,
    }
    if as_json:
        _print_json(report)
    else:
        click.echo(_training_text(report))
    if getattr(result, "interrupted", False):
        raise KeyboardInterrupt


@cli.command(epilog=NET_HELP)
@net_argument
@json_option
def check(net: str, as_json: bool) -> None:
    """Check every number that the worked example of NET prints, and name the first wrong one.

    The numbers are the [[claims]] of the description. Exit status 1 if one is wrong.
    """
    from symprop.explain.claims import check as check_claims

    report = check_claims(_network(net)[0])
    if as_json:
        _print_json(report.as_dict())
    else:
        click.echo(report)
    sys.exit(0 if report.ok else 1)


@cli.command(epilog=NET_HELP)
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

    text = sheet(_network(net)[0], seed, answers)
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


def _training_text(report: Mapping[str, Any]) -> str:
    lines = [f"{report['name']}: {report['epochs']} epochs"]
    for part in ("training", "test"):
        if report[part] is not None:
            figures = ", ".join(f"{name} {value:.4f}" for name, value in report[part].items())
            lines.append(f"  {part:8}  {figures}")
    lines += [f"  kernels   {report['kernels']}", f"  weights   {report['weights']}"]
    return "\n".join(lines)


def _hyperparameters(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the optimizer's hyperparameters that were given on the command line."""
    found: dict[str, Any] = {}
    if options["learning_rate"] is not None:
        found["learning_rate"] = options["learning_rate"]
    for setting in options["settings"]:
        name, _, value = setting.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise click.BadParameter(
                f"got {setting!r}, expected NAME=NUMBER, such as beta1=0.95", param_hint="--set"
            ) from None
    return found


def _network(net: str) -> tuple[Network, Path]:
    """Return the network that NET names, and the folder its data files are in."""
    from symprop import description, examples

    if net in examples.names():
        path = examples.path(net)
        return description.read(path), path.parent
    if net.endswith(".toml"):
        return description.read(Path(net)), Path(net).resolve().parent
    file, colon, name = net.rpartition(":")
    if colon and file.endswith(".py"):
        return _network_in_code(Path(file), name), Path(file).resolve().parent
    raise DescriptionError(
        f"NET {net!r}: expected a .toml file, file.py:name, or one of {', '.join(examples.names())}"
    )


def _network_in_code(path: Path, name: str) -> Network:
    """Run the user's file and return the Network it calls `name`."""
    import runpy

    from symprop.network import Network

    if not path.is_file():
        raise DescriptionError(f"{path}: no such file")
    try:
        found = runpy.run_path(str(path)).get(name)
    except SympropError:
        raise
    except Exception as error:
        raise DescriptionError(f"{path}: {type(error).__name__} while it ran: {error}") from error
    if not isinstance(found, Network):
        raise DescriptionError(
            f"{path}: {name!r} is {type(found).__name__}, expected a symprop.Network"
        )
    return found


def _data(network: Network, folder: Path, file: Path | None) -> Mapping[str, Any]:
    from symprop import data

    return data.load(file, network) if file else data.embedded(network, folder)


def _samples(data: Mapping[str, Any]) -> int:
    return len(next(iter(data.values()), ()))


def _count_weights(network: Network) -> int:
    import math

    return sum(math.prod(parameter.shape) for parameter in network.parameters)


def _say(message: str) -> None:
    """Tell a person at a terminal what is going on."""
    if sys.stderr.isatty():
        click.echo(message, err=True)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))

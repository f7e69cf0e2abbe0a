"""The commands that make kernels and use them: generate, verify, train."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from symprop.cli.options import (
    NET_HELP,
    json_option,
    kernel_options,
    net_argument,
    output_options,
)
from symprop.cli.shared import count_samples, find_data, find_network, print_json, say
from symprop.errors import DivergenceError

__all__ = ["generate", "train", "verify"]


@click.command(epilog=NET_HELP)
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

    network, _ = find_network(net)
    place(network, output, force=force)
    kernels = compile(network, dtype=dtype, optimizer=optimizer)
    check(kernels)
    path = write(kernels, output, force=force)
    if as_json:
        print_json({"name": network.name, "path": str(path), "dtype": dtype})
    else:
        click.echo(path)


@click.command(epilog=NET_HELP)
@net_argument
@kernel_options
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random points.")
@json_option
def verify(net: str, dtype: str, optimizer: str | None, seed: int, as_json: bool) -> None:
    """Compare the kernels of NET with the mathematics, evaluated with 50 digits."""
    from symprop.compiler import compile
    from symprop.verification import verify as verify_network

    network, _ = find_network(net)
    kernels = compile(network, dtype=dtype, optimizer=optimizer)
    report = verify_network(network, dtype=dtype, seed=seed, module=kernels)
    if as_json:
        print_json(report.as_dict())
    else:
        click.echo(report)
    sys.exit(0 if report.ok else 1)


@click.command(epilog=NET_HELP)
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

    network, folder = find_network(net)
    rates = _hyperparameters(options)
    data = find_data(network, folder, options["data_file"])
    held = options["test_samples"]
    training, test = split(data, network.data.test_samples if held is None else held)
    weights = options["output"] / f"{network.name}.safetensors"
    place(network, options["output"], force=options["force"])
    check_place(weights, network, force=options["force"])
    kernels = compile(network, dtype=options["dtype"], optimizer=options["optimizer"])
    check_hyperparameters(kernels.options.optimizer, rates)
    say(f"{network.name}: derived and compiled, verifying")
    check(kernels)
    path = write(kernels, options["output"], force=options["force"])
    say(f"{network.name}: verified, training")
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
        "test": evaluate(kernels, result.parameters, test) if count_samples(test) else None,
    }
    if as_json:
        print_json(report)
    else:
        click.echo(_training_text(report))
    if getattr(result, "interrupted", False):
        raise KeyboardInterrupt


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

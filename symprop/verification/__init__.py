"""Verification: kernels against the mathematics, and the mathematics against itself.

Three questions are asked at random points, extreme ones included:

1. Do the kernels compute the equations? Outputs, loss and every gradient are
   compared with the oracle's evaluation of the derivation, for a batch and for a
   batch of one. The tolerance is derived: see `oracle`.
2. Are the derivation's gradients the derivatives of the network? They are compared
   with central differences of the network's own equations and, where it is small and
   scalar, with plain `sympy.diff`.
3. Does training take the right steps? Ten steps are replayed with the oracle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np

from symprop.errors import VerificationError
from symprop.network import Network
from symprop.optimizers import Optimizer, find
from symprop.options import Dtype
from symprop.verification.comparison import Row, call, compare, compare_mean, merge, parameters_of
from symprop.verification.differences import Agreement, compare_formulas
from symprop.verification.oracle import Evaluation
from symprop.verification.points import KINDS, Derived, Point, draw, kinds, terms
from symprop.verification.precise import Value, arithmetic
from symprop.verification.replay import replay, replay_long

__all__ = ["Agreement", "Report", "check", "verify", "verify_training"]

SEVERAL = 8
"""Samples of a batch that is longer than those for which kernels have another way."""

LONG = 2053
"""Samples of a long batch: a prime beyond two blocks of the kernels, so that the last is cut."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found.

    `rows` compare the kernels with the equations, `agreements` the formulas with
    derivatives found in other ways. `points` are those that could be used, `skipped`
    those where the mathematics has no finite value.
    """

    network: str
    dtype: str
    rows: tuple[Row, ...]
    agreements: tuple[Agreement, ...]
    points: tuple[str, ...]
    skipped: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything was right."""
        return not self.failures

    @property
    def failures(self) -> tuple[Row | Agreement, ...]:
        """What was wrong: formulas first, for kernels can only be as right as those."""
        parts: tuple[Row | Agreement, ...] = (*self.agreements, *self.rows)
        return tuple(part for part in parts if not part.ok)

    def check(self) -> None:
        """Raise `VerificationError` naming each quantity that is wrong, where and by how much."""
        if self.failures:
            lines = [f"network {self.network!r}: its kernels ({self.dtype}) are not right"]
            raise VerificationError("\n  ".join([*lines, *map(str, self.failures)]))

    def as_dict(self) -> dict[str, Any]:
        """Return the report as numbers, strings, lists and dictionaries."""
        rows = [asdict(row) | {"ok": row.ok, "place": list(row.place)} for row in self.rows]
        return {
            "network": self.network,
            "dtype": self.dtype,
            "ok": self.ok,
            "rows": [{k: _plain(v) for k, v in row.items()} for row in rows],
            "agreements": [asdict(part) | {"ok": part.ok} for part in self.agreements],
            "points": list(self.points),
            "skipped": list(self.skipped),
            "failures": list(map(str, self.failures)),
        }

    def __str__(self) -> str:
        """Return the report as a table."""
        return "\n".join(_lines(self))


def _plain(value: Any) -> Any:
    """Return `value` for JSON, which has neither NaN nor infinity."""
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _lines(report: Report) -> Iterator[str]:
    yield f"{report.network}, {report.dtype}: error in units of epsilon*sum|terms|"
    cells = [("", "quantity", "error", "used", "elements", "worst at")]
    for row in report.rows:
        cells.append((
            "ok" if row.ok else "WRONG", f"{row.kind} {row.name}", f"{row.error:.3g}",
            f"{100 * row.share:.3g} %", str(row.checked),
            f"{list(row.place) if row.place else ''} {row.point}".strip(),
        ))  # fmt: skip
    widths = [max(len(cell[column]) for cell in cells) for column in range(5)]
    for mark, name, *figures, at in cells:
        inside = "  ".join(f.rjust(w) for f, w in zip(figures, widths[2:], strict=True))
        yield f"  {mark:{widths[0]}}  {name:{widths[1]}}  {inside}  {at}".rstrip()
    yield "used: the largest part of the error that rounding allows, over all elements"
    for method in dict.fromkeys(part.method for part in report.agreements):
        worst = max(p.difference for p in report.agreements if p.method == method)
        count = sum(p.method == method for p in report.agreements)
        yield f"formulas against {method}: {count} derivatives, they agree to {worst:.1e}"
    left = sum(row.unchecked for row in report.rows)
    if left:
        yield (
            f"{left} comparisons were left out: an intermediate value leaves the range of "
            f"{report.dtype}, or rounding alone decides the result"
        )
    if report.skipped:
        yield f"no finite value at: {', '.join(report.skipped)}"
    yield from (f"WRONG: {failure}" for failure in report.failures)
    yield "verified" if report.ok else "NOT verified"


def check(kernels: Any, **options: Any) -> Report:
    """Verify a `CompiledModule`; raise `VerificationError` unless it is right."""
    network = kernels.derivation.network
    report = verify(network, module=kernels, **options)
    report.check()
    return report


def verify(
    network: Network,
    *,
    dtype: str = "float64",
    optimizer: str | Optimizer | None = None,
    samples: int | None = None,
    points: Sequence[str] | None = None,
    steps: int | None = None,
    seed: int = 0,
    module: Any = None,
    derivation: Derived | None = None,
) -> Report:
    """Compare the kernels of `network` with the mathematics at random points.

    `module` is what is verified: a `CompiledModule` or a generated module, then with
    the `optimizer` it was generated for; compiled here unless given. `points` are
    kinds of points (see `points`), each a batch of `samples`; `steps` training steps
    are replayed if the module has a `train`. Unless given, these are six points of three
    samples and ten steps, fewer for large networks (see `effort`). `dtype` counts only for
    a module that does not state its own. Raises `VerificationError` where a kernel fails
    to run; what is merely wrong stands in the report.
    """
    rule = find(optimizer or network.training.optimizer)
    if module is None:
        from symprop.compiler import compile as compile_network  # numba: only where it is used

        module = compile_network(network, dtype=cast(Dtype, dtype), optimizer=rule)
    _check_origin(network, module)
    derived = derivation or _derivation(network, module)
    usual = effort(derived)
    run = _Verification(
        derived,
        module,
        getattr(module, "DTYPE", dtype),
        usual.samples if samples is None else samples,
        np.random.default_rng(seed),
    )
    run.visit(usual.points if points is None else points)
    rule = module.options.optimizer if hasattr(module, "options") else rule
    run.train(rule, usual.steps if steps is None else steps)
    return run.report()


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is verified: points, samples at each, training steps."""

    points: tuple[str, ...]
    samples: int
    steps: int


def effort(derivation: Derived) -> Effort:
    """Return what keeps the verification within about half a minute.

    The oracle does about a million multiplications and additions in a second; the
    equations of a large network have some millions for each sample.
    """
    work = terms((*derivation.forward, *derivation.backward))
    steps = max(1, min(10, 1_500_000 // work))
    if work <= 500_000:
        return Effort(KINDS, 3, steps)
    return Effort(("moderate", "extreme"), 2, steps)


def _check_origin(network: Network, module: Any) -> None:
    """Raise `VerificationError` where a generated module was made from another network."""
    theirs = getattr(module, "FINGERPRINT", None)
    if theirs is not None and theirs != network.fingerprint:
        raise VerificationError(
            f"network {network.name!r}: got kernels with the fingerprint {theirs}, expected "
            f"{network.fingerprint}; they belong to other equations, generate them again"
        )


def _derivation(network: Network, module: Any) -> Derived:
    """Return the derivation that a compiled module brings along, or make it."""
    if hasattr(module, "derivation"):
        found: Derived = module.derivation
        return found
    from symprop.derivation import differentiate

    made: Derived = differentiate(network)
    return made


class _Verification:
    """One run of `verify`: collects rows point after point."""

    def __init__(
        self,
        derivation: Derived,
        module: Any,
        dtype: str,
        samples: int,
        random: np.random.Generator,
    ) -> None:
        self.derivation = derivation
        self.module = module
        self.dtype = dtype
        self.samples = samples
        self.random = random
        self.rows: list[Row] = []
        self.agreements: list[Agreement] = []
        self.used: list[str] = []
        self.skipped: list[str] = []
        self.base: tuple[Point, Evaluation] | None = None
        """The first moderate point with its values: training is replayed from it."""

    def visit(self, points: Sequence[str]) -> None:
        """Draw each point and compare there."""
        for kind, label in kinds(points):
            found = draw(self.derivation, kind, self.samples, self.dtype, self.random)
            if found is None:
                self.skipped.append(label)
                continue
            point, values = found
            self.used.append(label)
            self.rows += compare_kernels(self.derivation, self.module, point, values, label)
            if kind == "moderate":
                self.base = self.base or found
                self.agreements += compare_formulas(self.derivation, point, values, self.random)

    def train(self, rule: Optimizer, steps: int) -> None:
        """Compare training steps from the first moderate point."""
        if not steps or not hasattr(self.module, "train"):
            return
        if self.base is None:
            self.skipped.append("training")
            return
        self.rows += _compare_steps(self.derivation, self.module, rule, *self.base, steps)

    def report(self) -> Report:
        """Return what was found; raise `VerificationError` where no point could be used."""
        network = self.derivation.network
        if not self.used:
            raise VerificationError(
                f"network {network.name!r}: at none of the points {', '.join(self.skipped)} do all "
                "its equations have finite values; check for logarithms or roots of negative "
                "numbers and for divisions by zero"
            )
        return Report(
            network.name,
            self.dtype,
            merge(self.rows),
            tuple(self.agreements),
            tuple(self.used),
            tuple(self.skipped),
        )


# Kernels against the equations


def compare_kernels(
    derivation: Derived, module: Any, point: Point, values: Evaluation, label: str
) -> list[Row]:
    """Compare `forward`, `loss` and `backward` at `point`, for its batch and its first sample.

    The samples are also repeated: a few may take another way through the kernels than several,
    and these another one than more than a kernel works on at a time.
    """
    found = _compare_batch(derivation, module, point, values, label)
    if label.startswith("moderate"):
        found += _compare_long(derivation, module, point, values, label)
    else:
        found += _compare_repeated(derivation, module, point, values, label, SEVERAL)
    if point.samples == 1:
        return found
    return found + _compare_batch(
        derivation, module, *_first(point, values), f"{label}, first sample"
    )


def _first(point: Point, values: Evaluation) -> tuple[Point, Evaluation]:
    """Return a point's first sample alone, with its values."""
    alone = {
        name: value.map(lambda a: a[:1]) if len(value.exact) > 1 else value
        for name, value in values.values.items()
    }
    return point.rows([0]), Evaluation(alone)


def _compare_steps(
    derivation: Derived, module: Any, rule: Optimizer, point: Point, values: Evaluation, steps: int
) -> list[Row]:
    """Compare training steps from `point`: some with its batch, one with a sample, one with many.

    Each may take another way through the training loop.
    """
    found = replay(derivation, module, rule, point, values, steps)
    if point.samples > 1:
        found += replay(derivation, module, rule, *_first(point, values), 1)
    return found + replay_long(derivation, module, rule, point, values, LONG)


def _compare_batch(
    derivation: Derived, module: Any, point: Point, values: Evaluation, label: str
) -> list[Row]:
    network, form, n = derivation.network, arithmetic(point.dtype), point.samples
    if n > 1:
        label = f"{label}, {n} samples"
    parameters = parameters_of(module, point.parameters)
    inputs = [point.data[variable.name] for variable in network.inputs]
    outputs = call(module, "forward", label, parameters, *inputs)
    rows = [
        compare("output", name, got, _whole(values.values[name], n), label, form)
        for name, got in _named_outputs(network, outputs).items()
    ]
    return rows + _compare_means(derivation, module, point, values, label)


def _compare_means(
    derivation: Derived, module: Any, point: Point, values: Evaluation, label: str
) -> list[Row]:
    """Compare loss and gradients: `values` may hold fewer samples, which repeat in turn."""
    network, form, n = derivation.network, arithmetic(point.dtype), point.samples
    parameters = parameters_of(module, point.parameters)
    data = [point.data[variable.name] for variable in (*network.inputs, *network.targets)]
    loss = call(module, "loss", label, parameters, *data)
    again, gradients = call(module, "backward", label, parameters, *data)
    name = derivation.forward[-1].name
    losses = values.values[name]
    rows = [compare_mean("loss", name, got, losses, n, label, form) for got in (loss, again)]
    for parameter in network.parameters:
        adjoint = values.values[derivation.adjoint_name(parameter.name)]
        got = getattr(gradients, parameter.name)
        rows.append(compare_mean("gradient", parameter.name, got, adjoint, n, label, form))
    return rows


def _compare_long(
    derivation: Derived, module: Any, point: Point, values: Evaluation, label: str
) -> list[Row]:
    """Compare a batch of more samples than a kernel works on at a time: they repeat."""
    rows = _compare_repeated(derivation, module, point, values, label, LONG)
    label = f"{label}, {LONG} samples"
    return rows + _compare_means(derivation, module, point.repeated(LONG), values, label)


def _compare_repeated(
    derivation: Derived, module: Any, point: Point, values: Evaluation, label: str, count: int
) -> list[Row]:
    """Compare the last outputs of `count` samples, those of `point` in turn."""
    network, form, own = derivation.network, arithmetic(point.dtype), point.samples
    point, label = point.repeated(count), f"{label}, {count} samples"
    inputs = [point.data[variable.name] for variable in network.inputs]
    outputs = call(module, "forward", label, parameters_of(module, point.parameters), *inputs)
    last = np.arange(count)[-own:]
    rows = []
    for name, got in _named_outputs(network, outputs).items():
        expected = values.values[name].select(last % own, own)
        rows.append(compare("output", name, np.asarray(got)[last], expected, label, form))
    return rows


def _named_outputs(network: Network, outputs: Any) -> dict[str, Any]:
    if len(network.outputs) == 1:
        return {network.outputs[0]: outputs}
    return {name: getattr(outputs, name) for name in network.outputs}


def _whole(value: Value, samples: int) -> Value:
    return value.map(lambda a: np.broadcast_to(a, (samples, *a.shape[1:])))


def verify_training(
    module: Any,
    network: Network | None = None,
    *,
    optimizer: str | Optimizer | None = None,
    dtype: str = "float64",
    steps: int = 10,
    samples: int = 3,
    seed: int = 0,
) -> tuple[Row, ...]:
    """Compare `steps` training steps with the update rule, evaluated by the oracle.

    See `replay`. `network`, `optimizer` and `dtype` are needed only where `module` is not
    a `CompiledModule`.
    """
    derivation = module.derivation if network is None else _derivation(network, module)
    if hasattr(module, "options"):
        optimizer = module.options.optimizer
    dtype = getattr(module, "DTYPE", dtype)
    rule = find(optimizer or derivation.network.training.optimizer)
    found = draw(derivation, "moderate", samples, dtype, np.random.default_rng(seed))
    if found is None:
        raise VerificationError(
            f"network {derivation.network.name!r}: no point with finite values to train from"
        )
    return merge(_compare_steps(derivation, module, rule, *found, steps))

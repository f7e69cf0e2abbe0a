"""A worked example: every equation of a derivation, evaluated at one sample to 50 digits.

Numbers are taken as they are written: 0.05 is 1/20, not the nearest binary
number, so that what is printed is what a person finds by hand. The same holds for
numbers in the equations and for the optimizer's hyperparameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy
from numpy.typing import NDArray
from sympy import Basic, Idx, Indexed, Rational, Sum, Symbol

from symprop.data import check_names
from symprop.derivation import Derivation
from symprop.errors import DataError, OptionError, nearest
from symprop.functions import Normalisation, Reduction
from symprop.indices import bound_indices, rebuild, summation
from symprop.loader import load
from symprop.lower import lower
from symprop.network import Equation, Network, Variable
from symprop.optimizers import Optimizer, find
from symprop.options import Options
from symprop.render import render
from symprop.verification.oracle import evaluate
from symprop.verification.precise import MP, Value, arithmetic

__all__ = ["Worked", "decimal", "decimals", "hyperparameters", "work"]

Objects = NDArray[np.object_]
"""Numbers of type `symprop.verification.precise.MP.mpf`."""

_FORM = arithmetic("float64")


@dataclass(frozen=True, slots=True, eq=False)
class Worked:
    """All values and adjoints of one sample, and the state of the optimizer.

    `arrays` holds an array of mpf by the name of each input, target, parameter, value
    and adjoint, without an axis for samples. `step` counts the updates made so far.
    """

    derivation: Derivation
    arrays: Mapping[str, Objects] = field(repr=False)
    step: int = 0
    slots: Mapping[str, Mapping[str, Objects]] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that have a value: variables, values, the loss, then adjoints."""
        return tuple(self.arrays)

    def values(self, name: str) -> Objects:
        """Return all values of `name`, an array of its shape.

        Adjoints are called as in the equations, ``dE/dw5``. Raises `OptionError` for an
        unknown name.
        """
        if name not in self.arrays:
            raise OptionError(
                f"network {self.derivation.network.name!r}: nothing is called {name!r}"
                f"{nearest(name, self.arrays)}"
            )
        return self.arrays[name]

    def value(self, name: str, element: tuple[int, ...] = ()) -> Any:
        """Return one number: that of a scalar, or of the `element` of a tensor.

        Raises `OptionError` where there is no such element.
        """
        array = self.values(name)
        fits = len(element) == array.ndim and all(
            0 <= place < length for place, length in zip(element, array.shape, strict=True)
        )
        if not fits:
            raise OptionError(
                f"{name}: got the element {list(element)}, expected subscripts within the shape "
                f"{array.shape}" + ("" if array.ndim else ", that is none")
            )
        return array[element]

    def updated(
        self,
        name: str,
        optimizer: str | Optimizer | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, Objects]:
        """Return the new ``theta`` and the new slots of the parameter `name`.

        Without `optimizer` and `settings` those of the network's training are used.
        """
        rule = find(optimizer or self.derivation.network.training.optimizer)
        theta = self.values(name)
        gradient = self.values(self.derivation.adjoint_name(name))
        zeros = {slot: np.full(theta.shape, MP.mpf(0)) for slot in rule.slots}
        slots = self.slots.get(name, zeros)
        given = {"theta": theta, "gradient": gradient, "t": decimals(self.step + 1), **slots}
        given |= {
            key: decimals(value)
            for key, value in hyperparameters(self.derivation.network, rule, settings).items()
        }
        flat = {key: _FORM.leaf(np.ravel(array)) for key, array in given.items()}
        after = evaluate(map(decimal, rule.equations), flat).values
        return {key: _shaped(after[key], theta.shape) for key in ("theta", *rule.slots)}

    def after_step(
        self,
        optimizer: str | Optimizer | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Worked:
        """Return the same sample worked again after one update of all trainable parameters.

        `settings` are hyperparameters other than those of the network's training.
        """
        parameters = {p.name: self.arrays[p.name] for p in self.derivation.network.parameters}
        slots = dict(self.slots)
        for parameter in self.derivation.network.parameters:
            if parameter.trainable:
                after = self.updated(parameter.name, optimizer, settings)
                parameters[parameter.name] = after.pop("theta")
                slots[parameter.name] = after
        network = self.derivation.network
        data = {v.name: self.arrays[v.name] for v in (*network.inputs, *network.targets)}
        arrays = _evaluated(self.derivation, {**data, **parameters})
        return Worked(self.derivation, arrays, self.step + 1, slots)


def work(
    derivation: Derivation,
    *,
    sample: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    step: int = 0,
) -> Worked:
    """Evaluate every equation of `derivation` at one sample.

    `sample` gives a number or array to each input and target: the first sample that
    comes with the network unless given. `parameters` replaces initial values, of all
    parameters or of some; those that start at random are the ones that training starts
    from with the seed 0. `step` is how many updates have been made. Raises `DataError`
    where there is no sample, or a number or shape is missing.

    >>> from symprop.network import Network
    >>> net = Network("line")
    >>> x, t, w = net.input("x"), net.target("t"), net.parameter("w", init=0.3)
    >>> y = net.output("y", w * x)
    >>> net.loss((y - t) ** 2 / 2, name="E")
    >>> from symprop.derivation import differentiate
    >>> print(work(differentiate(net), sample={"x": 0.1, "t": 1}).value("dE/dw"))
    -0.097
    """
    network = derivation.network
    data = _sample(network) if sample is None else sample
    variables = (*network.inputs, *network.targets)
    check_names(data, [v.name for v in variables], "sample", "variable")
    given = {v.name: _fitted(v, data[v.name]) for v in variables}
    return Worked(derivation, _evaluated(derivation, given | _start(derivation, parameters)), step)


def hyperparameters(
    network: Network, rule: Optimizer, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the value of each hyperparameter of `rule`.

    That is the default, unless the network's training has its own, unless `settings` has.
    Raises `OptionError` for a setting that the rule does not know.
    """
    unknown = [name for name in settings or {} if name not in rule.hyperparameters]
    if unknown:
        raise OptionError(
            f"optimizer {rule.name!r}: unknown hyperparameter {unknown[0]!r}"
            f"{nearest(unknown[0], rule.hyperparameters)}; known are "
            f"{', '.join(rule.hyperparameters)}"
        )
    own = network.training.hyperparameters
    described = {name: value for name, value in own.items() if name in rule.hyperparameters}
    return {**rule.hyperparameters, **described, **(settings or {})}


def decimal(equation: Equation) -> Equation:
    """Return `equation` with its floating-point numbers as the decimals that they are written as.

    >>> x = Symbol("x")
    >>> print(decimal(Equation(Symbol("y"), 0.1 * x)))
    y = x/10
    """
    return Equation(equation.lhs, _decimal(equation.rhs), equation.accumulate)


def _decimal(node: Basic) -> Basic:
    if isinstance(node, sympy.Float):
        return Rational(repr(float(node)))
    if not node.args or isinstance(node, Idx | Indexed | Symbol):
        return node
    if isinstance(node, Sum):
        return summation(_decimal(node.function), bound_indices(node))
    if isinstance(node, Reduction | Normalisation):
        return node.func(_decimal(node.body), *node.args[1:])
    return rebuild(node, map(_decimal, node.args))


def _to_decimal(number: Any) -> Any:
    return MP.mpf(number) if hasattr(number, "_mpf_") else MP.mpf(str(number))


_to_decimals = np.frompyfunc(_to_decimal, 1, 1)


def decimals(numbers: Any) -> Objects:
    """Return numbers, however nested, as an array of mpf with the decimals that they print as."""
    if hasattr(numbers, "_mpf_"):  # which NumPy would take for a sequence
        return np.array(_to_decimal(numbers), dtype=object)
    array = np.asarray(numbers)
    elements = array if array.dtype.kind in "fiubOU" else array.astype(np.float64)
    return np.array(_to_decimals(elements), dtype=object)


def _sample(network: Network) -> Mapping[str, Any]:
    """Return the first sample that is embedded in the network."""
    if not network.data.samples:
        raise DataError(
            f"network {network.name!r} comes without a sample to work; give one, or add a [data] "
            "table to its description"
        )
    return {name: array[0] for name, array in network.data.samples.items()}


def _fitted(variable: Variable, numbers: Any) -> Objects:
    array = decimals(numbers)
    if array.shape != variable.shape:
        raise DataError(
            f"sample, {variable.name!r}: got the shape {array.shape}, expected {variable.shape}"
        )
    if not all(map(MP.isfinite, array.flat)):
        raise DataError(f"sample, {variable.name!r}: holds NaN or infinity")
    return array


def _start(derivation: Derivation, given: Mapping[str, Any] | None) -> dict[str, Objects]:
    """Return the value of every parameter: the one given, or the one that training starts from."""
    given = given or {}
    known = {parameter.name: parameter for parameter in derivation.network.parameters}
    for name in given:
        if name not in known:
            raise DataError(f"parameters: unknown name {name!r}{nearest(name, known)}")
    rest = [parameter for name, parameter in known.items() if name not in given]
    drawn = _drawn(derivation) if any(isinstance(p.init, str) for p in rest) else {}
    start = {p.name: drawn.get(p.name, p.init) for p in rest}
    values = {name: _fitted(known[name], value) for name, value in given.items()}
    return values | {
        name: np.broadcast_to(decimals(value), known[name].shape).copy()
        for name, value in start.items()
    }


def _drawn(derivation: Derivation) -> dict[str, Any]:
    """Return the initial parameters of the generated module, whose code is run uncompiled."""
    options = Options()
    source = render(derivation, lower(derivation, options.dtype), options)
    module = load(source, derivation.network.name, jit=False)
    return dict(module.initialize(0)._asdict())


def _evaluated(derivation: Derivation, given: Mapping[str, Objects]) -> dict[str, Objects]:
    """Return `given` and all that the equations make of it."""
    leaves = {name: _FORM.leaf(array[None]) for name, array in given.items()}
    forward = evaluate(map(decimal, derivation.forward), leaves).values
    defined = [Variable(equation.name, equation.indices) for equation in derivation.forward]
    shapes = {
        derivation.adjoint_name(variable.name): variable.shape
        for variable in (*derivation.network.variables, *defined)
    }
    values = evaluate(map(decimal, derivation.backward), forward, shapes).values
    return {name: np.asarray(value.exact[0], dtype=object) for name, value in values.items()}


def _shaped(value: Value, shape: tuple[int, ...]) -> Objects:
    size = int(np.prod(shape, dtype=int))
    return np.broadcast_to(value.exact, (size,)).reshape(shape).astype(object)

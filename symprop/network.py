"""A network: an ordered list of equations for one sample, in index notation.

`Network` is what a description file is read into and what Python code builds by
hand. It holds no layers: only indices, variables and equations. Each method
checks what it is given, so a network that exists is well formed; `Network.check`
adds what can only be seen at the end (a missing loss, a parameter never used).
"""

from __future__ import annotations

import builtins
import difflib
import hashlib
import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy
from sympy import Basic, Expr, Idx, Indexed, IndexedBase, Piecewise, Sum, Symbol
from sympy.core.parameters import distribute

from symprop import functions
from symprop.equation import Equation, name_of
from symprop.errors import NetworkError
from symprop.formulas import aligned
from symprop.indices import (
    accesses,
    bound_indices,
    free_indices,
    index_name,
    rebuild,
    size,
    summation,
    where,
)
from symprop.ranges import subscript_range

__all__ = ["Claim", "Data", "Equation", "Network", "Parameter", "Training", "Variable"]

INITIALIZERS = (
    "glorot_uniform", "glorot_normal", "he_uniform", "he_normal",
    "lecun_uniform", "lecun_normal", "zeros", "ones",
)  # fmt: skip
"""The initialisers a parameter may name."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

_MODULE_NAMES = (
    "Parameters Outputs State DivergenceError initialize forward loss backward train start resume "
    "parameters state inputs targets epochs batch_size seed shuffle callback threads count index "
    "math np njit numba overload real maximum minimum"
)
_LANGUAGE_NAMES = "sum mean pi where"
RESERVED = frozenset(
    (
        *f"{_MODULE_NAMES} {_LANGUAGE_NAMES}".split(),
        *functions.FUNCTIONS,
        *functions.__all__,
        *dir(builtins),
    )
)
"""Names that no variable or index may have; Python's keywords come on top."""

Value = float | tuple[Any, ...]
"""A number or nested tuples of numbers, rectangular."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A named scalar or tensor; the batch is not part of its shape."""

    name: str
    indices: tuple[Idx, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of values of each index."""
        return tuple(map(size, self.indices))

    @property
    def symbol(self) -> Symbol | IndexedBase:
        """What Python code writes for the variable: a symbol, or a base to be subscripted."""
        if not self.indices:
            return Symbol(self.name, real=True)
        return IndexedBase(self.name, real=True)

    @property
    def access(self) -> Symbol | Indexed:
        """The variable at its own indices, ``W[i, j]``; a symbol where there are none."""
        return self.symbol[self.indices] if self.indices else self.symbol


@dataclass(frozen=True, slots=True)
class Parameter(Variable):
    """A weight or bias: `init` is a value or the name of an initialiser."""

    init: Value | str = 0.0
    trainable: bool = True


@dataclass(frozen=True, slots=True)
class Training:
    """How `train` trains unless it is told otherwise."""

    optimizer: str = "adam"
    batch_size: int = 32
    epochs: int = 100
    seed: int = 0
    shuffle: bool = True
    hyperparameters: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Data:
    """The samples that come with a network.

    `samples` maps a variable's name to an array whose first axis counts the
    samples; or `file` names a file beside the description. The last
    `test_samples` samples of a fixed permutation are kept for the test.
    """

    samples: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    test_samples: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """A number that a worked example prints, to be checked against the mathematics.

    `quantity` says which one, in the language of `symprop.quantities`; `printed` is the
    number as it is printed, a string, or nested tuples of strings for a tensor; "" is one
    to be filled in. `where` is the place in the document, `after` the number of updates
    of the parameters that were made before.
    """

    quantity: str
    printed: str | tuple[Any, ...] = ""
    where: str = ""
    after: int = 0


class Network:
    """A network under construction, and the network itself once it has a loss.

    >>> net = Network("line")
    >>> x, t = net.input("x"), net.target("t")
    >>> w, b = net.parameter("w", init=1), net.parameter("b")
    >>> y = net.output("y", w * x + b)
    >>> net.loss((y - t) ** 2 / 2)
    >>> [str(equation) for equation in net.equations]
    ['y = w*x + b', 'L = (y - t)**2/2']
    """

    def __init__(self, name: str = "network") -> None:
        if not _NAME.fullmatch(name) or keyword.iskeyword(name):
            raise NetworkError(
                f"network name {name!r}: expected letters, digits and underscores, starting with "
                "a letter, and no Python keyword; it becomes the name of a module"
            )
        self.name = name
        self.indices: tuple[Idx, ...] = ()
        self.inputs: tuple[Variable, ...] = ()
        self.targets: tuple[Variable, ...] = ()
        self.parameters: tuple[Parameter, ...] = ()
        self.outputs: tuple[str, ...] = ()
        self.definitions: tuple[Equation, ...] = ()
        self.objective: Equation | None = None
        self.training = Training()
        self.data = Data()
        self.claims: tuple[Claim, ...] = ()

    def index(self, name: str, size: int) -> Idx:
        """Return a new index that runs over 0, ..., size - 1."""
        self._check_name(name, f"index {name!r}")
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
            raise NetworkError(f"index {name!r}: got the size {size!r}, expected an integer >= 1")
        index = Idx(Symbol(name, integer=True), int(size))
        self.indices += (index,)
        return index

    def input(self, name: str, *indices: Idx) -> Symbol | IndexedBase:
        """Declare an input; return a symbol, or with `indices` a base to be subscripted."""
        variable = self._variable(name, indices, "input")
        self.inputs += (variable,)
        return variable.symbol

    def target(self, name: str, *indices: Idx) -> Symbol | IndexedBase:
        """Declare a target: data that only the loss needs."""
        variable = self._variable(name, indices, "target")
        self.targets += (variable,)
        return variable.symbol

    def parameter(
        self,
        name: str,
        *indices: Idx,
        init: float | str | Iterable[Any] = 0.0,
        trainable: bool = True,
    ) -> Symbol | IndexedBase:
        """Declare a parameter.

        `init` is a number, nested lists of the parameter's shape, or one of the
        names in `INITIALIZERS`. A parameter that is not `trainable` has a gradient
        like any other but is left alone by training.
        """
        variable = self._variable(name, indices, "parameter")
        value = _initial_value(name, init, variable.shape)
        self.parameters += (Parameter(name, variable.indices, value, trainable),)
        return variable.symbol

    def define(self, name: str, expression: Expr | float, *indices: Idx) -> Symbol | IndexedBase:
        """Add the equation ``name[indices] = expression``."""
        variable = self._variable(name, indices, "equation")
        rhs = self._checked(expression, variable.indices, f"equation {_subscripted(variable)!r}")
        self.definitions += (Equation(variable.access, rhs),)
        return variable.symbol

    def output(
        self, name: str, expression: Expr | float | None = None, *indices: Idx
    ) -> Symbol | IndexedBase:
        """Mark an equation as an output, defining it first where `expression` is given."""
        if expression is not None:
            self.define(name, expression, *indices)
        if name not in {equation.name for equation in self.definitions}:
            raise NetworkError(
                f"output {name!r}: no equation defines it{self._nearest(name)}; "
                "give its expression or define it first"
            )
        if name in self.outputs:
            raise NetworkError(f"output {name!r} is declared twice")
        self.outputs += (name,)
        return self.variable(name).symbol

    def loss(self, expression: Expr | float, name: str = "") -> None:
        """Set the loss of one sample; the loss of a batch is the mean over its samples.

        `name` is what formulas call it: ``L`` unless given (``loss`` where an ``L``
        exists).
        """
        if self.objective is not None:
            raise NetworkError(
                f"loss: the network has one already, {self.objective}; add the two expressions"
            )
        if name:
            self._check_name(name, f"loss {name!r}")
        rhs = self._checked(expression, (), "loss")
        chosen = name or ("loss" if "L" in self.names else "L")
        self.objective = Equation(Symbol(chosen, real=True), rhs)

    def _repr_latex_(self) -> str:
        """Return the equations for a notebook."""
        return aligned(self.equations)

    @property
    def equations(self) -> tuple[Equation, ...]:
        """All equations in order, the loss last."""
        return self.definitions + (() if self.objective is None else (self.objective,))

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Inputs, targets, parameters and defined values, in this order; without the loss."""
        defined = tuple(Variable(eq.name, eq.indices) for eq in self.definitions)
        return self.inputs + self.targets + self.parameters + defined

    @property
    def names(self) -> frozenset[str]:
        """Every name in use: variables, indices and the loss."""
        loss = () if self.objective is None else (self.objective.name,)
        return frozenset((*(v.name for v in self.variables), *map(index_name, self.indices), *loss))

    def variable(self, name: str) -> Variable:
        """Return the variable called `name`; raise `NetworkError` where there is none."""
        known = self._known
        if name not in known:
            raise NetworkError(f"network {self.name!r}: no variable {name!r}{self._nearest(name)}")
        return known[name]

    @property
    def _known(self) -> dict[str, Variable]:
        """The variables by their names."""
        return {variable.name: variable for variable in self.variables}

    @property
    def index_inputs(self) -> dict[str, int]:
        """Inputs and targets used as subscripts, with the size of the smallest such axis.

        They hold integers: ``E[token[s], d]`` reads row ``token[s]`` of ``E``, and
        ``-log(p[label])`` is the cross-entropy of the class ``label``.
        """
        known = self._known
        sizes: dict[str, int] = {}
        for equation in self.equations:
            for read, _ in _reads(equation.rhs):
                for subscript, length in zip(*_axes(read, known), strict=True):
                    for leaf in accesses(subscript):
                        name = name_of(leaf)
                        sizes[name] = min(length, sizes.get(name, length))
        return sizes

    def check(self) -> None:
        """Raise `NetworkError` unless the network is complete: a loss, every parameter used."""
        problems = self.problems()
        if problems:
            raise NetworkError("\n".join(problems))

    def problems(self) -> list[str]:
        """Return what can only be said of the whole network; [] where it is complete."""
        found = []
        if self.objective is None:
            found.append(f"network {self.name!r} has no loss; add one with loss(...)")
        read = {name_of(leaf) for equation in self.equations for leaf in accesses(equation.rhs)}
        found += [
            f"parameter {parameter.name!r} is used in no equation; use it or remove it"
            for parameter in self.parameters
            if parameter.name not in read
        ]
        return found + self._unspanned()

    def _unspanned(self) -> list[str]:
        """Report axes that are only ever read in part, by an index that is too short."""
        known = self._known
        short: dict[tuple[str, int], str] = {}
        shifted: set[tuple[str, int]] = set()
        for equation in self.equations:
            for access in equation.rhs.atoms(Indexed):
                shape = known[name_of(access)].shape
                for axis, (subscript, length) in enumerate(zip(access.indices, shape, strict=True)):
                    place = (name_of(access), axis)
                    if not isinstance(subscript, Idx):
                        shifted.add(place)
                    elif size(subscript) < length:
                        short.setdefault(
                            place,
                            f"equation {equation.name!r}: {access} reads only {size(subscript)} of "
                            f"the {length} values of axis {axis}: index "
                            f"{index_name(subscript)!r} is too short for it",
                        )
        return [message for place, message in short.items() if place not in shifted]

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that two networks share only if their equations are equal."""
        self.check()
        parts = [self.name]
        parts += [f"{v.name}{v.shape}" for v in (*self.inputs, *self.targets, *self.parameters)]
        with distribute(True):  # whatever the caller has SymPy do, the formulas print alike
            parts += [f"{equation} {[*map(size, equation.indices)]}" for equation in self.equations]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def _variable(self, name: str, indices: Iterable[Idx], kind: str) -> Variable:
        indices = tuple(indices)
        self._check_name(name, f"{kind} {name!r}")
        for index in indices:
            if index not in self.indices:
                raise NetworkError(
                    f"{kind} {name!r}: got {index!r} as an index, expected one made by "
                    f"index(...){self._nearest(str(index))}"
                )
        if len(set(indices)) < len(indices):
            raise NetworkError(
                f"{kind} {name!r}: an index occurs twice in {list(indices)}; "
                "define a second index of the same size"
            )
        return Variable(name, indices)

    def _check_name(self, name: str, subject: str) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise NetworkError(
                f"{subject}: expected letters, digits and underscores, starting with a letter"
            )
        if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in RESERVED:
            raise NetworkError(
                f"{subject}: the name is reserved (Python, or the generated module, uses it); "
                "choose another"
            )
        if name in self.names:
            raise NetworkError(f"{subject}: the name is taken already; choose another")

    def _nearest(self, name: str) -> str:
        others = sorted(self.names - {name})
        close = difflib.get_close_matches(name, others, n=2, cutoff=0.5)
        return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""

    def _checked(self, expression: Expr | float, indices: tuple[Idx, ...], subject: str) -> Expr:
        """Return the expression with every sum over full ranges; raise where it does not fit."""
        try:
            rhs = sympy.sympify(expression, strict=True)
        except sympy.SympifyError:
            raise NetworkError(
                f"{subject}: got {type(expression).__name__} {expression!r}, expected a SymPy "
                "expression or a number"
            ) from None
        if not isinstance(rhs, Expr):
            raise NetworkError(f"{subject}: got {rhs}, expected a number-valued expression")
        rhs = _full_sums(self._own(rhs))
        if rhs.has(sympy.nan, sympy.zoo, sympy.I, sympy.oo, -sympy.oo):
            raise NetworkError(f"{subject}: the expression is not a real number: {rhs}")
        foreign = sorted(map(str, rhs.atoms(Idx).difference(self.indices)))
        if foreign:
            raise NetworkError(
                f"{subject}: got {', '.join(foreign)} as an index, expected one made by index(...)"
            )
        unbound = [index for index in free_indices(rhs) if index not in indices]
        if unbound:
            names = ", ".join(repr(index_name(index)) for index in unbound)
            raise NetworkError(
                f"{subject}: index {names} is free in the expression but not on the left; "
                "sum over it or add it to the left"
            )
        self._check_accesses(rhs, subject)
        return rhs

    def _check_accesses(self, rhs: Expr, subject: str) -> None:
        known = self._known
        for leaf in accesses(rhs):
            name = name_of(leaf)
            if name not in known:
                raise NetworkError(
                    f"{subject}: unknown name {name!r}{self._nearest(name)}; "
                    "declare or define it before it is used"
                )
            rank = len(leaf.indices) if isinstance(leaf, Indexed) else 0
            shape = known[name].shape
            if rank != len(shape):
                raise NetworkError(
                    f"{subject}: {leaf} has {rank} subscripts, expected {len(shape)} as in "
                    f"{known[name].access}"
                )
        data = {variable.name for variable in self.inputs + self.targets}
        for read, conditions in _reads(rhs):
            for axis, (subscript, length) in enumerate(zip(*_axes(read, known), strict=True)):
                place = f"{subject}: {read} reads axis {axis}"
                if accesses(subscript):
                    _check_value(subscript, data, place)
                else:
                    _check_range(subscript, length, conditions, place)

    def _own(self, rhs: Expr) -> Expr:
        """Replace symbols that have only the name of a variable by the variable's own symbol."""
        known = {variable.name: variable.symbol for variable in self.variables}
        read = {(leaf.base if isinstance(leaf, Indexed) else leaf) for leaf in accesses(rhs)}
        own = {symbol: known.get(str(symbol), symbol) for symbol in read}
        same_kind = {old: new for old, new in own.items() if isinstance(new, type(old))}
        return rhs.xreplace({old: new for old, new in same_kind.items() if old != new})


def _subscripted(variable: Variable) -> str:
    inside = ",".join(map(index_name, variable.indices))
    return f"{variable.name}[{inside}]" if inside else variable.name


def _initial_value(name: str, init: Any, shape: tuple[int, ...]) -> Value | str:
    if isinstance(init, str):
        if init not in INITIALIZERS:
            close = difflib.get_close_matches(init, INITIALIZERS, n=1, cutoff=0.0)[0]
            raise NetworkError(
                f"parameter {name!r}: unknown initialiser {init!r}; did you mean {close!r}? "
                f"Known: {', '.join(INITIALIZERS)}"
            )
        return init
    try:
        array = np.asarray(init, dtype=np.float64)
    except OverflowError:
        raise NetworkError(
            f"parameter {name!r}: the initial value holds an integer beyond the largest float, "
            "1.8e308"
        ) from None
    except (TypeError, ValueError):
        raise NetworkError(
            f"parameter {name!r}: got the value {init!r}, expected a number, nested lists of "
            f"numbers of shape {shape}, or the name of an initialiser"
        ) from None
    if not np.isfinite(array).all():
        raise NetworkError(f"parameter {name!r}: the initial value holds NaN or infinity")
    if array.ndim and array.shape != shape:
        raise NetworkError(
            f"parameter {name!r}: got an initial value of shape {array.shape}, expected {shape}"
        )
    return _as_tuples(array.tolist())


def _as_tuples(value: Any) -> Value:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _full_sums(expression: Basic) -> Basic:
    """Turn the bounds of partial sums into conditions, so that every sum runs a full range."""
    if not expression.args or isinstance(expression, Idx | Indexed | Symbol):
        return expression
    parts = [
        part if isinstance(part, sympy.Tuple | IndexedBase) else _full_sums(part)
        for part in expression.args
    ]
    if not isinstance(expression, Sum):
        bound = bound_indices(expression)
        return expression.func(*parts) if bound else rebuild(expression, parts)
    body: Expr = parts[0]
    done: list[Idx] = []
    guards: list[Basic] = []
    for index, low, high in expression.limits:
        if not isinstance(index, Idx):
            raise NetworkError(
                f"the sum {expression} runs over {index}, expected an index made by index(...)"
            )
        edges = low.free_symbols | high.free_symbols | {index}
        if not edges.isdisjoint(done):
            body, done, guards = _guarded_sum(body, done, guards), [], []
        done.append(index)
        guards += [index >= low] if low != 0 else []
        guards += [index <= high] if high != index.upper else []
    return _guarded_sum(body, done, guards)


def _guarded_sum(body: Expr, indices: list[Idx], guards: list[Basic]) -> Expr:
    """Sum `body` over the full ranges of `indices`, where all `guards` hold."""
    return summation(where(body, sympy.And(*guards)), indices)


def _axes(read: Expr, known: Mapping[str, Variable]) -> tuple[tuple[Expr, ...], tuple[int, ...]]:
    """Return the subscripts of a read and the sizes of the axes that they run over."""
    if isinstance(read, functions.Normalisation):
        return (read.at,), (size(read.bound[0]),)
    return tuple(read.indices), known[name_of(read)].shape


def _reads(expression: Basic, conditions: tuple[Basic, ...] = ()) -> list[tuple[Expr, Any]]:
    """Return each read at subscripts with the conditions under which it takes place.

    That is every tensor access, and every normalisation, which is read at its position.
    """
    if isinstance(expression, functions.Normalisation):
        return [(expression, conditions), *_reads(expression.body, conditions)]
    if isinstance(expression, Indexed):
        inner = [read for part in expression.indices for read in _reads(part, conditions)]
        return [(expression, conditions), *inner]
    if isinstance(expression, Piecewise):
        found = []
        for value, condition in (pair.args for pair in expression.args):
            found += _reads(condition, conditions)
            found += _reads(value, (*conditions, condition))
            conditions = (*conditions, sympy.Not(condition))
        return found
    return [read for part in expression.args for read in _reads(part, conditions)]


def _check_value(subscript: Expr, data: set[str], place: str) -> None:
    """Raise unless `subscript` is one value of the data, whose range is checked there."""
    if not isinstance(subscript, Symbol | Indexed) or name_of(subscript) not in data:
        raise NetworkError(
            f"{place} at {subscript}, expected an expression of indices, or one value of an "
            "input or target, which then holds integers"
        )


def _check_range(subscript: Expr, length: int, conditions: Any, place: str) -> None:
    """Raise unless `subscript` is an integer from 0 to `length` - 1 where `conditions` hold."""
    if not subscript.is_integer:
        raise NetworkError(
            f"{place} at {subscript}, which need not be an integer; write floor({subscript})"
        )
    low, high = subscript_range(subscript, conditions)
    if low < 0 or high >= length:
        raise NetworkError(
            f"{place} at {low} to {high}, expected 0 to {length - 1}; use an index of that size, "
            "or read it only where it exists: Piecewise((..., condition), (0, True)), in a file "
            "(... if condition else 0)"
        )

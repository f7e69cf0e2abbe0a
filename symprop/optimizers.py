"""Optimizers as update rules: SymPy equations that are printed and compiled like a network.

A rule is written for one element of one parameter. It knows the symbols ``theta``
(the parameter), ``gradient`` (of the mean loss), ``t`` (the number of the step, 1 for
the first), its slots (numbers that it keeps for each element from step to step, 0 at the
start) and its hyperparameters. The equations are evaluated in order: that of a slot gives
its new value, which the later equations read; the last one gives the new ``theta``.

The six rules follow the conventions of PyTorch, as noted at each.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from types import MappingProxyType
from typing import Any

import sympy
from sympy import Expr, Symbol, sqrt

from symprop.errors import OptionError, nearest
from symprop.formulas import text
from symprop.network import RESERVED, Equation

__all__ = ["OPTIMIZERS", "Optimizer", "find", "is_number"]

_BUILTIN = ("theta", "gradient", "t")

_TAKEN = RESERVED | {"data", "kernels", "validation", "patience", "progress"}
"""What a hyperparameter, a keyword argument of training, may not be called."""


@dataclass(frozen=True, slots=True)
class Optimizer:
    """An update rule; see the module's text for its symbols and the order of its equations.

    `hyperparameters` gives each hyperparameter its default. `doc` says where the rule
    comes from. Symbols are matched by name, whatever their assumptions. Raises
    `OptionError`, with all that is wrong, unless the equations make a rule.

    >>> theta, gradient, rate = sympy.symbols("theta gradient rate")
    >>> step = Equation(theta, theta - rate * sympy.sign(gradient))
    >>> print(Optimizer("sign_descent", {"rate": 0.01}, (), (step,)))
    sign_descent(rate=0.01)
      theta = theta - rate*sign(gradient)
    """

    name: str
    hyperparameters: Mapping[str, float] = field(hash=False)
    slots: tuple[str, ...]
    equations: tuple[Equation, ...]
    doc: str = ""

    def __post_init__(self) -> None:
        problems = [*self._name_problems(), *self._equation_problems()]
        if problems:
            raise OptionError("\n".join(f"optimizer {self.name!r}: {line}" for line in problems))
        values = {key: float(value) for key, value in self.hyperparameters.items()}
        object.__setattr__(self, "hyperparameters", MappingProxyType(values))
        object.__setattr__(self, "slots", tuple(self.slots))
        object.__setattr__(self, "equations", tuple(map(_real, self.equations)))

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.name, dict(self.hyperparameters), self.slots, self.equations, self.doc)
        return (Optimizer, fields)

    def __str__(self) -> str:
        """Return the rule as formulas, one a line."""
        defaults = ", ".join(f"{key}={value:g}" for key, value in self.hyperparameters.items())
        lines = [f"{self.name}({defaults})", *(f"  {text(eq)}" for eq in self.equations)]
        return "\n".join([*lines, *(f"  {line}" for line in self.doc.splitlines())])

    def _name_problems(self) -> list[str]:
        found = [] if _is_name(self.name) else ["expected a Python name as its name"]
        for kind, names in (("hyperparameter", self.hyperparameters), ("slot", self.slots)):
            for name in names:
                if not _is_name(name) or name in _TAKEN or name in _BUILTIN:
                    found.append(
                        f"{kind} {name!r}: the name is reserved or no Python name; choose another"
                    )
        found += [
            f"{name!r} is a slot and a hyperparameter, or a slot twice; rename one"
            for name in dict.fromkeys(self.slots)
            if name in self.hyperparameters or self.slots.count(name) > 1
        ]
        return found + [
            f"hyperparameter {name!r}: got the default {value!r}, expected a finite number"
            for name, value in self.hyperparameters.items()
            if not is_number(value)
        ]

    def _equation_problems(self) -> list[str]:
        defined = [str(equation.lhs) for equation in self.equations]
        found = [
            f"slot {slot!r} has {defined.count(slot)} equations; give it exactly one"
            for slot in self.slots
            if defined.count(slot) != 1
        ]
        if defined.count("theta") != 1 or defined[-1] != "theta":
            found.append(
                f"got equations for {', '.join(defined) or 'nothing'}; the last one, and only "
                "that, must give the new theta"
            )
        for equation in self.equations:
            found += self._rhs_problems(equation)
        return found

    def _rhs_problems(self, equation: Equation) -> list[str]:
        subject = f"equation {equation}"
        if str(equation.lhs) not in ("theta", *self.slots) or equation.accumulate:
            return [f"{subject}: its left side is neither theta nor a slot; declare the slot"]
        if not isinstance(equation.rhs, Expr) or equation.rhs.has(sympy.nan, sympy.zoo, sympy.I):
            return [f"{subject}: its right side is no real expression"]
        known = {*_BUILTIN, *self.slots, *self.hyperparameters}
        unknown = sorted(str(s) for s in equation.rhs.free_symbols if str(s) not in known)
        return [
            f"{subject}: unknown name {name!r}{nearest(name, known)}; known are "
            f"{', '.join(sorted(known))}"
            for name in unknown
        ]


def is_number(value: object) -> bool:
    """Tell whether `value` is a finite real number, and not a truth value."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def find(optimizer: str | Optimizer) -> Optimizer:
    """Return the optimizer of that name, or `optimizer` itself if it is one.

    Raises `OptionError` where the name is unknown.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str) or optimizer not in OPTIMIZERS:
        raise OptionError(
            f"unknown optimizer {optimizer!r}{nearest(str(optimizer), OPTIMIZERS)}; known are "
            f"{', '.join(OPTIMIZERS)}, or give an Optimizer of your own"
        )
    return OPTIMIZERS[optimizer]


def _is_name(name: object) -> bool:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        return False
    return not keyword.iskeyword(name) and not keyword.issoftkeyword(name)


def _real(equation: Equation) -> Equation:
    """Return the equation in real symbols, so that equal names are equal symbols."""
    symbols = equation.rhs.free_symbols
    renamed = {symbol: Symbol(str(symbol), real=True) for symbol in symbols}
    return Equation(Symbol(str(equation.lhs), real=True), equation.rhs.xreplace(renamed))


def _rule(
    name: str, hyperparameters: dict[str, float], equations: dict[Symbol, Expr], doc: str
) -> Optimizer:
    slots = tuple(str(symbol) for symbol in equations if symbol is not theta)
    return Optimizer(
        name, hyperparameters, slots, tuple(Equation(*pair) for pair in equations.items()), doc
    )


theta, gradient, t = sympy.symbols("theta gradient t", real=True)
velocity, m, v = sympy.symbols("velocity m v", real=True)
learning_rate, momentum, decay = sympy.symbols("learning_rate momentum decay", real=True)
beta1, beta2, epsilon = sympy.symbols("beta1 beta2 epsilon", real=True)
weight_decay = Symbol("weight_decay", real=True)

_MOMENTS = {
    m: beta1 * m + (1 - beta1) * gradient,
    v: beta2 * v + (1 - beta2) * gradient**2,
}
_ADAM_STEP = (
    learning_rate * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + epsilon)
)  # epsilon stands outside the square root of the corrected v, as in the paper's Algorithm 1

_RULES = (
    _rule(
        "sgd",
        {"learning_rate": 0.01},
        {theta: theta - learning_rate * gradient},
        "Stochastic gradient descent: Robbins and Monro (1951), A stochastic approximation method.",
    ),
    _rule(
        "momentum",
        {"learning_rate": 0.01, "momentum": 0.9},
        {velocity: momentum * velocity + gradient, theta: theta - learning_rate * velocity},
        "Heavy ball: Polyak (1964). The learning rate multiplies the velocity when it is used,\n"
        "not when it is gathered (PyTorch's SGD with momentum, dampening 0).",
    ),
    _rule(
        "nesterov",
        {"learning_rate": 0.01, "momentum": 0.9},
        {
            velocity: momentum * velocity + gradient,
            theta: theta - learning_rate * (gradient + momentum * velocity),
        },
        "Accelerated gradient: Nesterov (1983), in the form of Sutskever et al. (2013), On the\n"
        "importance of initialization and momentum in deep learning (PyTorch's nesterov=True).",
    ),
    _rule(
        "rmsprop",
        {"learning_rate": 0.01, "decay": 0.99, "epsilon": 1e-8},
        {
            v: decay * v + (1 - decay) * gradient**2,
            theta: theta - learning_rate * gradient / (sqrt(v) + epsilon),
        },
        "Tieleman and Hinton (2012), Neural networks for machine learning, lecture 6.5; epsilon\n"
        "outside the square root (PyTorch's RMSprop, whose alpha is the decay).",
    ),
    _rule(
        "adam",
        {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
        {**_MOMENTS, theta: theta - _ADAM_STEP},
        "Kingma and Ba (2015), Adam: a method for stochastic optimization, Algorithm 1.",
    ),
    _rule(
        "adamw",
        {
            "learning_rate": 0.001,
            "beta1": 0.9,
            "beta2": 0.999,
            "epsilon": 1e-8,
            "weight_decay": 0.01,
        },
        {**_MOMENTS, theta: theta - learning_rate * weight_decay * theta - _ADAM_STEP},
        "Loshchilov and Hutter (2019), Decoupled weight decay regularization; the decay is\n"
        "multiplied by the learning rate (PyTorch's AdamW).",
    ),
)

OPTIMIZERS: dict[str, Optimizer] = {rule.name: rule for rule in _RULES}
"""The optimizers that come with symprop, by name."""

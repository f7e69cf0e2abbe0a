"""The functions of neural networks as SymPy functions, with derivatives in stable form.

A raw SymPy derivative such as that of ``log(1 + exp(z))`` overflows at 1000. The
functions here are atoms to SymPy: each declares its derivative (`fdiff`) in a
form that is right over the whole floating-point range, and its mathematical
meaning in SymPy's elementary functions (`definition`), by which it is checked.

Two kinds exist. Element-wise functions take numbers. Reductions (`logsumexp`,
`reduce_max`, ...) take an expression and the indices that they run over and
*bind* those indices, as `sympy.Sum` does; `softmax` and `log_softmax` are the
value at one position, normalised over the bound index.

Kinks: ``relu'(0) = step(0) = 0``, ``leaky_relu'(0) = slope``, ``elu'(0) = alpha``,
``abs'(0) = sign(0) = 0``. Where several arguments of a maximum or minimum tie, each
gets an equal share of the derivative.
"""

from __future__ import annotations

from typing import Any, ClassVar

import sympy
from sympy import Eq, Expr, Function, Idx, Integer, Piecewise, Rational, Sum, exp, log
from sympy.codegen.cfunctions import expm1, log1p

__all__ = [
    "ELEMENTWISE",
    "FUNCTIONS",
    "REDUCTIONS",
    "Normalisation",
    "Reduction",
    "elu",
    "expm1",
    "gelu",
    "leaky_relu",
    "log1p",
    "log_softmax",
    "logsumexp",
    "normal_cdf",
    "reduce_max",
    "reduce_min",
    "relu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "step",
]


class Elementwise(Function):
    """A real function of real numbers with a declared, stable derivative."""

    def _eval_is_extended_real(self) -> bool:
        return True

    def definition(self) -> Expr:
        """Return the function in SymPy's elementary functions."""
        raise NotImplementedError

    def product(self) -> Expr:
        """Return the function as a product with one that its derivative needs; itself if none."""
        return self


class step(Elementwise):
    """1 where z > 0, otherwise 0; so the derivative of `relu` at 0 is 0."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return Integer(0)

    def definition(self) -> Expr:
        return Piecewise((1, self.args[0] > 0), (0, True))


class sigmoid(Elementwise):
    """1/(1 + e^-z), the logistic function.

    Computed from e^-|z|, which cannot overflow.
    """

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return self * (1 - self)

    def definition(self) -> Expr:
        return 1 / (1 + exp(-self.args[0]))


class softplus(Elementwise):
    """log(1 + e^z), the smooth rectifier.

    Computed as max(z, 0) + log1p(e^-|z|), which cannot overflow.
    Source: Dugas et al. (2001), "Incorporating second-order functional
    knowledge for better option pricing".
    """

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return sigmoid(self.args[0])

    def definition(self) -> Expr:
        return log(1 + exp(self.args[0]))


class relu(Elementwise):
    """max(z, 0), the rectifier; its derivative at 0 is 0."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return step(self.args[0])

    def definition(self) -> Expr:
        return Piecewise((self.args[0], self.args[0] > 0), (0, True))


class _Sloped(Elementwise):
    """A rectifier with a second argument that has a default."""

    nargs = 2
    default: ClassVar[Expr]

    def __new__(cls, z: Expr, parameter: Expr | float | None = None, **options: bool) -> Expr:
        return super().__new__(cls, z, cls.default if parameter is None else parameter, **options)


class leaky_relu(_Sloped):
    """z where z > 0, otherwise slope*z; the slope is 1/100 unless given.

    Source: Maas, Hannun and Ng (2013), "Rectifier nonlinearities improve neural
    network acoustic models". With a parameter as slope it is the PReLU.
    """

    default = Rational(1, 100)

    def fdiff(self, argindex: int = 1) -> Expr:
        z, slope = self.args
        if argindex == 1:
            return Piecewise((1, z > 0), (slope, True))
        return Piecewise((0, z > 0), (z, True))

    def definition(self) -> Expr:
        z, slope = self.args
        return Piecewise((z, z > 0), (slope * z, True))


class elu(_Sloped):
    """z where z > 0, otherwise alpha*(e^z - 1); alpha is 1 unless given.

    Source: Clevert, Unterthiner and Hochreiter (2016), "Fast and accurate deep
    network learning by exponential linear units".
    """

    default = Integer(1)

    def fdiff(self, argindex: int = 1) -> Expr:
        z, alpha = self.args
        if argindex == 1:
            return Piecewise((1, z > 0), (self + alpha, True))
        return Piecewise((0, z > 0), (expm1(z), True))

    def definition(self) -> Expr:
        z, alpha = self.args
        return Piecewise((z, z > 0), (alpha * (exp(z) - 1), True))


class normal_cdf(Elementwise):
    """The distribution function of the standard normal law, erfc(-z/sqrt(2))/2."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        return exp(-(self.args[0] ** 2) / 2) / sympy.sqrt(2 * sympy.pi)

    def definition(self) -> Expr:
        return sympy.erfc(-self.args[0] / sympy.sqrt(2)) / 2


class _Gated(Elementwise):
    """The argument times a function of it, its gate."""

    nargs = 1
    gate: ClassVar[type[Elementwise]]

    def definition(self) -> Expr:
        return self.args[0] * self.gate(self.args[0]).definition()

    def product(self) -> Expr:
        return self.args[0] * self.gate(self.args[0])


class gelu(_Gated):
    """z*normal_cdf(z), the Gaussian error linear unit (exact, not the tanh form).

    Source: Hendrycks and Gimpel (2016), "Gaussian error linear units".
    """

    gate = normal_cdf

    def fdiff(self, argindex: int = 1) -> Expr:
        z = self.args[0]
        return normal_cdf(z) + z * normal_cdf(z).fdiff()


class silu(_Gated):
    """z*sigmoid(z), also called swish.

    Source: Elfwing, Uchibe and Doya (2018), "Sigmoid-weighted linear units for
    neural network function approximation in reinforcement learning".
    """

    gate = sigmoid

    def fdiff(self, argindex: int = 1) -> Expr:
        z = self.args[0]
        return sigmoid(z) * (1 + z * (1 - sigmoid(z)))


class Reduction(Function):
    """A function of all values that an expression takes over one or more indices.

    ``logsumexp(z[k], k)`` has the arguments ``(z[k], k)``: a body and the bound
    indices. The result does not depend on the bound indices.
    """

    @property
    def body(self) -> Expr:
        """The expression that is reduced."""
        return self.args[0]

    @property
    def bound(self) -> tuple[Idx, ...]:
        """The indices that the reduction runs over."""
        return self.args[1:]

    def __new__(cls, body: Expr, *bound: Idx, **options: bool) -> Expr:
        if not bound or not all(isinstance(index, Idx) for index in bound):
            raise TypeError(
                f"{cls.__name__}: got the indices {bound}, expected one or more indices of "
                f"the network after the expression, as in {cls.__name__}(z[k], k)"
            )
        return super().__new__(cls, body, *bound, **options)

    def _eval_is_extended_real(self) -> bool:
        return True

    def fdiff(self, argindex: int = 1) -> Expr:
        """Return the derivative by the body at the bound indices."""
        raise NotImplementedError

    def definition(self) -> Expr:
        """Return the reduction in terms of sums and elementary functions."""
        raise NotImplementedError


class logsumexp(Reduction):
    """log(sum_k e^z[k]), computed as m + log(sum_k e^(z[k] - m)) with m = max_k z[k]."""

    def fdiff(self, argindex: int = 1) -> Expr:
        if len(self.bound) == 1:
            return softmax(self.body, *self.bound)
        return exp(self.body - self)

    def definition(self) -> Expr:
        return log(Sum(exp(self.body), *self.bound))


class _Extremum(Reduction):
    """The largest or smallest value; ties share the derivative equally."""

    def fdiff(self, argindex: int = 1) -> Expr:
        attained = Piecewise((1, Eq(self.body, self)), (0, True))
        return attained / Sum(attained, *self.bound)


class reduce_max(_Extremum):
    """The largest value over the bound indices; ties share the derivative equally."""


class reduce_min(_Extremum):
    """The smallest value over the bound indices; ties share the derivative equally."""


class Normalisation(Function):
    """The value at one position of a vector normalised over a bound index.

    ``softmax(z[k], k)`` has the arguments ``(z[k], k, k)``: the body, the index
    bound in the body, and the position at which the value is taken. Only the
    last is free.
    """

    nargs = 3

    def __new__(cls, body: Expr, index: Idx, at: Expr | None = None, **options: bool) -> Expr:
        if not isinstance(index, Idx):
            raise TypeError(
                f"{cls.__name__}: got the index {index}, expected one index of the network "
                f"after the expression, as in {cls.__name__}(z[k], k)"
            )
        return super().__new__(cls, body, index, index if at is None else at, **options)

    @property
    def body(self) -> Expr:
        """The expression that is normalised."""
        return self.args[0]

    @property
    def bound(self) -> tuple[Idx, ...]:
        """The index that the normalisation runs over, as a tuple of one."""
        return (self.args[1],)

    @property
    def at(self) -> Expr:
        """The position at which the value is taken."""
        return self.args[2]

    def share(self, index: Idx) -> Expr:
        """Return the softmax of the body at `index`, of which the derivatives are made."""
        return softmax(self.body, self.bound[0], index)

    def _eval_is_extended_real(self) -> bool:
        return True

    def _sympystr(self, printer: sympy.printing.printer.Printer) -> str:
        body, index, at = self.args
        text = f"{type(self).__name__}({printer._print(body)}, {printer._print(index)})"
        return text if at == index else f"{text}[{printer._print(at)}]"


class softmax(Normalisation):
    """e^z[k]/sum_k e^z[k], computed from z[k] - max_k z[k], which cannot overflow."""

    def definition(self) -> Expr:
        body, index, at = self.args
        return exp(body.xreplace({index: at})) / Sum(exp(body), index)


class log_softmax(Normalisation):
    """z[k] - logsumexp(z[k], k), the logarithm of `softmax`."""

    def definition(self) -> Expr:
        body, index, at = self.args
        return body.xreplace({index: at}) - log(Sum(exp(body), index))


ELEMENTWISE: tuple[type[Function], ...] = (
    step, sigmoid, softplus, relu, leaky_relu, elu, normal_cdf, gelu, silu,
)  # fmt: skip
"""The element-wise functions that symprop adds to SymPy's."""

REDUCTIONS: tuple[type[Function], ...] = (logsumexp, reduce_max, reduce_min, softmax, log_softmax)
"""The functions that bind an index, besides `sympy.Sum`."""

FUNCTIONS: dict[str, Any] = {
    **{function.__name__: function for function in ELEMENTWISE},
    **{
        name: getattr(sympy, name)
        for name in (
            "exp", "log", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh",
            "tanh", "asinh", "acosh", "atanh", "sec", "csc", "cot", "sech", "csch", "coth",
            "atan2", "erf", "erfc", "sign", "floor", "ceiling",
        )
    },
    "abs": sympy.Abs,
    "max": sympy.Max,
    "min": sympy.Min,
    "expm1": expm1,
    "log1p": log1p,
}  # fmt: skip
"""The functions of numbers that an expression may call."""

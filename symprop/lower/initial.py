"""How parameters start: the numbers of each initialiser, from the parameter's first use.

Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward
neural networks"; He et al. (2015), "Delving deep into rectifiers"; LeCun et al.
(1998), "Efficient BackProp". `fan_in` is the number of values that are summed for one
output of the parameter, `fan_out` the number of outputs that one value takes part in.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod, sqrt

import sympy
from sympy import Basic, Idx, Indexed, Mul, Sum

from symprop.indices import accesses, bound_indices, free_indices, size
from symprop.lower.program import Initial
from symprop.lower.steps import name_of
from symprop.network import Equation, Parameter

__all__ = ["fans", "initial_value"]

_VARIANCES = {
    "glorot": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "he": lambda fan_in, fan_out: 2 / fan_in,
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
}


def initial_value(parameter: Parameter, equations: Iterable[Equation]) -> Initial:
    """Return how `parameter` starts, with the scale of a random draw as a number."""
    shape = parameter.shape
    init = parameter.init
    if not isinstance(init, str):
        return Initial(parameter.name, shape, "", 0.0, init, "")
    if init in ("zeros", "ones"):
        return Initial(parameter.name, shape, "", 0.0, float(init == "ones"), init)
    family, distribution = init.split("_")
    fan_in, fan_out = fans(parameter, equations)
    variance = _VARIANCES[family](fan_in, fan_out)
    scale = sqrt(3 * variance) if distribution == "uniform" else sqrt(variance)
    comment = f"{init}: fan_in {fan_in}, fan_out {fan_out}"
    return Initial(parameter.name, shape, distribution, scale, None, comment)


def fans(parameter: Parameter, equations: Iterable[Equation]) -> tuple[int, int]:
    """Return (fan_in, fan_out) by the first equation that reads `parameter`.

    An axis counts for `fan_in` where it is summed over, and for `fan_out` unless it
    is the plain subscript of another factor as well: of ``Sum(W[i,j]*x[i], i)`` they
    are the sizes of i and j, of ``Sum(w[o,c,p]*x[c,r+p], c, p)`` those of (c, p) and (o, p).
    """
    for equation in equations:
        for summed, product in _products(equation.rhs, frozenset()):
            reads = [leaf for leaf in accesses(product) if isinstance(leaf, Indexed)]
            own = [leaf for leaf in reads if name_of(leaf) == parameter.name]
            if own:
                return _counted(own[0], [leaf for leaf in reads if leaf != own[0]], summed)
    return 1, 1


def _counted(own: Indexed, others: list[Indexed], summed: frozenset[Idx]) -> tuple[int, int]:
    shared = {part for leaf in others for part in leaf.indices if isinstance(part, Idx)}
    inside = [index for part in own.indices for index in free_indices(part) if index in summed]
    outside = [part for part in own.indices if isinstance(part, Idx) and part not in shared]
    return prod(map(size, inside)), prod(map(size, outside))


def _products(node: Basic, summed: frozenset[Idx]) -> Iterable[tuple[frozenset[Idx], Basic]]:
    """Yield every product in `node` with the indices that are summed around it."""
    if not node.args or isinstance(node, Idx):
        return
    if isinstance(node, Indexed | Mul):
        yield summed, node
    inner = summed | set(bound_indices(node)) if isinstance(node, Sum) else summed
    for part in node.args:
        if isinstance(part, sympy.Expr | sympy.functions.elementary.piecewise.ExprCondPair):
            yield from _products(part, inner)

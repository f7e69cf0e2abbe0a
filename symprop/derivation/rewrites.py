"""Stable numerics: naive forms that overflow or cancel, rewritten before differentiation.

``log(1 + exp(z))`` is infinite at z = 1000 although its value is 1000, and the
logarithm of a sigmoid is minus infinity where the network is merely sure. What
users naturally write is recognised here and rewritten to the functions of
`symprop.functions`, which are right over the whole floating-point range. Every
rewrite is an identity for all real arguments, and every one is reported.

The idea behind most of them: a positive quantity is known by its *exponents*,
``X = exp(l1) + exp(l2) + ...``. With them the logarithm of X is a `softplus` or
a `logsumexp`, and a quotient by X is a `sigmoid` or a `softmax`. Names are
looked through: for ``a[m] = sigmoid(z[m])`` the exponent of ``a[m]`` is
``-softplus(-z[m])``, that of ``1 - a[m]`` is ``-softplus(z[m])``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import sympy
from sympy import (
    Add,
    Dummy,
    Expr,
    Function,
    Idx,
    Indexed,
    Integer,
    Max,
    Mul,
    Pow,
    Sum,
    Symbol,
    cosh,
    erf,
    exp,
    log,
    sinh,
    tanh,
)
from sympy.logic.boolalg import Boolean

from symprop.equation import name_of
from symprop.functions import (
    Normalisation,
    Reduction,
    expm1,
    gelu,
    log1p,
    log_softmax,
    logsumexp,
    normal_cdf,
    relu,
    sigmoid,
    softmax,
    softplus,
)
from symprop.indices import (
    accesses,
    bound_indices,
    free_indices,
    index_name,
    name_bound,
    rebind,
    rebuild,
    size,
    substitute,
    summation,
)
from symprop.network import Equation
from symprop.ranges import subscript_range

__all__ = ["Rewrite", "stabilize"]

_SIGMOID = "exp overflows where this quotient is 0 or 1; sigmoid never does"
_SOFTMAX = "exp overflows for large values; softmax subtracts the largest first"
_TANH = "the quotient is inf/inf for large arguments; tanh is 1"
_RELU = "the same function; its derivative at 0 is stated: relu'(0) = 0"
_CDF = "1 + erf cancels to 0 for negative arguments; normal_cdf keeps its digits"
_GELU = "the same function under its name, with a declared derivative"
_LOGIT = "softplus(-z) = softplus(z) - z; the derivative is sigmoid(z) minus a factor"
_SIGN = "minus times minus: the logarithms under the sum became negative softplus"
_LOG1P = "1 + x rounds x away near 0; log1p does not"
_EXPM1 = "exp(x) - 1 cancels near 0; expm1 does not"
_LOG = "the argument over- or underflows; its logarithm does not"
_LOGARITHMS: tuple[tuple[type[Function], str], ...] = (
    (log_softmax, "a softmax underflows to 0, whose log is -inf; log_softmax does not"),
    (logsumexp, "exp overflows for large values; logsumexp subtracts the largest first"),
    (softplus, "exp overflows and a sigmoid rounds to 0 or 1; softplus does neither"),
)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """In the equation called `equation`, the expression `before` became `after`, and why."""

    equation: str
    before: Expr
    after: Expr
    reason: str

    def __str__(self) -> str:
        """Return the rewrite on one line."""
        return f"{self.equation}: {self.before} -> {self.after} ({self.reason})"


@dataclass(frozen=True, slots=True)
class _Positive:
    """What is known of an equation's value: the sum of exp(l) over the `exponents` l.

    It is `ready` to be looked through once that repeats no work.
    """

    indices: tuple[Idx, ...]
    exponents: tuple[Expr, ...]
    ready: bool


@dataclass(frozen=True, slots=True)
class _Step:
    """A part `before` of a node becomes `after`, and so the node becomes `whole`."""

    before: Expr
    after: Expr
    whole: Expr
    reason: str


_Known = Mapping[str, _Positive]
_Rule = Callable[[Expr, _Known], _Step | None]
_Rules = Mapping[type, tuple[_Rule, ...]]


def stabilize(
    equations: tuple[Equation, ...],
) -> tuple[tuple[Equation, ...], tuple[Rewrite, ...]]:
    """Return equivalent equations in stable form, and what was rewritten.

    Doing it again changes nothing. A name is looked through only where that
    repeats no work, that is where the argument of its sigmoid or softmax is made
    of one value; after `symprop.derivation.flatten.flatten`, which names the net inputs,
    that is everywhere. So ``stabilize, flatten, stabilize`` finds all forms.

    >>> z, a, y, L = sympy.symbols("z a y L", real=True)
    >>> bce = -(y * log(a) + (1 - y) * log(1 - a))
    >>> equations = Equation(a, 1 / (1 + exp(-z))), Equation(L, bce)
    >>> for equation in stabilize(equations)[0]:
    ...     print(equation)
    a = sigmoid(z)
    L = softplus(z) - y*z
    """
    known: dict[str, _Positive] = {}
    done: list[Equation] = []
    rewrites: dict[Rewrite, None] = {}
    for equation in equations:
        rhs, steps = _rewrite(equation.rhs, _STABLE, known)
        if found := _exponents(rhs, known):
            known[equation.name] = _Positive(equation.indices, found, _repeatable(rhs))
        rhs, more = _rewrite(rhs, _ACCURATE, known)
        done.append(Equation(equation.lhs, _printable(rhs, equation), equation.accumulate))
        for step in steps + more:
            parts = _printable(step.before, equation), _printable(step.after, equation)
            rewrites[Rewrite(equation.name, *parts, step.reason)] = None
    return tuple(done), tuple(rewrites)


def _rewrite(node: Expr, rules: _Rules, known: _Known) -> tuple[Expr, list[_Step]]:
    """Apply `rules` in `node` until none fits: to quotients as written, else inside out."""
    if not node.args or isinstance(node, Indexed | Idx | Symbol | Boolean):
        return node, []
    step = _first(node, rules, known) if isinstance(node, Mul | Pow) else None
    if step is not None:
        whole, later = _rewrite(step.whole, rules, known)
        return whole, [step, *later]
    inner, steps = _rewrite_parts(node, rules, known)
    step = _first(inner, rules, known)
    if step is None:
        return inner, steps
    whole, later = _rewrite(step.whole, rules, known)
    return whole, [*_merged(steps, step), *later]


def _rewrite_parts(node: Expr, rules: _Rules, known: _Known) -> tuple[Expr, list[_Step]]:
    binds = bool(bound_indices(node))
    results = [_rewrite(part, rules, known) for part in (node.args[:1] if binds else node.args)]
    steps = [step for _, found in results for step in found]
    parts = [part for part, _ in results]
    if not steps:
        return node, []
    if not binds:
        return rebuild(node, parts), steps
    outside = [node.at] if isinstance(node, Normalisation) else []
    return rebind(node, parts[0], bound_indices(node), outside), steps


def _first(node: Expr, rules: _Rules, known: _Known) -> _Step | None:
    for rule in rules.get(type(node), ()):
        if (step := rule(node, known)) is not None:
            return step
    return None


def _merged(steps: list[_Step], last: _Step) -> list[_Step]:
    """Append `last`; what it consumes of earlier results is reported as it was written."""
    before, kept = last.before, []
    for step in reversed(steps):
        original = before.xreplace({step.after: step.before})
        if original == before or last.after.has(step.after):
            kept.append(step)
        else:
            before = original
    return [*reversed(kept), _Step(before, last.after, last.whole, last.reason)]


def _printable(expression: Expr, equation: Equation) -> Expr:
    """Name the bound indices that a substitution had to make fresh."""
    if not expression.atoms(Dummy):
        return expression
    taken = {equation.name, *map(index_name, equation.indices)}
    return name_bound(expression, taken | set(map(name_of, accesses(expression))))


# Exponents: X = exp(l1) + exp(l2) + ...


def _exponents(node: Expr, known: _Known) -> tuple[Expr, ...] | None:
    """Return the exponents l of ``node = sum of exp(l)``; None where it has no such form."""
    match node:
        case sympy.S.One:
            return (Integer(0),)
        case exp():
            return (node.args[0],)
        case sigmoid():
            return (-softplus(-node.args[0]),)
        case softmax():
            return (log_softmax(*node.args),)
        case cosh():
            return (softplus(2 * node.args[0]) - node.args[0] - log(2),)
        case Sum():
            return _sum_exponents(node, known)
        case Add():
            return _add_exponents(node, known)
        case Mul():
            logs = [_log_of(factor, known) for factor in node.args]
            return None if None in logs else (Add(*logs),)
        case Pow() if node.exp.is_number:
            inner = _log_of(node.base, known)
            return None if inner is None else (node.exp * inner,)
        case Indexed() | Symbol():
            return _name_exponents(node, known)
    return None


def _name_exponents(node: Indexed | Symbol, known: _Known) -> tuple[Expr, ...] | None:
    """Look through a name: the exponents of its definition at the subscripts of `node`."""
    indices = node.indices if isinstance(node, Indexed) else ()
    definition = known.get(name_of(node))
    if definition is None or not definition.ready:
        return None
    mapping = dict(zip(definition.indices, indices, strict=True))
    return tuple(_tidy(substitute(part, mapping)) for part in definition.exponents)


def _add_exponents(node: Add, known: _Known) -> tuple[Expr, ...] | None:
    complement = 1 - node
    inside = None if isinstance(complement, Add) else _exponents(complement, known)
    if inside is not None and len(inside) == 1 and isinstance(-inside[0], softplus):
        return (-softplus(-(-inside[0]).args[0]),)  # 1 - sigmoid(z) = sigmoid(-z)
    found: list[Expr] = []
    for term in node.args:
        part = _exponents(term, known)
        if part is None:
            return None
        found += part
    return tuple(found)


def _sum_exponents(node: Sum, known: _Known) -> tuple[Expr, ...] | None:
    """Return log(Sum(exp(l + c), k)) = logsumexp(l, k) + c, where c is free of k."""
    bound = bound_indices(node)
    full = all(limit[1:] == (0, limit[0].upper) for limit in map(tuple, node.limits))
    inner = _log_of(node.function, known) if full else None
    if inner is None or not set(bound) <= set(free_indices(inner)):
        return None
    constant: list[Expr] = []
    varying: list[Expr] = []
    for term in Add.make_args(inner):
        (varying if set(free_indices(term)) & set(bound) else constant).append(term)
    return (logsumexp(Add(*varying), *bound) + Add(*constant),)


def _log_of(node: Expr, known: _Known) -> Expr | None:
    """Return the logarithm of `node` in stable form; None where it has none."""
    found = _exponents(node, known)
    return None if found is None else _log_sum_exp(found)


def _log_sum_exp(exponents: tuple[Expr, ...]) -> Expr | None:
    """Return log(exp(a) + exp(b) + ...); None where that would repeat work.

    It is ``a + softplus(log(exp(b) + ...) - a)``, in which all exponents but the
    last stand twice.
    """
    *once, last = sorted(exponents, key=lambda part: (part != 0, not _simple(part)))
    if not all(map(_simple, once)):
        return None
    for part in reversed(once):
        last = part + softplus(last - part)
    return last


def _simple(node: Expr) -> bool:
    """Tell whether `node` is made of at most one value, so that repeating it costs nothing."""
    return len(accesses(node)) <= 1 and not node.has(Sum, Reduction, Normalisation)


def _repeatable(rhs: Expr) -> bool:
    """Tell whether an equation can be looked through: its functions have simple arguments."""
    return all(_simple(node.args[0]) for node in rhs.atoms(Function))


def _tidy(node: Expr) -> Expr:
    """Write softmax(z[m], m)[k] as softmax(z[k], k) wherever that means the same."""
    return node.replace(
        lambda part: isinstance(part, Normalisation),
        lambda part: _normalised(part.func, part.body, part.bound[0], part.at),
    )


def _normalised(function: type[Normalisation], body: Expr, index: Idx, at: Expr) -> Expr:
    same = isinstance(at, Idx) and size(at) == size(index)
    if same and at != index and at not in free_indices(body):
        return function(substitute(body, {index: at}), at, at)
    return function(body, index, at)


# Quotients


def _quotient(node: Expr, known: _Known) -> _Step | None:
    """exp(a)/(exp(a) + exp(b) + ...) is a sigmoid, exp(z[k])/Sum(exp(z[m]), m) a softmax."""
    factors = Mul.make_args(node)
    for below in factors:
        base, power = below.as_base_exp()
        if not (power.is_number and power.is_negative):
            continue
        exponents = _exponents(base, known)
        if exponents is None or isinstance(base, sigmoid | softmax):
            continue
        for above in factors:
            found = None if above is below else _share(above, base, exponents, known)
            if found is not None:
                return _replaced(node, above, below, *found)
        if step := _whole_power(node, below, exponents):
            return step
    return None


def _replaced(node: Expr, above: Expr, below: Expr, after: Expr, reason: str) -> _Step:
    """Replace the factor `above` and one power of ``1/base`` in `below` by `after`."""
    base, power = below.as_base_exp()
    others = [factor for factor in Mul.make_args(node) if factor not in (above, below)]
    return _Step(above / base, after, Mul(*others, base ** (power + 1), after), reason)


def _share(
    above: Expr, base: Expr, exponents: tuple[Expr, ...], known: _Known
) -> tuple[Expr, str] | None:
    """Return ``above/base`` in stable form, where it is one term over the sum of all."""
    exponent = _log_of(above, known)
    if exponent is None or isinstance(above, sigmoid | softmax):
        return None
    if len(exponents) == 1:
        found, reason = _softmax_share(exponent, exponents[0]), _SOFTMAX
    else:
        found, reason = _sigmoid_share(exponent, exponents), _SIGMOID
    if found is None:
        return None
    share, rest = found
    return share * exp(rest), reason


def _sigmoid_share(exponent: Expr, exponents: tuple[Expr, ...]) -> tuple[Expr, Expr] | None:
    """Split exp(exponent) over the sum of exp(exponents) into a sigmoid and the rest's exponent."""
    for place, term in enumerate(exponents):
        others = _log_sum_exp(exponents[:place] + exponents[place + 1 :])
        if term == 0 or others is None:
            continue
        if (rest := _less(exponent, term)) is not None:
            return sigmoid(term - others), rest
        if found := _softmax_share(exponent, term):
            return found[0] * sigmoid(term - others), found[1]
    return None


def _softmax_share(exponent: Expr, below: Expr) -> tuple[Expr, Expr] | None:
    """Split exp(exponent - below), below = c + logsumexp(z[m], m), likewise into a softmax."""
    sums = [term for term in Add.make_args(below) if isinstance(term, logsumexp)]
    if len(sums) != 1:
        return None
    body, bound = sums[0].body, sums[0].bound
    remaining = _less(exponent, below - sums[0])
    if remaining is None:
        return None
    for places in product(*(_positions(body, index, remaining) for index in bound)):
        there = substitute(body, dict(zip(bound, places, strict=True)))
        rest = _less(remaining, there)
        if rest is None:
            continue
        if len(bound) > 1:
            return exp(there - sums[0]), rest
        return _normalised(softmax, body, bound[0], places[0]), rest
    return None


def _positions(body: Expr, index: Idx, exponent: Expr) -> Iterator[Expr]:
    """Yield where `exponent` may read what `body` reads at `index`; inside its range only."""
    candidates: dict[Expr, None] = dict.fromkeys(free_indices(exponent))
    reads = [leaf for leaf in accesses(exponent) if isinstance(leaf, Indexed)]
    for leaf in accesses(body):
        if not isinstance(leaf, Indexed) or index not in leaf.indices:
            continue
        axis = leaf.indices.index(index)
        candidates |= {read.indices[axis]: None for read in reads if read.base == leaf.base}
    for at in candidates:
        if isinstance(at, Idx):
            inside = size(at) <= size(index)
        elif accesses(at):
            inside = True  # a value: its range is that of the data
        else:
            low, high = subscript_range(at)
            inside = low >= 0 and high < size(index)
        if inside:
            yield at


def _less(exponent: Expr, part: Expr) -> Expr | None:
    """Return ``exponent - part`` where `exponent` contains every term of `part`, else None."""
    have = exponent.as_coefficients_dict()
    for term, coefficient in part.as_coefficients_dict().items():
        if term != 0 and coefficient != 0 and not have.get(term, 0) / coefficient >= 1:
            return None
    return exponent - part


def _whole_power(node: Expr, below: Expr, exponents: tuple[Expr, ...]) -> _Step | None:
    """1/(1 + exp(l) + ...) is sigmoid(-log(exp(l) + ...)), and so are its powers."""
    if node is not below or len(exponents) < 2 or 0 not in exponents:
        return None
    place = exponents.index(0)
    others = _log_sum_exp(exponents[:place] + exponents[place + 1 :])
    if others is None:
        return None
    after = sigmoid(-others) ** (-below.as_base_exp()[1])
    return _Step(below, after, after, _SIGMOID)


def _hyperbolic(node: Mul, known: _Known) -> _Step | None:
    """(exp(a) - exp(b))/(exp(a) + exp(b)) = tanh((a - b)/2); sinh(z)/cosh(z) = tanh(z)."""
    for below in node.args:
        base, power = below.as_base_exp()
        if not (power.is_number and power.is_negative):
            continue
        for above in node.args:
            after = _tanh_of(above, base)
            if after is not None:
                return _replaced(node, above, below, after, _TANH)
    return None


def _tanh_of(above: Expr, below: Expr) -> Expr | None:
    """Return above/below where it is a multiple of a tanh."""
    if isinstance(above, sinh) and below == cosh(above.args[0]):
        return tanh(above.args[0])
    terms, shares = above.as_coefficients_dict(), below.as_coefficients_dict()
    if len(terms) != 2 or terms.keys() != shares.keys():
        return None
    (first, c1), (second, c2) = sorted(terms.items(), key=lambda item: item[0].sort_key())
    d1, d2 = shares[first], shares[second]
    if c1 + c2 != 0 or d1 != d2 or not all(isinstance(e, exp) or e == 1 for e in terms):
        return None
    return c1 / d1 * tanh((log(first) - log(second)) / 2)


# Logarithms and sums


def _logarithm(node: Expr, known: _Known) -> _Step | None:
    """Log(X) by the exponents of X, or of those factors of X that have any."""
    inside = node.args[0] + (1 if isinstance(node, log1p) else 0)
    after = _log_of(inside, known)
    if after is None and isinstance(inside, Mul):
        logs = {factor: _log_of(factor, known) for factor in inside.args}
        found = [value for value in logs.values() if value is not None]
        if found:
            after = Add(*found, log(Mul(*(part for part in logs if logs[part] is None))))
    if after is None:
        return None
    reason = next((text for kind, text in _LOGARITHMS if after.has(kind)), _LOG)
    return _Step(node, after, after, reason)


def _cross_entropy(node: Add, known: _Known) -> _Step | None:
    """t*softplus(-z) + (1 - t)*softplus(z) = softplus(z) - t*z, also inside equal sums."""
    found: dict[Expr, Expr] = {}
    for term in node.args:
        for factor in Mul.make_args(term):
            if isinstance(factor, softplus):
                found.setdefault(factor.args[0], term)
    for z, term in found.items():
        if -z in found and (after := _merge(term, found[-z], z)) is not None:
            before = term + found[-z]
            return _Step(before, after, node - before + after, _LOGIT)
    return _cross_entropy_of_sums(node, known)


def _merge(positive: Expr, negative: Expr, z: Expr) -> Expr | None:
    """Add c*softplus(z) and d*softplus(-z) where c + d is a number times a common factor."""
    plus = [part for part in Mul.make_args(positive) if part != softplus(z)]
    minus = [part for part in Mul.make_args(negative) if part != softplus(-z)]
    common = [part for part in plus if part in minus]
    c = Mul(*(part for part in plus if part not in common))
    d = Mul(*(part for part in minus if part not in common))
    total = c + d
    if not total.is_number or (c.is_number and total != 0):
        return None
    if (d.count_ops(), (-z).could_extract_minus_sign()) > (
        c.count_ops(),
        z.could_extract_minus_sign(),
    ):
        c, d, z = d, c, -z
    return Mul(_whole(total), softplus(z), *common) - Mul(d, z, *common)


def _cross_entropy_of_sums(node: Add, known: _Known) -> _Step | None:
    """Merge ``c*Sum(a, k) + d*Sum(b, k)`` where the terms under the sums merge."""
    sums = [(term, *term.as_coeff_Mul()) for term in node.args if term.has(softplus)]
    sums = [entry for entry in sums if isinstance(entry[2], Sum)]
    for place, (first, factor, one) in enumerate(sums):
        for second, other_factor, other in sums[place + 1 :]:
            bound, others = bound_indices(one), bound_indices(other)
            same = list(map(size, bound)) == list(map(size, others))
            if not same or set(bound) & set(free_indices(other)):
                continue
            renamed = substitute(other.function, dict(zip(others, bound, strict=True)))
            inside = factor * one.function + other_factor * renamed
            step = _cross_entropy(inside, known) if isinstance(inside, Add) else None
            if step is not None:
                after = summation(step.whole, bound)
                return _Step(first + second, after, node - first - second + after, _LOGIT)
    return None


def _sign(node: Mul, known: _Known) -> _Step | None:
    """Write -Sum(t*z - softplus(z), k) as Sum(softplus(z) - t*z, k)."""
    coefficient, rest = node.as_coeff_Mul()
    if not (coefficient.is_negative and isinstance(rest, Sum)):
        return None
    terms = Add.make_args(rest.function)
    if not any(map(_negative_softplus, terms)):
        return None
    after = -coefficient * summation(Add(*(-term for term in terms)), bound_indices(rest))
    return _Step(node, after, after, _SIGN)


def _negative_softplus(term: Expr) -> bool:
    coefficient, rest = term.as_coeff_Mul()
    return coefficient.is_negative and any(isinstance(f, softplus) for f in Mul.make_args(rest))


# Other functions


def _rectifier(node: Max, known: _Known) -> _Step | None:
    """Max(z, 0) is relu(z)."""
    others = [part for part in node.args if part != 0]
    if len(node.args) != 2 or len(others) != 1:
        return None
    after = relu(others[0])
    return _Step(node, after, after, _RELU)


def _normal(node: Add, known: _Known) -> _Step | None:
    """C + c*erf(z/sqrt(2)) is 2*c*normal_cdf(z)."""
    terms = node.as_coefficients_dict()
    for term, coefficient in terms.items():
        if isinstance(term, erf) and abs(coefficient) == terms.get(sympy.S.One):
            constant = abs(coefficient)
            z = _scaled(term.args[0], sympy.sqrt(2) * sympy.sign(coefficient))
            before = constant + coefficient * term
            after = _whole(2 * constant) * normal_cdf(z)
            return _Step(before, after, node - before + after, _CDF)
    return None


def _gaussian(node: Mul, known: _Known) -> _Step | None:
    """z*normal_cdf(z) is gelu(z)."""
    for factor in node.args:
        if isinstance(factor, normal_cdf):
            coefficient, reads = factor.args[0].as_coeff_Mul()
            if set(Mul.make_args(reads)) <= set(node.args):
                after = gelu(factor.args[0])
                before = factor.args[0] * factor
                number, others = (node / (reads * factor)).as_coeff_Mul()
                whole = _whole(number / coefficient) * others * after
                return _Step(before, after, whole, _GELU)
    return None


def _scaled(node: Expr, factor: Expr) -> Expr:
    """Multiply by `factor`; a coefficient that rounding alone keeps from 1 becomes 1."""
    coefficient, rest = node.as_coeff_Mul()
    if isinstance(coefficient, sympy.Float):
        return _whole(sympy.N(coefficient * factor)) * rest
    return factor * node


def _whole(number: Expr) -> Expr:
    """Return a float that is an integer to within rounding as that integer."""
    if isinstance(number, sympy.Float) and abs(number - round(number)) < 4e-15 * abs(number):
        return Integer(round(number))
    return number


def _log_near_one(node: log, known: _Known) -> _Step | None:
    """log(1 + x) is log1p(x)."""
    inside = node.args[0]
    if not isinstance(inside, Add) or inside.as_coefficients_dict().get(sympy.S.One) != 1:
        return None
    terms = [term.as_coeff_Mul()[1] for term in inside.args]
    names = [name_of(term) for term in terms if isinstance(term, Indexed | Symbol)]
    if any(name in known and not known[name].ready for name in names):
        return None  # it has a better form when the argument of the sigmoid has a name
    after = log1p(inside - 1)
    return _Step(node, after, after, _LOG1P)


def _exp_less_one(node: Add, known: _Known) -> _Step | None:
    """c*exp(x) - c is c*expm1(x)."""
    terms = node.as_coefficients_dict()
    constant = terms.get(sympy.S.One, Integer(0))
    fitting = [term for term in terms if isinstance(term, exp) and terms[term] == -constant]
    if len(fitting) != 1:
        return None
    before = constant + terms[fitting[0]] * fitting[0]
    after = _whole(-constant) * expm1(fitting[0].args[0])
    return _Step(before, after, node - before + after, _EXPM1)


_STABLE: _Rules = {
    Mul: (_hyperbolic, _quotient, _gaussian, _sign),
    Pow: (_quotient,),
    Add: (_normal, _cross_entropy),
    log: (_logarithm,),
    log1p: (_logarithm,),
    Max: (_rectifier,),
}
_ACCURATE: _Rules = {log: (_log_near_one,), Add: (_exp_less_one,)}
"""For what is left when the stable forms have been found: cancellation near 0 and 1."""

"""Free and bound indices: the one place that knows which node binds what.

`sympy.Sum`, the reductions (``logsumexp(z[k], k)``) and the normalisations
(``softmax(z[k], k)``) bind indices; SymPy's ``free_symbols`` knows only the first.
Everything that renames or substitutes an index goes through this module, so
that no bound index is ever captured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import count
from typing import TypeVar

import sympy
from sympy import Basic, Dummy, Expr, Idx, Indexed, IndexedBase, Mul, Piecewise, Sum, Symbol
from sympy.core.relational import Relational
from sympy.logic.boolalg import BooleanAtom

from symprop.functions import Normalisation, Reduction

__all__ = [
    "accesses",
    "bound_indices",
    "branches",
    "canonical",
    "free_indices",
    "fresh",
    "freshen",
    "guarded",
    "index_name",
    "make_sum",
    "name_bound",
    "numbered",
    "piecewise",
    "rebind",
    "rebuild",
    "size",
    "substitute",
    "summation",
    "where",
]

_Names = dict[Basic, Idx]
"""What the indices that a node binds are called instead."""

_Scope = TypeVar("_Scope")


def size(index: Idx) -> int:
    """Return how many values `index` takes; every index runs from 0."""
    return int(index.upper) + 1


def index_name(index: Idx) -> str:
    """Return the printed name of `index`."""
    return str(index.label.name)


def fresh(index: Idx) -> Idx:
    """Return a new index with the name and range of `index`, equal to no other."""
    return Idx(Dummy(index_name(index), integer=True), size(index))


def bound_indices(node: Basic) -> tuple[Idx, ...]:
    """Return the indices that `node` itself binds in its body; () for most nodes.

    SymPy writes ``Sum(Sum(x[i], i), i)`` as one sum with i twice: the first binds.
    """
    if isinstance(node, Sum):
        return tuple(limit[0] for limit in node.limits)
    if isinstance(node, Reduction | Normalisation):
        return node.bound
    return ()


def free_indices(expression: Basic) -> tuple[Idx, ...]:
    """Return the free indices of `expression`, sorted by name.

    >>> i, j = Idx("i", 3), Idx("j", 2)
    >>> x, W = sympy.IndexedBase("x"), sympy.IndexedBase("W")
    >>> free_indices(Sum(W[i, j] * x[i], i))
    (j,)
    """
    return tuple(sorted(_free(expression), key=lambda index: index.sort_key()))


@lru_cache(maxsize=4096)
def _free(expression: Basic) -> frozenset[Idx]:
    if isinstance(expression, Idx):
        return frozenset((expression,))
    if not expression.args or isinstance(expression, Symbol):
        return frozenset()
    bound = bound_indices(expression)
    if not bound:
        return frozenset().union(*map(_free, expression.args))
    inside = _free(expression.args[0]) - frozenset(bound)
    outside = _outside(expression)
    return inside.union(*map(_free, outside))


def _outside(node: Basic) -> tuple[Basic, ...]:
    """Return the parts of a binding node that its bound indices do not reach."""
    return (node.at,) if isinstance(node, Normalisation) else ()


def rebind(node: Expr, body: Expr, bound: Iterable[Idx], outside: Iterable[Basic]) -> Expr:
    """Return `node` with another body, other bound indices and other outer parts."""
    if isinstance(node, Sum):
        return summation(body, bound)
    return node.func(body, *bound, *outside)


def substitute(expression: Basic, mapping: Mapping[Basic, Basic]) -> Basic:
    """Replace free indices and scalar symbols; bound indices are renamed before they capture.

    >>> i, j = Idx("i", 3), Idx("j", 3)
    >>> x = sympy.IndexedBase("x")
    >>> substitute(Sum(x[i] * x[j], i), {j: i}) == Sum(x[i] * x[i], i)
    False
    """

    def away(node: Basic, mapping: Mapping[Basic, Basic], _: None) -> tuple[_Names, None]:
        bound = bound_indices(node)
        arriving = frozenset[Idx]().union(*(_free(n) for o, n in mapping.items() if o not in bound))
        return {index: fresh(index) if index in arriving else index for index in bound}, None

    return _renamed(expression, mapping, away, None) if mapping else expression


def freshen(expression: Basic, mapping: Mapping[Basic, Basic] | None = None) -> Basic:
    """Give every bound index of `expression` a fresh one, so that no two nodes share one.

    Free indices and scalar symbols are replaced as by `substitute`.
    """

    def anew(node: Basic, _mapping: Mapping[Basic, Basic], _: None) -> tuple[_Names, None]:
        return {index: fresh(index) for index in bound_indices(node)}, None

    return _renamed(expression, mapping or {}, anew, None)


def canonical(expression: Basic, mapping: Mapping[Basic, Basic] | None = None) -> Basic:
    """Name every bound index after its nesting depth: equal up to renaming becomes equal.

    Free indices and scalar symbols are replaced as by `substitute`.

    >>> i, j = Idx("i", 3), Idx("j", 3)
    >>> x = sympy.IndexedBase("x")
    >>> canonical(Sum(x[i], i)) == canonical(Sum(x[j], j))
    True
    """

    def placed(node: Basic, _mapping: Mapping[Basic, Basic], depth: int) -> tuple[_Names, int]:
        bound = bound_indices(node)
        found: _Names = {
            index: Idx(Symbol(f"_{place}", integer=True), size(index))
            for place, index in enumerate(bound, depth)
        }
        return found, depth + len(bound)

    return _renamed(expression, mapping or {}, placed, 0)


def name_bound(expression: Basic, taken: Iterable[str] = ()) -> Basic:
    """Give bound dummies printable names: their own where it is free, else ``k2``, ``k3``, ...

    `taken` holds the names that are in use around `expression`. The free indices
    must have printable names already.
    """

    def named(
        node: Basic, mapping: Mapping[Basic, Basic], used: frozenset[str]
    ) -> tuple[_Names, frozenset[str]]:
        if isinstance(node, Normalisation) and _same_place(node):
            return {node.bound[0]: mapping.get(node.at, node.at)}, used
        found: _Names = {}
        for index in bound_indices(node):
            name = next(name for name in numbered(index_name(index)) if name not in used)
            used |= {name}
            found[index] = Idx(name, size(index))
        return found, used

    used = frozenset((*taken, *map(index_name, free_indices(expression))))
    return _renamed(expression, {}, named, used)


def _renamed(
    node: Basic,
    mapping: Mapping[Basic, Basic],
    choose: Callable[[Basic, Mapping[Basic, Basic], _Scope], tuple[_Names, _Scope]],
    scope: _Scope,
) -> Basic:
    """Replace free indices and scalar symbols by `mapping`, and bound indices by those chosen.

    `choose` is given a node that binds, what is replaced around it, and its scope; it returns the
    new indices and the scope of the body.
    """
    if isinstance(node, Idx | Symbol):
        return mapping.get(node, node)
    if not node.args or isinstance(node, IndexedBase):
        return node
    bound = bound_indices(node)
    if not bound:
        return rebuild(node, [_renamed(part, mapping, choose, scope) for part in node.args])
    names, inner = choose(node, mapping, scope)
    body = _renamed(node.args[0], {**mapping, **names}, choose, inner)
    outside = [_renamed(part, mapping, choose, scope) for part in _outside(node)]
    return rebind(node, body, [names[index] for index in bound], outside)


def _same_place(node: Normalisation) -> bool:
    """Tell whether ``softmax(z[k], k)`` can be written with one index for both its roles."""
    at, (index,) = node.at, node.bound
    if not isinstance(at, Idx) or size(at) != size(index):
        return False
    return at == index or at not in _free(node.body)


def numbered(name: str) -> Iterator[str]:
    """Yield `name`, then ``name2``, ``name3``, ... (``name_2`` where it ends in a digit)."""
    yield name
    joint = "_" if name[-1].isdigit() else ""
    for number in count(2):
        yield f"{name}{joint}{number}"


def summation(body: Expr, bound: Iterable[Idx]) -> Sum:
    """Return the sum of `body` over the whole range of each index, and nothing but that.

    SymPy's own constructor folds pieces inside the body outwards, so that the
    condition of an inner sum escapes from it.
    """
    limits = (sympy.Tuple(index, 0, index.upper) for index in bound)
    node = Expr.__new__(Sum, body, *limits)
    node.is_commutative = True
    return node


def make_sum(body: Expr, bound: Iterable[Idx]) -> Expr:
    """Sum `body` over all of `bound`, with what does not depend on them outside.

    An index that `body` does not contain counts: the sum is its size times the body.

    >>> j, k = Idx("j", 3), Idx("k", 2)
    >>> p, d = sympy.IndexedBase("p"), sympy.IndexedBase("d")
    >>> make_sum(p[j] * d[k], [k])
    p[j]*Sum(d[k], (k, 0, 1))
    """
    present = _free(body)
    inside = [index for index in bound if index in present]
    factor = sympy.Integer(1)
    for index in bound:
        if index not in present:
            factor *= size(index)
    if not inside:
        return factor * body
    constant: list[Expr] = []
    varying: list[Expr] = []
    for part in Mul.make_args(body):
        (varying if _free(part) & set(inside) else constant).append(part)
    summed = Mul(*varying)
    if isinstance(summed, Sum):
        inside = [*inside, *(limit[0] for limit in summed.limits)]
        summed = summed.function
    return factor * Mul(*constant) * summation(summed, inside)


@lru_cache(maxsize=4096)
def accesses(expression: Basic) -> tuple[Expr, ...]:
    """Return the scalars and tensor elements read in `expression`, each once, in a fixed order.

    >>> i = Idx("i", 3)
    >>> x, b = sympy.IndexedBase("x"), Symbol("b")
    >>> accesses(b + Sum(x[i] ** 2, i))
    (b, x[i])
    """
    return tuple(sorted(set(_leaves(expression)), key=lambda leaf: leaf.sort_key()))


def _leaves(node: Basic) -> Iterator[Expr]:
    if isinstance(node, Indexed | Symbol) and not isinstance(node, Dummy):
        yield node
    if not isinstance(node, Idx):
        for part in node.indices if isinstance(node, Indexed) else node.args:
            yield from _leaves(part)


def is_condition(node: Basic) -> bool:
    """Tell whether `node` is a truth value rather than a number."""
    return isinstance(node, sympy.logic.boolalg.Boolean | BooleanAtom)


def piecewise(*pairs: tuple[Expr, Basic]) -> Expr:
    """Return the value of the first pair whose condition holds; the last one's must be true.

    SymPy's own constructor folds nested pieces into one and lets the conditions of
    an inner sum escape from it; this one only drops what is decided.

    >>> x = Symbol("x")
    >>> piecewise((x, sympy.true), (0, sympy.true))
    x
    """
    kept: list[tuple[Expr, Basic]] = []
    for value, condition in pairs:
        if condition == sympy.false:
            continue
        kept.append((sympy.sympify(value), sympy.sympify(condition)))
        if condition == sympy.true:
            break
    if len({value for value, _ in kept}) == 1 and kept[-1][1] == sympy.true:
        return kept[0][0]
    return Piecewise(*kept, evaluate=False)


def where(value: Expr, condition: Basic) -> Expr:
    """Return `value` where the condition holds, elsewhere 0."""
    return piecewise((value, condition), (sympy.S.Zero, sympy.true))


def guarded(node: Expr) -> tuple[Expr, Basic]:
    """Return the value and the condition of what is 0 elsewhere; all else holds everywhere.

    >>> x, i = Symbol("x"), Idx("i", 3)
    >>> guarded(where(x, i > 1))
    (x, i > 1)
    >>> guarded(x)
    (x, True)
    """
    if isinstance(node, Piecewise) and len(node.args) == 2:
        (value, condition), (other, certain) = branches(node)
        if other == 0 and certain == sympy.true:
            return value, condition
    return node, sympy.true


def rebuild(node: Basic, parts: Iterable[Basic]) -> Basic:
    """Return `node` with other arguments.

    SymPy would try to prove every comparison anew, which takes a millisecond or, of many arguments
    of `Max`, a second. Here only numbers and terms that both sides have decide one.
    """
    if isinstance(node, Piecewise):
        return piecewise(*(pair.args for pair in parts))
    if bound_indices(node):
        raise TypeError(f"{node} binds indices: use rebind")
    if isinstance(node, Relational | sympy.Max | sympy.Min):
        first, *others = parts = tuple(parts)
        if not all(isinstance(part, Expr) and (part - first).is_number for part in others):
            return node.func(*parts, evaluate=False)
    return _indexed(*parts) if isinstance(node, Indexed) else node.func(*parts)


@lru_cache(maxsize=4096)
def _indexed(base: IndexedBase, *subscripts: Expr) -> Indexed:
    """Return an element of a tensor; SymPy takes 50 us to work out what is known of it."""
    return Indexed(base, *subscripts)


def branches(node: Piecewise) -> tuple[tuple[Expr, Basic], ...]:
    """Return the (value, condition) pairs of a piecewise expression."""
    return tuple((pair.expr, pair.cond) for pair in node.args)

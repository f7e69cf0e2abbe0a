"""The equation: the one kind of thing that is differentiated, printed, lowered and verified."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr, Idx, Indexed, Symbol

from symprop.formulas import text

__all__ = ["Equation", "name_of"]


def name_of(leaf: Expr) -> str:
    """Return the name of the variable that a symbol or a subscripted tensor reads."""
    symbol = leaf.base.label if isinstance(leaf, Indexed) else leaf
    return str(symbol.name)  # its str() takes 25 us, and names are asked for very often


@dataclass(frozen=True, slots=True)
class Equation:
    """``lhs = rhs`` for every value of the free indices.

    `lhs` is a symbol, or a tensor subscripted by distinct indices. With
    `accumulate`, `lhs` may have any subscripts: the tensor is the sum of `rhs`
    over all values of the free indices of both sides, each added at its own
    subscripts (a scatter: the adjoint of reading at those subscripts).
    """

    lhs: Symbol | Indexed
    rhs: Expr
    accumulate: bool = False

    @property
    def name(self) -> str:
        """The name of the variable that the equation defines."""
        return name_of(self.lhs)

    @property
    def indices(self) -> tuple[Idx, ...]:
        """The subscripts of the left side."""
        return tuple(self.lhs.indices) if isinstance(self.lhs, Indexed) else ()

    def __str__(self) -> str:
        """Return the equation as a person writes it."""
        return text(self)

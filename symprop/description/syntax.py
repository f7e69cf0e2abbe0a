"""From the text of an expression to a syntax tree of bounded size.

Python's own parser makes the tree, and nothing is run. It is given no text that is long
or deeply nested, because that may exhaust its stack; what it gives back is measured too.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable
from typing import NoReturn

from symprop.errors import SympropError

__all__ = ["PRODUCT", "REFUSED", "SUM", "ExpressionError", "syntax_tree", "words"]

SUM, PRODUCT = (ast.Add, ast.Sub), (ast.Mult, ast.Div)
"""The operators that make long chains without nesting."""

_LENGTH = 10_000
_DEPTH = 60
_NODES = 4_000
_CALLS = 8

REFUSED: dict[type[ast.AST], str] = {
    ast.Attribute: "attributes (a name after a dot) are not allowed",
    ast.Lambda: "lambda is not allowed",
    ast.JoinedStr: "strings are not allowed",
    ast.ListComp: "comprehensions are not allowed; sum over an index: sum(x[i], i)",
    ast.SetComp: "comprehensions are not allowed; sum over an index: sum(x[i], i)",
    ast.DictComp: "comprehensions are not allowed; sum over an index: sum(x[i], i)",
    ast.GeneratorExp: "comprehensions are not allowed; sum over an index: sum(x[i], i)",
    ast.NamedExpr: "':=' is not allowed; give the value an equation of its own",
    ast.Starred: "a starred argument is not allowed",
    ast.List: "lists are not allowed",
    ast.Tuple: "commas separate only arguments and subscripts",
    ast.Dict: "braces are not allowed",
    ast.Set: "braces are not allowed",
    ast.Slice: "slices are not allowed; use an index",
    ast.Await: "await is not allowed",
    ast.Yield: "yield is not allowed",
    ast.YieldFrom: "yield is not allowed",
}
"""What is said of the syntax nodes that no expression may hold."""


class ExpressionError(SympropError, ValueError):
    """An expression is refused; `problems` holds (column, message) pairs.

    The column counts from 1; it is 0 where the expression as a whole is meant. There are
    no problems where the expression only uses names that were refused elsewhere.
    """

    def __init__(self, problems: Iterable[tuple[int, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"column {column}: {text}" for column, text in self.problems))


def words(text: str) -> set[str]:
    """Return every word of `text` that could be a name."""
    return set(re.findall(r"[A-Za-z_]\w*", text[: 10 * _LENGTH], re.ASCII))


def syntax_tree(line: str, excused: bool) -> ast.expr:
    """Return the syntax tree of an expression whose length, characters and depth are bounded.

    `excused` says that a name which was refused elsewhere may be the only fault (``lambda``).
    """
    _check_text(line)
    indent = len(line) - len(line.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = ast.parse(line.lstrip(), mode="eval").body
    except SyntaxError as error:
        column = (error.offset or len(line.lstrip()) + 1) + indent
        problem = (column, f"not an expression: {error.msg}")
        raise ExpressionError(() if excused else [problem]) from None
    except (ValueError, MemoryError, RecursionError):
        raise ExpressionError([(0, "too long a chain of operators; split it up")]) from None
    for node in ast.walk(tree):
        if isinstance(node, ast.expr):
            node.col_offset += indent
    _check_tree(tree)
    return tree


def _check_text(line: str) -> None:
    """Refuse what Python's parser should not see: length, characters and nesting."""
    if len(line) > _LENGTH:
        _fail(0, f"{len(line):,} characters, expected at most {_LENGTH:,}; split the equation")
    if not line.strip():
        _fail(0, "the expression is empty")
    foreign = re.search(r"[^ -~]|[#\\]", line)
    if foreign:
        _fail(foreign.start() + 1, f"the character {foreign[0]!r} is not allowed")
    depth = 0
    for column, character in enumerate(line, 1):
        depth += (character in "([{") - (character in ")]}")
        if depth > _DEPTH:
            _fail(column, f"more than {_DEPTH} nested parentheses; split the equation")


def _check_tree(tree: ast.expr) -> None:
    """Refuse trees that are too large or too deep; long sums and products are not deep."""
    count, stack = 0, [(tree, 1, 0)]
    while stack:
        node, depth, calls = stack.pop()
        count += 1
        calls += isinstance(node, ast.Call)
        if depth > _DEPTH:
            _fail(node.col_offset + 1, f"nested more than {_DEPTH} deep; split the equation")
        if calls > _CALLS:
            _fail(node.col_offset + 1, f"more than {_CALLS} nested calls; split the equation")
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                stack.append((child, depth + (not _continues(node, child)), calls))
    if count > _NODES:
        _fail(0, f"{count:,} operations and names, expected at most {_NODES:,}; split the equation")


def _fail(column: int, message: str) -> NoReturn:
    raise ExpressionError([(column, message)])


def _continues(node: ast.expr, child: ast.expr) -> bool:
    """Tell whether `child` is the rest of the sum, product or choice that `node` begins."""
    if isinstance(node, ast.IfExp):
        return isinstance(child, ast.IfExp) and child is node.orelse
    if not (isinstance(node, ast.BinOp) and isinstance(child, ast.BinOp) and child is node.left):
        return False
    return any(isinstance(node.op, ops) and isinstance(child.op, ops) for ops in (SUM, PRODUCT))

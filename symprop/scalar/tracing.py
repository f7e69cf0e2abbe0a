"""How compiled code calls the scalar functions: their instructions are written where it does.

What stands below the lines "imports" and "tracing" is copied into generated modules, so it uses
nothing else of symprop; and nothing of Numba but what is made for extensions.
"""

# ------------------------------------------------------------------------------ imports
from functools import wraps
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, typeof, types
from numba.extending import lower_builtin, type_callable
from numpy.lib.mixins import NDArrayOperatorsMixin

# ------------------------------------------------------------------------------ precision
real: Any = np.float64

# ------------------------------------------------------------------------------ tracing
_FLOAT = ir.FloatType() if real is np.float32 else ir.DoubleType()
_INTEGER = ir.IntType(8 * np.dtype(real).itemsize)
_FLAGS = "contract", "nsz"  # the caller's would undo exact differences
_SIGNS = {
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==",
    "not_equal": "!=",
}  # fmt: skip
_OF_FLOATS = {
    "add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv", "negative": "fneg",
}  # fmt: skip
_OF_INTEGERS = {
    "add": "add", "subtract": "sub", "left_shift": "shl", "right_shift": "ashr",
    "bitwise_and": "and_", "bitwise_or": "or_", "bitwise_xor": "xor",
}  # fmt: skip
_CALLED = {"absolute": "llvm.fabs", "sqrt": "llvm.sqrt"}


class _Traced(NDArrayOperatorsMixin):
    """A number that is known once the code runs; what NumPy computes of it becomes instructions."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __bool__(self) -> bool:
        raise TypeError("a condition is known once the code runs; _where(condition, a, b) chooses")

    def __array_ufunc__(self, function: Any, method: str, *operands: Any) -> Any:
        """Write the instruction for one of NumPy's functions, which operators call too."""
        name, b, kind = function.__name__, self.builder, self.value.type
        values = [_value(operand, kind) for operand in operands]
        if isinstance(kind, ir.IntType):
            if name in _SIGNS:
                return _Traced(b, b.icmp_signed(_SIGNS[name], *values))
            return _Traced(b, getattr(b, _OF_INTEGERS[name])(*values))
        if name in _SIGNS:  # NaN is not equal to any number
            compare = b.fcmp_unordered if name == "not_equal" else b.fcmp_ordered
            return _Traced(b, compare(_SIGNS[name], *values, flags=_FLAGS))
        if name in _CALLED:
            called = b.module.declare_intrinsic(_CALLED[name], [kind])
            return _Traced(b, b.call(called, values, fastmath=_FLAGS))
        return _Traced(b, getattr(b, _OF_FLOATS[name])(*values, flags=_FLAGS))


def _value(operand: Any, kind: Any) -> Any:
    """Return what the code has for an operand; a constant has this type."""
    return operand.value if isinstance(operand, _Traced) else ir.Constant(kind, operand)


def _choice(condition: Any, a: Any, b: Any) -> Any:
    """Write a selection, for `_where`."""
    kinds = [number.value.type for number in (a, b) if isinstance(number, _Traced)]
    kind = kinds[0] if kinds else _INTEGER if isinstance(a, int) else _FLOAT
    chosen = condition.builder.select(condition.value, _value(a, kind), _value(b, kind))
    return _Traced(condition.builder, chosen)


def _conversion(*steps: tuple[str, Any]) -> Any:
    """Return a function that writes instructions which change a number's type."""

    def write(number: Any) -> Any:
        b, value = number.builder, number.value
        for name, kind in steps:
            value = getattr(b, name)(value, kind)
        return _Traced(b, value)

    return write


# Functions that are an instruction, though NumPy has none for it.
_WRITTEN_AS = {
    "_where": _choice,
    "_bits": _conversion(("bitcast", _INTEGER)),
    "_number": _conversion(("bitcast", _FLOAT)),
    "_wide": _conversion(("fpext", ir.DoubleType())),
    "_narrow": _conversion(("fptrunc", _FLOAT)),
    "_last_bits": _conversion(("bitcast", ir.IntType(64)), ("trunc", ir.IntType(32))),
}


def _scalar(function: Any) -> Any:
    """Return a function that compiled code may call: Python runs it while the call is compiled.

    Numba would compile each by itself (0.05 to 0.3 s), copy it into the functions that call
    it and optimise it there once more.
    """
    if config.DISABLE_JIT:
        return function
    if function.__name__ in _WRITTEN_AS:
        return _WRITTEN_AS[function.__name__]

    @type_callable(function)
    def kinds(context: Any) -> Any:
        kind = typeof(real())
        return wraps(function)(lambda *arguments: kind(*[kind] * len(arguments)))

    @lower_builtin(function, types.VarArg(types.Any))
    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return function(*(_Traced(builder, value) for value in values)).value

    return function


# ------------------------------------------------------------------------------ tables
def _table(function: Any, count: int) -> Any:
    """Return a function that looks up the numbers that `function` returns for one below `count`."""
    if config.DISABLE_JIT:
        return function

    def write(number: Any) -> Any:
        b, name = number.builder, function.__name__
        if name not in b.module.globals:
            rows = [*map(function, range(count))]
            kind = ir.ArrayType(ir.ArrayType(_FLOAT, len(rows[0])), count)
            table = ir.GlobalVariable(b.module, kind, name)
            table.linkage, table.global_constant = "internal", True
            table.initializer = ir.Constant(kind, rows)
        table, first = b.module.globals[name], ir.Constant(number.value.type, 0)
        row = b.load(b.gep(table, [first, number.value], inbounds=True))
        return tuple(_Traced(b, b.extract_value(row, n)) for n in range(row.type.count))

    return write

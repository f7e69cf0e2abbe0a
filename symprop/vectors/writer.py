"""Functions of vector instructions, written with LLVM's builder and called once each is needed.

`symprop.vectors` says which parts are copied into generated modules.
"""

# ------------------------------------------------------------------------------ imports
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, reduce
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

# ------------------------------------------------------------------------------ below
from symprop.vectors.modes import (
    _WRITTEN,
    _hint,
    _prefer_512,
    _registers,
    _Tensor,
    for_range_slice,
    get_or_insert_function,
)

# ------------------------------------------------------------------------------ writer
_FLAG, _WORD, _INDEX = (ir.IntType(bits) for bits in (1, 32, 64)) if _WRITTEN else (None,) * 3


class _Writer:
    """Writes the instructions of one LLVM function; starts and strides count elements."""

    def __init__(self, context: Any, builder: Any, element: Any) -> None:
        size, self.registers = _registers(*context.codegen().magic_tuple())
        self.builder = builder
        self.bytes = 4 if isinstance(element, ir.FloatType) else 8
        self.element, self.lanes = element, size // self.bytes
        self.vector = ir.VectorType(element, self.lanes)
        self.zero = self.zeros(self.lanes)

    def index(self, value: Any) -> Any:
        """Return an index, a constant one for an int."""
        return ir.Constant(_INDEX, value) if isinstance(value, int) else value

    def at(self, start: Any, *steps: tuple[Any, int]) -> Any:
        """Return start + sum of index * stride for each step; what is known now is added last."""
        known, terms = 0, []
        for index, stride in ((start, 1), *steps):
            number = getattr(index, "constant", index)
            if isinstance(number, int):
                known += number * stride
            elif stride:
                terms.append(index if stride == 1 else self.builder.mul(index, self.index(stride)))
        terms += [self.index(known)] if known or not terms else []
        return reduce(self.builder.add, terms)

    def size(self, width: int) -> int:
        """Return the lanes of the vector for so many elements: half a one of 512 bits may do.

        Some processors take two cycles for a whole one; smaller ones take no less than a half.
        """
        half = 32 // self.bytes
        return half if width <= half < self.lanes else self.lanes

    def zeros(self, lanes: int) -> Any:
        """Return a vector of zeros."""
        return ir.Constant(ir.VectorType(self.element, lanes), [0.0] * lanes)

    def call(self, name: str, result: Any, *values: Any) -> Any:
        """Call an LLVM intrinsic; a star in its name is the type of its first vector."""
        kind = ir.FunctionType(result, [value.type for value in values])
        lanes = next((v.type.count for v in values if isinstance(v.type, ir.VectorType)), 0)
        full = name.replace("*", f"v{lanes}f{8 * self.bytes}")
        return self.builder.call(get_or_insert_function(self.builder.module, kind, full), values)

    def address(self, pointer: Any, start: Any, size: int) -> Any:
        """Return the address of a vector of `size` elements."""
        kind = ir.VectorType(self.element, size)
        return self.builder.bitcast(self.builder.gep(pointer, [start]), kind.as_pointer())

    def place(self, pointer: Any, start: Any, width: int, lanes: int) -> tuple[Any, Any, Any]:
        """Return the address of a vector, its alignment, and the mask of `width` of its lanes."""
        mask = [int(lane < width) for lane in range(lanes)]
        return (
            self.address(pointer, start, lanes),
            ir.Constant(_WORD, self.bytes),
            ir.Constant(ir.VectorType(_FLAG, lanes), mask),
        )

    def load(self, pointer: Any, start: Any, width: int, lanes: int = 0) -> Any:
        """Return `width` elements as a vector of so many lanes, or of their `size`.

        Nothing behind them is read; other lanes are 0.
        """
        lanes = lanes or self.size(width)
        if width & (width - 1):
            place, zeros = self.place(pointer, start, width, lanes), self.zeros(lanes)
            return self.call("llvm.masked.load.*.p0", zeros.type, *place, zeros)
        loaded = self.builder.load(self.address(pointer, start, width))
        loaded.align = self.bytes
        if width == lanes:
            return loaded
        order = [*range(width), *[width] * (lanes - width)]
        return self.shuffle(loaded, self.zeros(width), order)

    def store(self, value: Any, pointer: Any, start: Any, width: int) -> None:
        """Store the first `width` elements of a vector.

        Below 512 bits in parts of 2^n elements: masked stores take some processors tens of cycles.
        """
        total = value.type.count
        if width < total and self.lanes * self.bytes == 64:
            place = self.place(pointer, start, width, total)
            self.call("llvm.masked.store.*.p0", ir.VoidType(), value, *place)
            return
        done = 0
        while done < width:
            size = 1 << (width - done).bit_length() - 1
            lanes = [*range(done, done + size)]
            part = self.shuffle(value, value, lanes) if size < total else value
            address = self.address(pointer, self.at(start, (done, 1)), size)
            self.builder.store(part, address).align = self.bytes
            done += size

    def shuffle(self, first: Any, second: Any, lanes: list[int]) -> Any:
        """Return lanes of two vectors, those of the second counted on."""
        chosen = ir.Constant(ir.VectorType(_WORD, len(lanes)), lanes)
        return self.builder.shuffle_vector(first, second, chosen)

    def head(self, vector: Any, lanes: int) -> Any:
        """Return the first lanes of a vector."""
        if lanes == vector.type.count:
            return vector
        return self.shuffle(vector, vector, [*range(lanes)])

    def accumulate(self, first: Any, second: Any, slot: Any) -> None:
        """Add the products of two vectors to the one in a slot."""
        before = self.builder.load(slot)
        self.builder.store(self.call("llvm.fmuladd.*", before.type, first, second, before), slot)

    def merge(self, slots: list[Any], others: list[Any]) -> None:
        """Add the vectors in some slots to those in others."""
        for slot, other in zip(slots, others, strict=True):
            both = map(self.builder.load, (other, slot))
            self.builder.store(self.builder.fadd(*both), other)

    def totals(self, vectors: list[Any]) -> list[Any]:
        """Return the sums of the lanes of several vectors.

        Two vectors become one with half as many lanes of each, and so on: first neighbours in the
        same 16 bytes, whose lanes cost least to move, then those groups.
        """
        group, owners = 16 // self.bytes, [[n] * self.lanes for n in range(len(vectors))]
        for level in range(self.lanes.bit_length() - 1):
            size, inside = (1, group) if 1 << level < group else (group, self.lanes)
            low = [
                lane + start + source * self.lanes
                for start in range(0, self.lanes, inside)
                for source in (0, 1)
                for unit in range(0, inside, 2 * size)
                for lane in range(unit, unit + size)
            ]
            high = [lane + size for lane in low]
            pairs = [(n, min(n + 1, len(vectors) - 1)) for n in range(0, len(vectors), 2)]
            owners = [[(owners[a] + owners[b])[lane] for lane in low] for a, b in pairs]
            vectors = [
                self.builder.fadd(*(self.shuffle(vectors[a], vectors[b], n) for n in (low, high)))
                for a, b in pairs
            ]
        places = {n: (v, row.index(n)) for v, row in zip(vectors, owners, strict=True) for n in row}
        return [
            self.builder.extract_element(vector, ir.Constant(_WORD, lane))
            for _, (vector, lane) in sorted(places.items())
        ]

    def first(self, vector: Any, count: Any) -> Any:
        """Return a vector with zeros behind its first `count` lanes."""
        lanes = ir.Constant(ir.VectorType(_INDEX, self.lanes), [*range(self.lanes)])
        inside = self.builder.icmp_signed("<", lanes, self.repeat(count, self.lanes))
        return self.builder.select(inside, vector, self.zero)

    def read(self, pointer: Any, start: Any) -> Any:
        """Return one element."""
        return self.builder.load(self.builder.gep(pointer, [start]))

    def splat(self, pointer: Any, start: Any, lanes: int) -> Any:
        """Return a vector of one element."""
        return self.repeat(self.read(pointer, start), lanes)

    def repeat(self, value: Any, lanes: int) -> Any:
        """Return a vector of one number."""
        empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
        vector = self.builder.insert_element(empty, value, ir.Constant(_WORD, 0))
        return self.shuffle(vector, empty, [0] * lanes)

    def fetch(self, pointer: Any, start: Any, change: bool) -> None:
        """Tell the processor that an element will soon be read, or changed."""
        address = self.builder.bitcast(
            self.builder.gep(pointer, [start]), ir.IntType(8).as_pointer()
        )
        kind = (ir.Constant(_WORD, n) for n in (int(change), 3, 1))  # kept near; data
        self.call("llvm.prefetch.p0", ir.VoidType(), address, *kind)

    @contextmanager
    def loop(self, start: Any, stop: Any, step: int = 1, turns: int = 1) -> Iterator[Any]:
        """Write a loop, but none for a single turn; gives its index.

        LLVM makes one of so many turns, and no more: what it would unroll by itself is several
        times as much code as the nearest cache holds, and slower.
        """
        if isinstance(stop, int) and stop <= start + step:
            yield self.index(start)
            return
        bounds = map(self.index, (start, stop, step))
        with for_range_slice(self.builder, *bounds) as (index, _):
            yield index
            last = self.builder.basic_block
        hint = "llvm.loop.unroll.count", ir.Constant(_WORD, turns)
        _hint(self.builder.module, last.terminator, hint)

    def whole(self, start: Any, stop: Any, step: int) -> Any:
        """Return where the last whole step of a loop ends: at its `stop` if that is known now."""
        if step == 1:
            return stop
        if isinstance(start, int) and isinstance(stop, int):
            rest = (stop - start) % step
            return stop - rest if rest else stop
        turns = self.builder.and_(self.at(stop, (start, -1)), self.index(-step))
        return self.at(start, (turns, 1))

    def along(self, starts: Any, index: Any, strides: Any) -> list[Any]:
        """Return each start + index * its stride."""
        return [self.at(s, (index, n)) for s, n in zip(starts, strides, strict=True)]

    @contextmanager
    def nest(self, dimensions: Any, starts: Any) -> Iterator[Any]:
        """Write a loop for each (count, *strides); gives the starts moved along."""
        with ExitStack() as stack:
            for count, *strides in dimensions:
                starts = self.along(starts, stack.enter_context(self.loop(0, count)), strides)
            yield starts


def _outlined(name: str, write: Callable[..., None], offsets: tuple[int, ...], *kinds: Any) -> Any:
    """Return an intrinsic's type and code: a call of an LLVM function that `write` writes.

    It gets the data of the arrays among the values, from their `offsets` on, and indices. One
    function for each name and element type, however often it is called and wherever in the arrays
    it works, keeps the compiler's work small.
    """
    arrays = [kind for kind in kinds if isinstance(kind, types.Array)]
    numbers = {kind.dtype for kind in arrays if isinstance(kind.dtype, types.Float)}
    if len(numbers) != 1 or any(kind.layout != "C" for kind in arrays):
        return None
    full = f"{name} {numbers}"

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        values = [
            context.make_array(kind)(context, builder, value).data
            if kind in arrays and not isinstance(kind, _Tensor)
            else value
            for kind, value in zip(signature.args, values, strict=True)
        ]
        if full not in builder.module.globals:
            kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
            function = ir.Function(builder.module, kind, full)
            function.linkage = "internal"
            function.attributes.add("noinline")
            function.attributes.add("nounwind")
            _prefer_512(function)
            for argument in function.args:
                if isinstance(argument.type, ir.PointerType):
                    argument.add_attribute("noalias")
            inner = ir.IRBuilder(function.append_basic_block())
            write(_Writer(context, inner, values[0].type.pointee), *function.args)
            inner.ret_void()
        given = [
            builder.gep(value, [ir.Constant(_INDEX, offset)]) if offset else value
            for value, offset in zip(values, (*offsets, *[0] * len(values)), strict=False)
        ]
        builder.call(builder.module.globals[full], given)
        return context.get_dummy_value()

    return types.void(*(kind if kind in arrays else types.int64 for kind in kinds)), emit


def _intrinsic(
    name: str, write: Callable[..., None], arguments: int, offsets: tuple[int, ...] = ()
) -> Any:
    """Return the intrinsic of so many arguments that `write` writes; Numba looks at their names."""
    outlined = partial(_outlined, name, write, offsets)
    calls = {
        2: lambda typingctx, a, b: outlined(a, b),
        3: lambda typingctx, a, b, c: outlined(a, b, c),
        4: lambda typingctx, a, b, c, d: outlined(a, b, c, d),
        5: lambda typingctx, a, b, c, d, e: outlined(a, b, c, d, e),
        6: lambda typingctx, a, b, c, d, e, f: outlined(a, b, c, d, e, f),
    }
    return intrinsic(calls[arguments])


def _strips(total: int, lanes: int) -> list[tuple[int, int, int]]:
    """Split into whole vectors and a rest: (start, stop, size)."""
    whole = total // lanes * lanes
    strips = [(0, whole, lanes), (whole, total, total - whole)]
    return [(start, stop, size) for start, stop, size in strips if size and stop > start]

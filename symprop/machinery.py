"""The vector machinery: matrix products in register tiles, transposes, gathered batches.

The sections of this file are copied into generated modules (`symprop.vectors.text`), so they use
nothing else of symprop.
"""

# ------------------------------------------------------------------------------ imports
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding, ir
from numba import config, njit, types
from numba.extending import intrinsic

try:  # names that Numba does not promise
    from numba.core.cgutils import (
        alloca_once,
        for_range_slice,
        get_or_insert_function,
        unpack_tuple,
    )
    from numba.np.arrayobj import populate_array
except ImportError as error:
    populate_array = None
    warnings.warn(f"{error}: plain loops are used, far slower ones", stacklevel=1)

# ------------------------------------------------------------------------------ modes
_WRITTEN = populate_array is not None and not config.DISABLE_JIT  # else plain loops do the same


def _prefer_512(function: Any) -> None:
    """Let LLVM use whole registers; it takes many processors for ones that prefer half of them."""
    set.add(function.attributes, '"prefer-vector-width"="512"')  # llvmlite has no such name


@cache
def _registers(triple: str, processor: str, features: str) -> tuple[int, int]:
    """Return the bytes of a vector register and how many there are, as LLVM shows by using one."""
    target = binding.Target.from_triple(triple)
    machine = target.create_target_machine(cpu=processor, features=features)
    module, vector = ir.Module(), ir.VectorType(ir.FloatType(), 16)
    function = ir.Function(module, ir.FunctionType(vector, [vector, vector]), "sum")
    _prefer_512(function)
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(builder.fadd(*function.args))
    assembly = machine.emit_assembly(binding.parse_assembly(str(module)))
    size = 64 if "zmm" in assembly else 32 if "ymm" in assembly else 16
    return size, 16 if triple.startswith("x86") and size < 64 else 32


def _hint(module: Any, branch: Any, *hints: tuple[Any, ...]) -> None:
    """Give LLVM hints about a loop, whose mark is the branch back to its head."""
    given = [module.add_metadata(hint) for hint in hints]
    mark = module.add_metadata(given)
    mark.operands = (mark, *given)  # so LLVM knows it for the mark of a loop
    branch.set_metadata("llvm.loop", mark)


def _mode(change: Callable[..., Any]) -> Callable[..., Any]:
    """Return code that changes the mode of x86's arithmetic and gives the mode before."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        slot = alloca_once(builder, ir.IntType(32))
        if not builder.module.triple.startswith("x86"):
            return ir.Constant(ir.IntType(32), 0)
        address = builder.bitcast(slot, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [address.type])
        read = get_or_insert_function(builder.module, kind, "llvm.x86.sse.stmxcsr")
        write = get_or_insert_function(builder.module, kind, "llvm.x86.sse.ldmxcsr")
        builder.call(read, [address])
        before = builder.load(slot)
        builder.store(change(builder, before, *values), slot)
        builder.call(write, [address])
        return before

    return emit


if _WRITTEN:

    @intrinsic
    def _hot(typingctx: Any) -> Any:
        """Let LLVM use whole registers in this function and take its arrays for disjoint.

        Inside of another function it would have neither, so it stays one of its own.
        """

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            _prefer_512(builder.function)
            builder.function.attributes.add("noinline")
            for argument in builder.function.args:
                # An i8* points to what views of one array share; only their data are disjoint.
                pointer = isinstance(argument.type, ir.PointerType)
                if pointer and argument.type.pointee != ir.IntType(8):
                    argument.add_attribute("noalias")
            return context.get_dummy_value()

        return types.void(), emit

    @intrinsic
    def _compact(typingctx: Any) -> Any:
        """Let LLVM neither unroll nor interleave the loops of this function, which are above.

        Over lanes they take a few turns. Their code would be several times as much, take as many
        times as long to compile, and run no faster.
        """

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            one = ir.Constant(ir.IntType(32), 1)
            seen = set()
            for block in builder.function.blocks:
                seen.add(block)
                last = block.terminator
                if last is not None and not seen.isdisjoint(last.operands):
                    once = "llvm.loop.interleave.count", one
                    _hint(builder.module, last, once, ("llvm.loop.unroll.disable",))
            return context.get_dummy_value()

        return types.void(), emit

    @intrinsic
    def _lanes(typingctx: Any, samples: Any, most: Any) -> Any:
        """Return samples rounded up to whole registers, of which one of 512 bits holds `most`."""

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            parts = 64 // _registers(*context.codegen().magic_tuple())[0]
            count, one = values[0], ir.Constant(values[0].type, 1)
            held = builder.udiv(values[1], ir.Constant(count.type, parts))
            whole = builder.sub(builder.add(count, held), one)
            return builder.and_(whole, builder.neg(held))

        return types.intp(types.intp, types.intp), emit

    @intrinsic
    def _view(typingctx: Any, memory: Any, first: Any, shape: Any) -> Any:
        """Return a part of a contiguous array as one too, which must not outlive it.

        That is memory.ravel()[first : first + size].reshape(shape), without Numba's work for that.
        """

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            source = context.make_array(memory)(context, builder, values[0])
            result = context.make_array(signature.return_type)(context, builder)
            lengths = unpack_tuple(builder, values[2])
            step = context.get_constant(
                types.intp, context.get_abi_sizeof(source.data.type.pointee)
            )
            strides = [step]
            for length in lengths[:0:-1]:
                strides.insert(0, builder.mul(strides[0], length))
            data = builder.gep(source.data, [values[1]])
            populate_array(result, data, lengths, strides, step, None)
            return result._getvalue()

        view = types.Array(memory.dtype, len(shape), "C")
        return view(memory, types.intp, types.UniTuple(types.intp, len(shape))), emit

    @intrinsic
    def _apart(typingctx: Any, function: Any, *arguments: Any) -> Any:
        """Return function(*arguments), called where its code is.

        Numba's own call would copy the function into the caller and optimise it once more.
        """
        called = function.get_call_type(typingctx, arguments, {})

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            given = zip(unpack_tuple(builder, values[1]), arguments, called.args, strict=True)
            cast = [context.cast(builder, value, kind, wanted) for value, kind, wanted in given]
            code = function.dispatcher.overloads[called.args].fndesc
            return context.call_internal(builder, code, called, cast)

        return called.return_type(function, types.Tuple(arguments)), emit

    @intrinsic
    def _flush(typingctx: Any) -> Any:
        """Let subnormal numbers be zero (x86: FTZ and DAZ); returns the mode before."""
        return types.uint32(), _mode(lambda b, mode: b.or_(mode, ir.Constant(mode.type, 0x8040)))

    @intrinsic
    def _restore(typingctx: Any, mode: Any) -> Any:
        """Set the mode that `_flush` returned."""
        return types.uint32(types.uint32), _mode(lambda builder, mode, value: value)

    @intrinsic
    def _meet(typingctx: Any, arrived: Any, enough: Any) -> Any:
        """Wait until as many arrivals as `enough` are counted, this one too."""

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            counter = context.make_array(arrived)(context, builder, values[0]).data
            one = ir.Constant(counter.type.pointee, 1)
            builder.atomic_rmw("add", counter, one, "acq_rel")
            look, pause, rest, go = map(builder.append_basic_block, ("look", "pause", "rest", "go"))
            turns = alloca_once(builder, one.type)
            builder.store(ir.Constant(one.type, 0), turns)
            builder.branch(look)
            builder.position_at_end(look)
            count = builder.load_atomic(counter, "acquire", 8)
            builder.cbranch(builder.icmp_signed(">=", count, values[1]), go, pause)
            builder.position_at_end(pause)
            turn = builder.add(builder.load(turns), one)
            builder.store(turn, turns)
            nothing = ir.FunctionType(ir.VoidType(), [])
            if builder.module.triple.startswith("x86"):
                name = "llvm.x86.sse2.pause"
                builder.call(get_or_insert_function(builder.module, nothing, name), [])
            patient = builder.icmp_signed("<", turn, ir.Constant(one.type, 2000))
            builder.cbranch(patient, look, rest)
            builder.position_at_end(rest)
            if "windows" not in builder.module.triple:  # let another thread have the processor
                kind = ir.FunctionType(ir.IntType(32), [])
                builder.call(get_or_insert_function(builder.module, kind, "sched_yield"), [])
            builder.branch(look)
            builder.position_at_end(go)
            return context.get_dummy_value()

        return types.void(arrived, types.int64), emit

else:
    _lanes = njit(lambda samples, most: -(-samples // most) * most)
    _apart = njit(lambda function, *arguments: function(*arguments))
    _meet = njit(lambda arrived, enough: None)
    _hot, _compact = njit(lambda: None), njit(lambda: None)
    _flush, _restore = njit(lambda: 0), njit(lambda mode: mode)

    @njit
    def _view(memory: Any, first: int, shape: Any) -> Any:
        size = 1
        for length in shape:
            size *= length
        return memory.reshape(-1)[first : first + size].reshape(shape)


# ------------------------------------------------------------------------------ vectors
_FLAG, _WORD, _INDEX = (ir.IntType(bits) for bits in (1, 32, 64)) if _WRITTEN else (None,) * 3


class _Writer:
    """Writes the instructions of one LLVM function; starts and strides count elements."""

    def __init__(self, context: Any, builder: Any, element: Any) -> None:
        size, self.registers = _registers(*context.codegen().magic_tuple())
        self.builder = builder
        self.bytes = 4 if isinstance(element, ir.FloatType) else 8
        self.lanes = size // self.bytes
        self.vector = ir.VectorType(element, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)

    def index(self, value: Any) -> Any:
        """Return an index, a constant one for an int."""
        return ir.Constant(_INDEX, value) if isinstance(value, int) else value

    def at(self, start: Any, *steps: tuple[Any, int]) -> Any:
        """Return start + sum of index * stride for each step."""
        start = self.index(start)
        for index, stride in steps:
            if stride:
                move = self.builder.mul(self.index(index), self.index(stride))
                start = self.builder.add(start, move)
        return start

    def call(self, name: str, result: Any, *values: Any) -> Any:
        """Call an LLVM intrinsic; a star in its name is the type of a vector."""
        kind = ir.FunctionType(result, [value.type for value in values])
        full = name.replace("*", f"v{self.lanes}f{8 * self.bytes}")
        return self.builder.call(get_or_insert_function(self.builder.module, kind, full), values)

    def address(self, pointer: Any, start: Any, size: int) -> Any:
        """Return the address of a vector of `size` elements."""
        kind = ir.VectorType(self.vector.element, size)
        return self.builder.bitcast(self.builder.gep(pointer, [start]), kind.as_pointer())

    def place(self, pointer: Any, start: Any, width: int) -> tuple[Any, Any, Any]:
        """Return the address of a vector, its alignment, and the mask of its first lanes."""
        mask = [int(lane < width) for lane in range(self.lanes)]
        return (
            self.address(pointer, start, self.lanes),
            ir.Constant(_WORD, self.bytes),
            ir.Constant(ir.VectorType(_FLAG, self.lanes), mask),
        )

    def load(self, pointer: Any, start: Any, width: int) -> Any:
        """Return `width` elements as a vector; nothing behind them is read."""
        if width & (width - 1):
            place = self.place(pointer, start, width)
            return self.call("llvm.masked.load.*.p0", self.vector, *place, self.zero)
        loaded = self.builder.load(self.address(pointer, start, width))
        loaded.align = self.bytes
        if width == self.lanes:
            return loaded
        zero = ir.Constant(loaded.type, [0.0] * width)
        return self.shuffle(loaded, zero, [*range(width), *[width] * (self.lanes - width)])

    def store(self, value: Any, pointer: Any, start: Any, width: int) -> None:
        """Store the first `width` elements of a vector.

        Below 512 bits in parts of 2^n elements: masked stores take some processors tens of cycles.
        """
        if width < self.lanes and self.lanes * self.bytes == 64:
            place = self.place(pointer, start, width)
            self.call("llvm.masked.store.*.p0", ir.VoidType(), value, *place)
            return
        done = 0
        while done < width:
            size = 1 << (width - done).bit_length() - 1
            lanes = [*range(done, done + size)]
            part = self.shuffle(value, value, lanes) if size < self.lanes else value
            address = self.address(pointer, self.at(start, (done, 1)), size)
            self.builder.store(part, address).align = self.bytes
            done += size

    def shuffle(self, first: Any, second: Any, lanes: list[int]) -> Any:
        """Return lanes of two vectors, those of the second counted on."""
        chosen = ir.Constant(ir.VectorType(_WORD, len(lanes)), lanes)
        return self.builder.shuffle_vector(first, second, chosen)

    def accumulate(self, first: Any, second: Any, slot: Any) -> None:
        """Add the products of two vectors to the one in a slot."""
        before = self.builder.load(slot)
        self.builder.store(self.call("llvm.fmuladd.*", self.vector, first, second, before), slot)

    def total(self, vector: Any) -> Any:
        """Return the sum of all lanes."""
        for half in (self.lanes >> n for n in range(1, self.lanes.bit_length())):
            low, high = [*range(half)], [*range(half, 2 * half)]
            parts = (self.shuffle(vector, vector, lanes) for lanes in (low, high))
            vector = self.builder.fadd(*parts)
        return self.builder.extract_element(vector, ir.Constant(_WORD, 0))

    def read(self, pointer: Any, start: Any) -> Any:
        """Return one element."""
        return self.builder.load(self.builder.gep(pointer, [start]))

    def splat(self, pointer: Any, start: Any) -> Any:
        """Return a vector of one element."""
        value = self.read(pointer, start)
        empty = ir.Constant(self.vector, ir.Undefined)
        vector = self.builder.insert_element(empty, value, ir.Constant(_WORD, 0))
        return self.shuffle(vector, empty, [0] * self.lanes)

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


def _outlined(name: str, write: Callable[..., None], *kinds: Any) -> Any:
    """Return an intrinsic's type and code: a call of an LLVM function that `write` writes.

    It gets the data of the arrays among the values, and indices. One function for each name and
    element type, however often it is called, keeps the compiler's work small.
    """
    arrays = [kind for kind in kinds if isinstance(kind, types.Array)]
    numbers = {kind.dtype for kind in arrays if isinstance(kind.dtype, types.Float)}
    if len(numbers) != 1 or any(kind.layout != "C" for kind in arrays):
        return None
    full = f"{name} {numbers}"

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        values = [
            context.make_array(kind)(context, builder, value).data if kind in arrays else value
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
        builder.call(builder.module.globals[full], values)
        return context.get_dummy_value()

    return types.void(*(kind if kind in arrays else types.int64 for kind in kinds)), emit


def _intrinsic(name: str, write: Callable[..., None], arguments: int) -> Any:
    """Return the intrinsic of so many arguments that `write` writes; Numba looks at their names."""
    calls = {
        2: lambda typingctx, a, b: _outlined(name, write, a, b),
        3: lambda typingctx, a, b, c: _outlined(name, write, a, b, c),
        4: lambda typingctx, a, b, c, d: _outlined(name, write, a, b, c, d),
        5: lambda typingctx, a, b, c, d, e: _outlined(name, write, a, b, c, d, e),
    }
    return intrinsic(calls[arguments])


def _strips(total: int, lanes: int) -> list[tuple[int, int, int]]:
    """Split into whole vectors and a rest: (start, stop, size)."""
    whole = total // lanes * lanes
    strips = [(0, whole, lanes), (whole, total, total - whole)]
    return [(start, stop, size) for start, stop, size in strips if size and stop > start]


# ------------------------------------------------------------------------------ contraction
_PANEL = 32768  # bytes of right that are worked on at a time: they stay in the nearest cache
_LARGE = 16384  # elements of left that no longer do, so that they must be fetched ahead
_AHEAD = 16  # terms
_HEIGHTS = 4, 2, 1  # rows of a tile where it is not known before how many there are
_NEAR = 2048  # elements: two pages; to find the memory of pages further ahead takes longer


def _parts(total: int, most: int) -> list[tuple[int, int, int]]:
    """Split evenly into parts of at most `most`: (start, stop, size) for each size.

    >>> _parts(13, 12), _parts(20, 7)
    ([(0, 7, 7), (7, 13, 6)], [(0, 14, 7), (14, 20, 6)])
    """
    count = -(-total // most)
    size = -(-total // count)
    middle = (total - count * (size - 1)) * size
    return [(0, middle, size), *([(middle, total, size - 1)] if middle < total else [])]


def _panels(columns: int, lanes: int, wide: int) -> Iterator[tuple[Any, Any, list[int]]]:
    """Split the columns into panels: (start, stop, widths of the vectors of one panel).

    >>> list(_panels(70, 16, 3))
    [(0, 48, [16, 16, 16]), (48, 80, [16, 6])]
    """
    for start, stop, size in _parts(-(-columns // lanes), wide):
        rest = min(lanes, columns - (stop - 1) * lanes)
        full = stop if rest == lanes else stop - size
        if full > start:
            yield start * lanes, full * lanes, [lanes] * size
        if full < stop:
            yield full * lanes, stop * lanes, [lanes] * (size - 1) + [rest]


def _tile(rows: int, vectors: int, registers: int, widest: int = 6) -> tuple[int, int]:
    """Return the rows and vectors of the tile of accumulators that takes the fewest cycles a term.

    A term of an r x c tile takes r c / 2 cycles for its products and 5/8 (r + c) for its loads, and
    no fewer than the 4 that a product waits for the one before it (measured).
    """

    def cost(tall: int, wide: int) -> tuple[int, int]:
        down, across = -(-rows // tall), -(-vectors // wide)
        loads = across * rows + down * vectors
        return max(4 * rows * vectors, 32 * down * across, 5 * loads) + down * across, loads

    tiles = [(r, c) for c in range(1, widest + 1) for r in range(1, registers * 3 // 4 // c + 1)]
    fitting = [(r, c) for r, c in tiles if r * c + c < registers]  # with a splat
    return min(fitting, key=lambda tile: cost(*tile))


class _Panel(NamedTuple):
    """Some vectors of right: the first element, the strides of a term and of a vector, widths."""

    array: Any
    start: Any
    stride: int
    step: int
    widths: list[int]


class _Dimensions(NamedTuple):
    """Those of a contraction, each with a stride in left, right, out and, but for terms, start."""

    columns: Any
    rows: Any
    terms: Any
    loops: Any
    offsets: Any
    over: bool
    begun: bool  # whether there is a start

    def given(self, more: Any) -> Any:
        """Return the start and the count among the arguments after out; None for what is not."""
        more = (*more, None)
        return more[:2] if self.begun else (None, more[0])

    def counted(self, count: Any) -> list[Any]:
        """Return the loops with `count` for the turns that are known when the code runs."""
        return [(count if turns is None else turns, *moves) for turns, *moves in self.loops]


class _Product:
    """Writes one contraction.

    The vectors of a tile are neighbours along the columns, each times one number of left. Where
    left moves along the columns too, they lie along a loop in which it stands still (`across`): so
    a vector of left as well as one of right is loaded once for several products.
    """

    def __init__(self, dimensions: _Dimensions) -> None:
        self.dimensions, self.across = dimensions, None
        self.columns, self.rows, self.terms, loops, _, self.over, _ = dimensions
        size = (self.rows[0] or 0) * (self.terms[0][0] or 128)
        self.large = len(self.terms) == 1 and size >= _LARGE
        self.ahead = self.large and self.terms[0][1] * _AHEAD <= _NEAR
        if self.columns[1]:
            still = [loop for loop in loops if loop[0] is not None and not loop[1]]
            self.across = max(still, default=(1, 0, 0, 0, 0))
            others = [loop for loop in loops if loop is not self.across]
            self.dimensions = dimensions._replace(loops=others)

    def write(self, w: _Writer, left: Any, right: Any, out: Any, *more: Any) -> None:
        """Write the loops around the panels: the outer ones and blocks of terms."""
        self.w, self.left, self.right, self.out, self.copy = w, left, right, out, None
        self.start, count = self.dimensions.given(more)
        self.moves = self.columns[1:]
        # from one vector of a tile to the next: in left, right, out and start
        narrow = (0, 0, w.lanes, w.lanes, self.moves[3] * w.lanes)
        self.steps: tuple[int, ...] = (self.across or narrow)[1:]
        sections = [(section, *self.panels(section[2], count)) for section in self.sections(count)]
        wide = max(wide for *_, wide in sections)
        most = max(tall * len(w) for _, panels, _ in sections for *_, w, tall in panels)
        self.slots = [alloca_once(w.builder, w.vector) for _ in range(most)]
        size = _PANEL // (wide * w.lanes * w.bytes)
        if self.large and self.terms[0][2] > wide * w.lanes:
            copy = alloca_once(w.builder, ir.ArrayType(w.vector, wide * size))
            self.copy = w.builder.bitcast(copy, right.type)
        around = w.nest(self.dimensions.counted(count), self.dimensions.offsets)
        with around as outer, self.blocks(size, count) as block:
            for section, panels, _ in sections:
                for start, stop, widths, tall in panels:
                    turn = len(widths) * (1 if self.across else w.lanes)
                    moves = self.steps if self.across else self.moves
                    with w.loop(start, stop, turn) as place:
                        starts = w.along(outer, place, moves)
                        for inner, width in self.lines(starts, count):
                            own = [width] * len(widths) if self.across else widths
                            self.panel(inner, own, section, tall, block)

    def sections(self, count: Any) -> list[tuple[Any, Any, int]]:
        """Return the sections of the rows: (start, stop, rows that are tiled together).

        Of rows that are counted when the code runs each section takes as many as it can.
        """
        w, rows = self.w, self.rows[0]
        if rows is not None:
            return [(0, rows, rows)]
        stops = [w.builder.and_(count, w.index(-tall)) for tall in _HEIGHTS]
        return list(zip([0, *stops], stops, _HEIGHTS, strict=False))

    def lines(self, starts: list[Any], count: Any) -> Iterator[tuple[list[Any], int]]:
        """Write the loops along columns that are not those of a panel; gives starts and widths."""
        w, total = self.w, self.columns[0]
        if not self.across:
            yield starts, w.lanes
            return
        for first, end, width in (
            [(0, count, w.lanes)] if total is None else _strips(total, w.lanes)
        ):
            with w.loop(first, end, width) as column:
                yield w.along(starts, column, self.moves), width

    def panels(self, rows: int, count: Any) -> tuple[list[tuple[Any, Any, list[int], int]], int]:
        """Return the panels, (start, stop, widths, rows of a tile), and the widest in vectors.

        Columns that are counted when the code runs are whole vectors: pairs, and perhaps one more.
        """
        w = self.w
        if self.across:
            tall, wide = _tile(rows, self.across[0], w.registers)
            parts = _parts(self.across[0], wide)
            return [(start, stop, [w.lanes] * size, tall) for start, stop, size in parts], wide
        if self.columns[0] is not None:
            tall, wide = _tile(rows, -(-self.columns[0] // w.lanes), w.registers)
            return [(*part, tall) for part in _panels(self.columns[0], w.lanes, wide)], wide
        tall, wide = _tile(rows, 2, w.registers, widest=2)
        pairs = w.builder.and_(count, w.index(-wide * w.lanes))
        found = [(w.index(0), pairs, [w.lanes] * wide, tall)]
        single, _ = _tile(rows, 1, w.registers, widest=1)
        return [*found, (pairs, count, [w.lanes], single)][: wide + 1], wide

    @contextmanager
    def blocks(self, size: int, count: Any) -> Iterator[Any]:
        """Write the loop over the blocks of terms of a large contraction.

        Gives the first term, the end, and a flag for the blocks after the first if there are some.
        """
        w, b, total = self.w, self.w.builder, self.terms[0][0]
        if not self.large or (total is not None and total <= size):
            yield 0, count if total is None else total, None
            return
        size = size if total is None else _parts(total, size)[0][2]
        stop = w.index(count if total is None else total)
        some = b.select(b.icmp_signed(">", stop, w.index(1)), stop, w.index(1))
        with w.loop(0, some, size) as first:  # once for no terms too: their sum is 0
            end = b.add(first, w.index(size))
            end = b.select(b.icmp_signed("<", end, stop), end, stop)
            yield first, end, b.icmp_signed(">", first, w.index(0))

    def panel(
        self, starts: list[Any], widths: list[int], section: Any, most: int, block: Any
    ) -> None:
        """Write the loops over the rows of tiles of one panel."""
        first, stop, rows = section
        read = [self.w.lanes] * len(widths) if self.over else widths
        panel = _Panel(self.right, starts[1], self.terms[0][2], self.steps[1], read)
        if self.copy is not None:
            panel = self.copied(panel, *block[:2])
        with self.w.loop(first, stop, rows) as top:
            starts = self.w.along(starts, top, self.rows[1:])
            for begin, end, tall in _parts(rows, most):
                with self.w.loop(begin, end, tall) as row:
                    left, _, out, begun = self.w.along(starts, row, self.rows[1:])
                    self.tile(left, out, begun, panel, [widths] * tall, block)

    def copied(self, panel: _Panel, first: Any, end: Any) -> _Panel:
        """Write the copy of a panel in which the vectors of a term follow those of the last one.

        Lines that are a power of two apart, as the rows of right often are, evict each other.
        """
        w, size = self.w, len(panel.widths) * self.w.lanes
        start = w.at(0, (first, -size))
        with w.loop(first, end) as term:
            place = w.at(start, (term, size))
            for n, vector in enumerate(
                self.vectors(panel, w.at(panel.start, (term, panel.stride)))
            ):
                w.store(vector, self.copy, w.at(place, (n, w.lanes)), w.lanes)
        return _Panel(self.copy, start, size, w.lanes, [w.lanes] * len(panel.widths))

    def begin(self, start: Any, row: int, column: int, width: int) -> Any:
        """Return what an accumulator starts from."""
        w = self.w
        if self.start is None:
            return w.zero
        at = w.at(start, (row, self.rows[4]), (column, self.steps[3]))
        return w.load(self.start, at, width) if self.columns[4] else w.splat(self.start, at)

    def tile(
        self, left: Any, out: Any, start: Any, panel: _Panel, widths: list[list[int]], block: Any
    ) -> None:
        """Write one tile: its accumulators are set, the terms of the block added, and stored."""
        w, (first, end, later) = self.w, block
        places = [(r, c, n) for r, row in enumerate(widths) for c, n in enumerate(row)]
        cells = [(w.at(out, (r, self.rows[3]), (c, self.steps[2])), n) for r, c, n in places]
        for slot, (at, _), place in zip(self.slots, cells, places, strict=False):
            w.builder.store(self.begin(start, *place), slot)
            if self.large:
                w.fetch(self.out, at, change=True)
        if later is not None:
            with w.builder.if_then(later):
                for slot, (at, width) in zip(self.slots, cells, strict=False):
                    w.builder.store(w.load(self.out, at, width), slot)
        strides = self.terms[0][1], panel.stride, 0
        turns = 1 if len(widths) >= w.registers // 2 else 2  # of a tall tile's, numbers would spill
        with w.loop(first, end, turns=turns) as term:
            starts = w.along((left, panel.start, out), term, strides)
            with w.nest(self.terms[1:], starts) as (left, right, _):
                self.term(left, self.vectors(panel, right), widths)
        for slot, (at, width) in zip(self.slots, cells, strict=False):
            w.store(w.builder.load(slot), self.out, at, width)

    def vectors(self, panel: _Panel, start: Any) -> list[Any]:
        """Return the vectors of a panel's term."""
        w = self.w
        return [
            w.load(panel.array, w.at(start, (n, panel.step)), m) for n, m in enumerate(panel.widths)
        ]

    def term(self, left: Any, vectors: list[Any], widths: list[list[int]]) -> None:
        """Write one term: the vectors of right times a number of left for each row of the tile."""
        w, slots = self.w, iter(self.slots)
        starts = [w.at(left, (row, self.rows[1])) for row in range(len(widths))]
        if self.ahead:
            for start in {0: starts[0], 1: starts[-1]}.values():
                w.fetch(self.left, w.at(start, (_AHEAD, self.terms[0][1])), change=False)
        for start, row in zip(starts, widths, strict=True):
            factor = w.load(self.left, start, row[0]) if self.across else w.splat(self.left, start)
            for vector in vectors:
                w.accumulate(factor, vector, next(slots))


class _Dots:
    """Writes one contraction whose columns are summed.

    A vector of right is loaded once for several rows, of which each has an accumulator.
    """

    def __init__(self, dimensions: _Dimensions) -> None:
        self.dimensions = dimensions

    def write(self, w: _Writer, left: Any, right: Any, out: Any, *more: Any) -> None:
        """Write the loops around the rows, and their sums."""
        rows, (start, count) = self.dimensions.rows, self.dimensions.given(more)
        parts = _parts(rows[0], w.registers // 2)
        slots = [alloca_once(w.builder, w.vector) for _ in range(parts[0][2])]
        with w.nest(self.dimensions.counted(count), self.dimensions.offsets) as outer:
            for begin, end, tall in parts:
                with w.loop(begin, end, tall) as row:
                    starts = w.along(outer, row, rows[1:])
                    self.add(w, left, right, starts, slots[:tall])
                    for n, slot in enumerate(slots[:tall]):
                        *_, place, begun = w.along(starts, n, rows[1:])
                        total = w.total(w.builder.load(slot))
                        if start is not None:
                            total = w.builder.fadd(w.read(start, begun), total)
                        w.builder.store(total, w.builder.gep(out, [place]))

    def add(self, w: _Writer, left: Any, right: Any, starts: list[Any], slots: list[Any]) -> None:
        """Write the sums of products, lane by lane, of some rows."""
        for slot in slots:
            w.builder.store(w.zero, slot)
        with w.nest(self.dimensions.terms, starts[:3]) as (line, other, _):
            for first, end, width in _strips(self.dimensions.columns[0], w.lanes):
                with w.loop(first, end, width) as column:
                    vector = w.load(right, w.at(other, (column, 1)), width)
                    for n, slot in enumerate(slots):
                        place = w.at(line, (n, self.dimensions.rows[1]), (column, 1))
                        w.accumulate(w.load(left, place, width), vector, slot)


def _contraction(
    columns: tuple[int | None, ...],
    rows: tuple[int | None, ...],
    terms: tuple[tuple[int | None, int, int, int], ...],
    loops: tuple[tuple[int | None, ...], ...] = (),
    offsets: tuple[int, ...] = (0, 0, 0),
    over: bool = False,
) -> Any:
    """Return f(left, right, out): out[o] = sum over the terms of left[l] * right[r].

    A dimension is (count, stride in left, in right, in out) in elements; o, l, r are `offsets`
    plus subscript * stride for all dimensions. `loops` are around everything, `rows` has no stride
    in right, `terms` have none in out. The columns are contiguous in right and out, and have stride
    0 or 1 in left; or they are summed, contiguous in left and right, and out stands still. If they
    have one more stride, 0 or 1, it is f(left, right, out, start), where the sum starts from
    start[s], and `rows`, `loops` and `offsets` may have one more number for it too. With None for
    the count of the columns, of the rows, of the first terms or of a loop one more argument is that
    count, for columns that are whole vectors. The arrays are C-contiguous, of one type, and out
    overlaps none of the others. With `over` the last vector of the columns is read whole: there is
    memory for as much behind right.
    """
    begun = len(columns) > 4
    wide, own, *around = ((*numbers, 0)[:5] for numbers in (columns, rows, *loops))
    dimensions = _Dimensions(wide, own, terms, around, (*offsets, 0)[:4], over, begun)
    if not _WRITTEN:
        return _plain_contraction(dimensions)
    writer = _Product(dimensions) if columns[3] else _Dots(dimensions)
    counts = columns[0], rows[0], terms[0][0], *(loop[0] for loop in loops)
    return _intrinsic(f"contraction {dimensions}", writer.write, 3 + begun + (None in counts))


def _offsets(dimensions: Any, axis: int) -> Any:
    """Return subscript * stride, summed, for all subscripts of the dimensions."""
    total = np.zeros(1, np.int64)
    for count, *strides in dimensions:
        total = np.add.outer(total, np.arange(count) * strides[axis]).ravel()
    return total


def _plain_contraction(dimensions: _Dimensions) -> Any:
    """Return the function of `_contraction` as plain loops."""
    (fixed, lane, right, out, along), rows, terms, loops, offsets, _, begun = dimensions
    if not out:  # one column, and one more term
        terms, fixed, lane = (*terms, (fixed, lane, right, out)), 1, 0
    splat = 1 - lane
    around = (*loops, rows)
    counted = next((each for each in around if each[0] is None), None)  # over the samples
    outer = [each for each in around if each is not counted]
    lefts, rights, outs, starts = (_offsets(outer, axis) + offsets[axis] for axis in range(4))
    inner_left, inner_right = _offsets(terms[1:], 0), _offsets(terms[1:], 1)
    total, step_left, step_right, _ = terms[0]
    _, move_left, move_right, move_out, move_start = counted or (1, 0, 0, 0, 0)

    @njit
    def sums(left: Any, right: Any, out: Any, start: Any, count: int) -> None:
        left, right, out = left.reshape(-1), right.reshape(-1), out.reshape(-1)
        width = count if fixed is None else fixed
        for s, n in np.ndindex(1 if counted is None else count, lefts.size):
            first = outs[n] + s * move_out
            result = out[first : first + width]
            if begun:
                first = starts[n] + s * move_start
                result[:] = start.reshape(-1)[first : first + (width if along else 1)]
            else:
                result[:] = 0
            for k in range(count if total is None else total):
                for m in range(inner_left.size):
                    at = lefts[n] + s * move_left + k * step_left + inner_left[m]
                    place = rights[n] + s * move_right + k * step_right + inner_right[m]
                    factor = left[at : at + splat + width * lane]
                    result += factor * right[place : place + width]

    if begun:
        return njit(lambda left, right, out, start, count=0: sums(left, right, out, start, count))
    return njit(lambda left, right, out, count=0: sums(left, right, out, out, count))


# ------------------------------------------------------------------------------ blocks
def _grouped(w: _Writer, array: Any, starts: list[Any], width: int) -> Any:
    """Return a vector of groups of 16 bytes, one from each start, zeros behind its `width`."""
    group = 16 // w.bytes
    kind, result = ir.VectorType(w.vector.element, group), w.zero
    mask = ir.Constant(ir.VectorType(_FLAG, group), [int(n < width) for n in range(group)])
    for place, start in enumerate(starts):
        address = w.address(array, start, group)
        name = f"llvm.masked.load.v{group}f{8 * w.bytes}.p0"
        zero = ir.Constant(kind, [0.0] * group)
        part = w.call(name, kind, address, ir.Constant(_WORD, w.bytes), mask, zero)
        wide = w.shuffle(part, part, [n % group for n in range(w.lanes)])
        chosen = [n + w.lanes * (n // group == place) for n in range(w.lanes)]
        result = w.shuffle(result, wide, chosen)
    return result


def _columns(w: _Writer, array: Any, starts: list[Any], width: int) -> list[Any]:
    """Return the first `width` columns of the rows that begin at `starts`, as vectors.

    Groups of 16 bytes are loaded where they belong, which takes no shuffle; then the rows inside
    of them are interleaved until they are columns.
    """
    group = 16 // w.bytes
    half = group // 2
    low = [n % group // 2 + n // group * group + n % 2 * w.lanes for n in range(w.lanes)]
    high = [n + half for n in low]
    columns: list[Any] = []
    for first in range(0, width, group):
        moved = [w.at(start, (first, 1)) for start in starts]
        rows = [_grouped(w, array, moved[n::group], width - first) for n in range(group)]
        for _ in range(half):
            pairs = list(zip(rows[:half], rows[half:], strict=True))
            rows = [w.shuffle(a, b, order) for a, b in pairs for order in (low, high)]
        columns += rows
    return columns[:width]


# ------------------------------------------------------------------------------ transpose
def _transpose(rows: int, columns: int, count: int = 1, some: bool = False) -> Any:
    """Return f(source, target): target[n, c, r] = source[n, r, c] for n < count.

    With `some` it is f(source, target, used) for c < used, whole vectors. The arrays are
    C-contiguous of any shape, of one type, and do not overlap.
    """

    def write(w: _Writer, source: Any, target: Any, used: Any = None) -> None:
        strips = [(0, used, w.lanes)] if some else _strips(columns, w.lanes)
        square = ((count, rows * columns),)
        with w.nest(square, [0]) as (base,):
            for r0, r1, height in _strips(rows, w.lanes):
                with w.loop(r0, r1, height) as r:
                    for c0, c1, width in strips:
                        with w.loop(c0, c1, width) as c:
                            start = w.at(base, (r, columns), (c, 1))
                            lines = [w.at(start, (n, columns)) for n in range(height)]
                            start = w.at(base, (c, rows), (r, 1))
                            for n, line in enumerate(_columns(w, source, lines, width)):
                                w.store(line, target, w.at(start, (n, rows)), height)

    if _WRITTEN:
        return _intrinsic(f"transpose {rows} {columns} {count} {some}", write, 3 if some else 2)

    @njit
    def transpose(source: Any, target: Any, used: int = columns) -> None:
        source, target = source.reshape(-1), target.reshape(-1)
        for n in range(count):
            for row in range(rows):
                for column in range(used):
                    place = n * rows * columns + row * columns + column
                    target[(n * columns + column) * rows + row] = source[place]

    return transpose


# ------------------------------------------------------------------------------ gather
def _gather(width: int, block: int) -> Any:
    """Return f(data, order, first, count, batch): batch[i, s] = data[order[first + s], i].

    Shapes: data (n, width), order (n,) of int64, batch (width, block), all C-contiguous; count is
    1 to block. Lanes of batch from count on repeat the last sample, up to a whole number of 64
    bytes at least, so that what a kernel computes in them is harmless.
    """

    def write(w: _Writer, data: Any, order: Any, first: Any, count: Any, batch: Any) -> None:
        b = w.builder
        last, whole = b.sub(count, w.index(1)), 64 // w.bytes
        used = b.and_(b.add(last, w.index(whole)), w.index(-whole))
        for s0, s1, lanes in _strips(block, w.lanes):
            with w.loop(s0, s1, lanes) as s, b.if_then(b.icmp_signed("<", s, used)):
                starts = []
                for n in range(lanes):
                    sample = b.add(s, w.index(n))
                    valid = b.select(b.icmp_signed("<", sample, last), sample, last)
                    line = b.load(b.gep(order, [b.add(first, valid)]))
                    starts.append(b.mul(line, w.index(width)))
                for f0, f1, size in _strips(width, w.lanes):
                    with w.loop(f0, f1, size) as f:
                        lines = [b.add(start, f) for start in starts]
                        start = w.at(s, (f, block))
                        for n, line in enumerate(_columns(w, data, lines, size)):
                            w.store(line, batch, w.at(start, (n, block)), lanes)

    if _WRITTEN:
        return _intrinsic(f"gather {width} {block}", write, 5)

    @njit
    def gather(data: Any, order: Any, first: int, count: int, batch: Any) -> None:
        data, batch = data.reshape(-1), batch.reshape(-1)
        for i in range(width):
            for s in range(block):
                batch[i * block + s] = data[order[first + min(s, count - 1)] * width + i]

    return gather

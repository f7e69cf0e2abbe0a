"""How the kernels of a module are compiled and called; what Numba must have for that.

`symprop.vectors` says which parts are copied into generated modules.
"""

# ------------------------------------------------------------------------------ imports
import operator
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import binding, ir
from numba import config, njit, types
from numba.extending import intrinsic, lower_builtin, models, register_model

try:  # names that Numba does not promise
    from numba.core.cgutils import alloca_once, for_range_slice, get_or_insert_function
except ImportError as error:
    for_range_slice = None
    warnings.warn(f"{error}: plain loops are used, far slower ones", stacklevel=1)

# ------------------------------------------------------------------------------ modes
_WRITTEN = for_range_slice is not None and not config.DISABLE_JIT  # else plain loops do the same


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


class _Tensor(types.Array):
    """A contiguous part of an array as a kernel sees it: an address, and lengths in its type.

    The first length, which no address depends on, may be None. An array of Numba's has nine
    numbers, of which LLVM would have to find out for each part that eight are known.
    """

    def __init__(self, element: Any, lengths: tuple[int | None, ...]) -> None:
        self.lengths = lengths
        super().__init__(element, len(lengths), "C", name=f"tensor({element}, {lengths})")

    @property
    def key(self) -> Any:
        return self.dtype, self.lengths

    @property
    def mangling_args(self) -> Any:
        return type(self).__name__, [self.dtype, *self.lengths]


register_model(_Tensor)(models.PointerModel)

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

    @intrinsic(prefer_literal=True)
    def _tensor(typingctx: Any, memory: Any, first: Any, shape: Any) -> Any:
        """Return a part of a contiguous array, which must not outlive it."""
        tensor = _Tensor(memory.dtype, tuple(getattr(n, "literal_value", None) for n in shape))

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            data = context.make_array(memory)(context, builder, values[0]).data
            return builder.gep(data, [values[1]], inbounds=True)

        return tensor(memory, first, shape), emit

    def _element(builder: Any, tensor: Any, address: Any, kind: Any, index: Any) -> Any:
        """Return the address of an element of a tensor."""
        several = isinstance(kind, types.BaseTuple)
        parts = [builder.extract_value(index, n) for n in range(len(kind))] if several else [index]
        place = parts[0]
        for part, size in zip(parts[1:], tensor.lengths[1:], strict=True):
            place = builder.mul(place, ir.Constant(place.type, size), flags=["nsw"])
            place = builder.add(place, part, flags=["nsw"])
        return builder.gep(address, [place], inbounds=True)

    @lower_builtin(operator.getitem, _Tensor, types.Integer)
    @lower_builtin(operator.getitem, _Tensor, types.BaseTuple)
    def _get(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        tensor, kind = signature.args
        return builder.load(_element(builder, tensor, values[0], kind, values[1]))

    @lower_builtin(operator.setitem, _Tensor, types.Integer, types.Any)
    @lower_builtin(operator.setitem, _Tensor, types.BaseTuple, types.Any)
    def _set(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        tensor, kind, given = signature.args
        value = context.cast(builder, values[2], given, tensor.dtype)
        builder.store(value, _element(builder, tensor, values[0], kind, values[1]))

    @intrinsic
    def _view(typingctx: Any, memory: Any, first: Any, shape: Any) -> Any:
        """Return a part of a contiguous array as one too, which must not outlive it.

        That is memory.ravel()[first : first + size].reshape(shape), without Numba's work for that.
        """
        view = types.Array(memory.dtype, len(shape), "C")

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            field = context.data_model_manager[view].get_field_position  # the same for all arrays
            data = builder.extract_value(values[0], field("data"))
            size = context.get_constant(types.intp, context.get_abi_sizeof(data.type.pointee))
            count = context.get_constant(types.intp, 1)
            result = ir.Constant(context.get_value_type(view), None)
            for axis in reversed(range(len(shape))):
                stride, length = builder.mul(count, size), builder.extract_value(values[2], axis)
                result = builder.insert_value(result, stride, (field("strides"), axis))
                result = builder.insert_value(result, length, (field("shape"), axis))
                count = builder.mul(count, length)
            result = builder.insert_value(result, count, field("nitems"))
            result = builder.insert_value(result, size, field("itemsize"))
            return builder.insert_value(result, builder.gep(data, [values[1]]), field("data"))

        return view(memory, types.intp, types.UniTuple(types.intp, len(shape))), emit

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
    _meet = njit(lambda arrived, enough: None)
    _hot, _compact = njit(lambda: None), njit(lambda: None)
    _flush, _restore = njit(lambda: 0), njit(lambda mode: mode)

    @njit
    def _view(memory: Any, first: int, shape: Any) -> Any:
        size = 1
        for length in shape:
            size *= length
        return memory.reshape(-1)[first : first + size].reshape(shape)

    _tensor = _view

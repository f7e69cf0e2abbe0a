"""Each pass of lowering on something tiny, and what the passes make of whole networks."""

from __future__ import annotations

from itertools import pairwise

import classics
import pytest
import sympy
import zoo
from sympy import Idx, Indexed, IndexedBase, Rational, Sum, Symbol, exp, sqrt, tanh

from symprop import Network, logsumexp, softmax
from symprop.derivation import differentiate
from symprop.functions import gelu, normal_cdf, reduce_max, silu
from symprop.indices import accesses
from symprop.lower import lower
from symprop.lower.expand import expand
from symprop.lower.initial import fans
from symprop.lower.matrices import matched
from symprop.lower.memory import place
from symprop.lower.products import MINIMUM, NOMINAL_BATCH, WEIGHTS
from symprop.lower.program import (
    Assign,
    Branch,
    Loop,
    Product,
    Program,
    nested,
)
from symprop.lower.schedule import Nest, schedule
from symprop.lower.share import live, share
from symprop.lower.statements import statements
from symprop.lower.steps import (
    SAMPLES,
    Compute,
    Contract,
    element,
    extent,
    name_of,
)
from symprop.lower.storage import localise
from symprop.lower.values import Values
from symprop.network import Equation

i, j, k, m = (Idx(name, size) for name, size in (("i", 64), ("j", 32), ("k", 10), ("m", 7)))
s = Idx("s", SAMPLES)
A, B, x, y, z, h = (IndexedBase(name, real=True) for name in ("A", "B", "x", "y", "z", "h"))


def layers(widths: list[int]) -> Network:
    """A perceptron with tanh and half the squared error."""
    net = Network("layers")
    axes = [net.index(f"i{n}", width) for n, width in enumerate(widths)]
    value, t = net.input("x", axes[0]), net.target("t", axes[-1])
    for n, (a, b) in enumerate(pairwise(axes), 1):
        W, bias = net.parameter(f"W{n}", a, b), net.parameter(f"b{n}", b)
        value = net.define(f"h{n}", tanh(Sum(W[a, b] * value[a], a) + bias[b]), b)
    net.output(f"h{len(widths) - 1}")
    net.loss(Sum((value[b] - t[b]) ** 2, b) / 2)
    return net


def kernels(network: Network) -> Program:
    """Kernels in rows; those in lanes have a file of their own."""
    return lower(differentiate(network), layout="rows")


# ------------------------------------------------------------------------------ live, expand, share


def test_live_keeps_what_is_needed_in_order() -> None:
    a, b, c = (Equation(Symbol(n), sympy.Integer(1)) for n in "abc")
    d = Equation(Symbol("d"), Symbol("a") + Symbol("c"))
    assert live((a, b, c, d), ["d"]) == (a, c, d)


def test_softmax_and_logsumexp_share_the_exponentials() -> None:
    values = Values(set(), {"z"})
    p, L, b = IndexedBase("p", real=True), Symbol("L"), Idx("b", 10)
    expand((Equation(p[k], softmax(z[k], k)), Equation(L, logsumexp(z[b], b))), values)
    assert [str(e) for e in values.equations] == [
        "max_z = reduce_max(z[k], k)",
        "exp_z[k] = exp(z[k] - max_z)",
        "sum_z = Sum(exp_z[k], k)",
        "p[k] = exp_z[k]/sum_z",
        "L = log(sum_z) + max_z",
    ]
    assert {"max_z", "exp_z", "sum_z", "p", "L"} <= values.sampled


def test_a_function_is_a_product_where_its_derivative_needs_the_other_factor() -> None:
    h, d, b = IndexedBase("h", real=True), IndexedBase("d", real=True), Idx("b", 10)
    values = Values(set(), {"z"})
    expand((Equation(h[k], gelu(z[k]) + silu(z[k])), Equation(d[b], normal_cdf(z[b]))), values)
    assert [str(e) for e in values.equations] == [
        "h[k] = z[k]*normal_cdf(z[k]) + silu(z[k])",
        "d[b] = normal_cdf(z[b])",
    ]


def test_expansion_of_another_vector_is_not_shared() -> None:
    values = Values(set(), {"z", "y"})
    L = Symbol("L")
    expand((Equation(L, logsumexp(z[k], k) + logsumexp(y[k], k)),), values)
    assert sum("reduce_max" in str(e) for e in values.equations) == 2


def shared(*equations: Equation, sampled: str = "x") -> list[str]:
    values = Values({e.name for e in equations}, set(sampled.split()))
    share(equations, values)
    return [str(e) for e in values.equations]


def test_a_reduction_is_taken_out_of_the_loops_it_does_not_depend_on() -> None:
    total = Sum(x[k], (k, 0, 9))
    assert shared(Equation(y[j], x[j] / total)) == [
        "sum_y = Sum(x[k], k)",
        "y[j] = x[j]/sum_y",
    ]


def test_a_reduction_over_all_loops_stays() -> None:
    found = Equation(y[j], Sum(A[i, j] * x[i], (i, 0, 63)))
    assert shared(found) == [str(found)]


def test_functions_of_parameters_are_computed_once_and_not_for_each_sample() -> None:
    a, b = Symbol("a", real=True), Symbol("b", real=True)
    assert shared(Equation(b, exp(a) * Symbol("x", real=True))) == ["exp_b = exp(a)", "b = exp_b*x"]


def test_a_function_that_occurs_twice_is_named() -> None:
    found = shared(Equation(y[j], tanh(x[j]) * 2), Equation(h[j], 1 - tanh(x[j]) ** 2))
    assert found == ["tanh_y[j] = tanh(x[j])", "y[j] = 2*tanh_y[j]", "h[j] = 1 - tanh_y[j]**2"]


def test_a_function_that_has_a_name_keeps_it() -> None:
    found = shared(Equation(y[j], tanh(x[j])), Equation(h[j], 1 - tanh(x[j]) ** 2))
    assert found == ["y[j] = tanh(x[j])", "h[j] = 1 - y[j]**2"]


@pytest.mark.parametrize(("sampled", "reused"), [({"x"}, False), ({"x", "b"}, True)])
def test_the_gradient_of_a_parameter_stands_for_no_value_of_one_sample(sampled, reused) -> None:
    """For a batch it is summed over the samples; the adjoint of a sampled value is not."""
    gradient = IndexedBase("dL/db", real=True)
    total = Sum(x[j, k], (k, 0, 9))
    values = Values({"z"}, sampled, {"dL/db": "b"})
    share((Equation(gradient[j], total), Equation(z[j, m], y[m] * total)), values)
    assert ("dL/db" in str(values.equations[-1])) == reused


def test_sums_are_pushed_inwards() -> None:
    chain = Sum(A[i, j] * B[j, k] * x[k], (j, 0, 31), (k, 0, 9))
    assert shared(Equation(y[i], chain)) == [
        "sum_y[j] = Sum(B[j,k]*x[k], k)",
        "y[i] = Sum(A[i,j]*sum_y[j], j)",
    ]


# ------------------------------------------------------------------------------------- contraction


def product(target: sympy.Expr, a: sympy.Expr, b: sympy.Expr, *summed: Idx) -> str:
    plain = {leaf: [i for i in leaf.indices if isinstance(i, Idx)] for leaf in (a, b)}
    shapes = {name_of(leaf): tuple(filter(None, map(extent, own))) for leaf, own in plain.items()}
    found = matched(target, a, b, frozenset(summed), shapes)
    return str(found).replace("for (): ", "") if found else "none"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (product(y[s, j], x[s, i], A[i, j], i), "y[(); s; j] = x[(); s; i] @ A[(); i; j]"),
        (product(y[s, i], x[s, j], A[i, j], j), "y[(); s; i] = x[(); s; j] @ A[(); i; j].T"),
        (product(A[i, j], x[s, i], y[s, j], s), "A[(); i; j] = x[(); s; i].T @ y[(); s; j]"),
        (product(A[j, i], x[s, i], y[s, j], s), "A[(); j; i] = y[(); s; j].T @ x[(); s; i]"),
        (product(z[s, k, m], x[s, k, i], y[s, m, i], i),
         "for s: z[s; k; m] = x[s; k; i] @ y[s; m; i].T"),
        (product(z[j, m], x[s, k, j], y[s, k, m], s, k),
         "z[(); j; m] = x[(); s, k; j].T @ y[(); s, k; m]"),
        (product(z[s, k, m], x[s, i], A[i, k, m], i),
         "z[(); s; k, m] = x[(); s; i] @ A[(); i; k, m]"),
    ],
)  # fmt: skip
def test_matrix_products_are_recognised(found: str, text: str) -> None:
    assert found == text


@pytest.mark.parametrize(
    "found",
    [
        product(y[s, j], x[s, i + 1], A[i, j], i),  # an affine subscript
        product(y[s, j], x[s, i], A[j, i], j),  # the summed index is not shared
        product(y[s], x[s, i], z[i], i),  # a matrix times a vector
        product(y[s, k, j], x[s, i, k], A[i, j], i),  # K lies between the axes of M
        product(z[k, s, m], x[s, k, i], y[s, m, i], i),  # the loop index does not lead
        product(z[j, k], x[j, i], B[i, k], i, m),  # an index is summed that nothing has
        product(y[i, j], x[i, i], A[i, j], i),  # a diagonal
    ],
)
def test_what_is_no_matrix_product_stays_a_loop(found: str) -> None:
    assert found == "none"


@pytest.mark.parametrize(
    ("width", "tiles", "matrices"),
    [(2, 0, 0), (7, 5, 0), (16, 5, 0), (64, 5, 0), (600, 2, 3)],
)
def test_only_large_products_are_called(width: int, tiles: int, matrices: int) -> None:
    """A layer of w to w units has 32 w^2 multiply-adds in the nominal batch.

    They are two layers, the adjoint between them and two gradients of weights, of which only
    the last read no weights: BLAS reads those that stay in no cache once for several samples.
    """
    network = layers([width, width, width])
    body = list(nested(kernels(network).gradient.body))
    assert sum(isinstance(line, Contract) for line in body) == tiles
    assert sum(isinstance(line, Product) for line in body) == matrices
    assert (NOMINAL_BATCH * width**2 >= MINIMUM) == bool(tiles + matrices)
    assert (width**2 > WEIGHTS) == bool(matrices)


def test_large_weights_of_what_is_no_matrix_product_are_read_in_tiles() -> None:
    net = Network("wide")
    o, c, r, q = net.index("o", 700), net.index("c", 70), net.index("r", 3), net.index("q", 8)
    x, t = net.input("x", c, net.index("p", 10)), net.target("t", o, q)
    w = net.parameter("w", o, c, r)
    z = net.output("z", Sum(w[o, c, r] * x[c, q + r], c, r), o, q)
    net.loss(Sum((z[o, q] - t[o, q]) ** 2, o, q))
    assert WEIGHTS < 700 * 70 * 3
    assert any(isinstance(line, Contract) for line in nested(kernels(net).forward.body))


def test_the_gradient_by_an_input_is_not_computed() -> None:
    text = str(kernels(classics.dense()).gradient)
    assert "dL/dx" not in text


def test_composite_operands_are_computed_first() -> None:
    """dL/dz[k]*(1 - h[k]^2) is one operand of the product with x, not a third factor."""
    net = Network("composite")
    a, b = net.index("a", 64), net.index("b", 32)
    v, w = net.input("v", a), net.parameter("w", a, b)
    u, t = net.input("u", b), net.target("t", b)
    q = net.define("q", Sum(w[a, b] * v[a] * u[b] * (1 + u[b]), b), a)
    r = net.output("r", Sum(q[a] * w[a, b], a), b)
    net.loss(Sum((r[b] - t[b]) ** 2, b))
    body = list(nested(kernels(net).forward.body))
    assert sum(isinstance(line, Contract | Product) for line in body) == 2


# ---------------------------------------------------------------------------------- schedule, place


def fresh_step(target, value, *loops, accumulate=False):
    """Return a step whose loop indices are its own, as `batch` makes them."""
    renamed = {
        index: Idx(sympy.Dummy(str(index), integer=True), index.upper + 1) for index in loops
    }
    return Compute(
        target.xreplace(renamed), value.xreplace(renamed), tuple(renamed.values()), accumulate
    )


def shape_of(nests) -> list:
    return [[str(n.index), shape_of(n.body)] if isinstance(n, Nest) else "step" for n in nests]


def test_elementwise_steps_share_their_loops() -> None:
    first = fresh_step(y[s, j], x[s, j], s, j)
    second = fresh_step(z[s, j], y[s, j] ** 2, s, j)
    assert shape_of(schedule([first, second])) == [["_s", [["_j", ["step", "step"]]]]]


def test_a_reduction_does_not_share_the_loop_it_reads() -> None:
    first = fresh_step(y[s, j], x[s, j], s, j)
    total = fresh_step(z[s], Sum(y[s, k], (k, 0, 9)), s)
    assert shape_of(schedule([first, total])) == [["_s", [["_j", ["step"]], "step"]]]


def test_a_neighbour_is_not_read_before_it_is_written() -> None:
    first = fresh_step(y[j], x[j], j)
    second = fresh_step(z[j], y[j - 1], j)
    assert shape_of(schedule([first, second])) == [["_j", ["step"]], ["_j", ["step"]]]


def test_a_sum_over_samples_is_complete_before_it_is_read() -> None:
    total = fresh_step(A[i, j], x[s, i] * y[s, j], s, i, j, accumulate=True)
    reader = fresh_step(z[s, i], A[i, 0], s, i)
    nests = schedule([total, reader])
    assert [len(nest.body) for nest in nests] == [1, 1]


def test_order_of_writes_is_kept() -> None:
    steps = [
        fresh_step(y[j], x[j], j),
        fresh_step(z[j], y[j], j),
        fresh_step(y[j], x[j] + 1, j),
        fresh_step(h[j], y[j], j),
    ]
    (nest,) = schedule(steps)
    assert [str(step.target.base) for step in nest.body] == ["y", "z", "y", "h"]


def test_values_inside_one_loop_need_no_memory() -> None:
    nests = schedule([fresh_step(y[s, j], x[s, j], s, j), fresh_step(z[s, j], y[s, j], s, j)])
    local, kept = localise(nests, {"y": (32,), "z": (32,)}, {"z"})
    assert kept == {"y": ()}
    inner = local[0].body[0].body
    assert str(inner[0].target) == "y"


def test_values_of_one_sample_need_no_sample_axis() -> None:
    total = fresh_step(z[s], Sum(y[s, k], (k, 0, 9)), s)
    nests = schedule([fresh_step(y[s, k], x[s, k], s, k), total])
    _, kept = localise(nests, {"y": (10,), "z": ()}, {"z"})
    assert kept == {"y": (10,)}
    placed, size = place(kept, nests, 100)
    assert [(p.name, p.shape, p.offset) for p in placed] == [("y", (10,), 0)]
    assert size == 10


# --------------------------------------------------------------------------------------- statements


def test_a_sum_becomes_an_accumulator() -> None:
    step = fresh_step(y[s], Sum(x[s, k], (k, 0, 9)) + 1, s)
    (loop,) = statements(schedule([step]), (), "s")
    start, inner, end = loop.body
    assert start == Assign(element("total"), sympy.S.Zero)
    assert isinstance(inner, Loop)
    assert extent(inner.index) == 10
    assert str(end.value) == "total + 1"


def test_names_of_accumulators_differ_from_variables() -> None:
    step = fresh_step(y[s], Sum(x[s, k], (k, 0, 9)) + Sum(x[s, j], (j, 0, 31)), s)
    (loop,) = statements(schedule([step]), ("total",), "s")
    assert {str(line.target) for line in loop.body if isinstance(line, Assign)} == {
        "total2", "total3", "y[s]",
    }  # fmt: skip


def test_loops_within_loops_have_names_of_their_own() -> None:
    step = fresh_step(y[s, k], Sum(x[s, k], (k, 0, 9)), s, k)
    text = [str(line.index) for line in nested(statements(schedule([step]), (), "s"))
            if isinstance(line, Loop)]  # fmt: skip
    assert text == ["s", "k", "k2"]


def test_largest_value() -> None:
    step = fresh_step(Symbol("a"), reduce_max(x[k], k))
    start, loop = statements(schedule([step]), (), "s")
    assert start.value == -sympy.oo
    assert "maximum(a, x[k])" in str(loop.body[0].value)


# ----------------------------------------------------------------------------------- whole networks


def test_a_scalar_network_is_one_loop_over_the_samples() -> None:
    body = kernels(classics.kumar()).gradient.body
    loops = [line for line in nested(body) if isinstance(line, Loop)]
    assert len(loops) == 1
    assert extent(loops[0].index) is None
    assert not kernels(classics.kumar()).gradient.workspace


def test_a_dense_network_computes_each_exponential_and_each_tanh_once() -> None:
    text = str(kernels(classics.dense()).gradient)
    code = [line for line in text.splitlines() if "#" not in line]
    assert sum("exp(" in line for line in code) == 1
    assert sum("tanh(" in line for line in code) == 1


def test_the_sum_over_the_samples_starts_from_zero_once() -> None:
    made = differentiate(zoo.ZOO["embedding"]())
    body = lower(made, layout="rows", products="loops").gradient.body
    starts = (line for line in nested(body) if isinstance(line, Assign) and line.value == 0)
    fills = [name_of(line.target) for line in starts if isinstance(line.target, Indexed)]
    assert len(fills) == len(set(fills))
    assert "dL/dE" in fills or any(name.startswith("dL/d") for name in fills)


def test_what_depends_on_parameters_only_is_outside_the_loop_over_the_samples() -> None:
    """A penalty: its value once, its gradient times the number of samples."""
    net = Network("penalty")
    a = net.index("a", 3)
    v, w, t = net.input("v", a), net.parameter("w", a), net.target("t")
    q = net.output("q", Sum(w[a] * v[a], a))
    net.loss((q - t) ** 2 / 2 + Rational(1, 100) * Sum(w[a] ** 2, a))
    gradient = kernels(net).gradient
    loop = next(n for n in gradient.body if isinstance(n, Loop) and extent(n.index) is None)
    assert "w[a]**2" not in str(list(nested(loop.body)))
    lines = [line for line in nested(gradient.body) if isinstance(line, Assign)]
    assert any(line.value.has(SAMPLES) for line in lines)


def test_adjoints_of_values_of_parameters_are_sums_over_the_samples() -> None:
    """Weight normalisation: no adjoint of the normalised weight is kept for each sample."""
    net = Network("normalised")
    a, b = net.index("a", 5), net.index("b", 4)
    v, w, t = net.input("v", a), net.parameter("w", a, b), net.target("t", b)
    u = net.define("u", w[a, b] / sqrt(Sum(w[a, b] ** 2, a)), a, b)
    q = net.output("q", Sum(u[a, b] * v[a], a), b)
    net.loss(Sum((q[b] - t[b]) ** 2, b) / 2)
    gradient = kernels(net).gradient
    assert {x.name: x.sampled for x in gradient.workspace}["dL/du"] is False


@pytest.mark.parametrize("build", zoo.ZOO.values(), ids=zoo.ZOO)
def test_everything_is_written_before_it_is_read(build) -> None:
    """Walk every kernel in order: a read of what no statement wrote yet is a wrong order."""
    network = build()
    program = kernels(network)
    given = {v.name for v in (*network.inputs, *network.targets, *network.parameters)}
    given |= {table.name for table in program.tables}
    for kernel in program.kernels:
        written = {*given, str(SAMPLES), program.loss_sum} - {program.loss_sum}
        _check(kernel.body, written)


def _check(body, written: set[str]) -> None:
    for line in body:
        match line:
            case Loop(_, inner):
                _check(inner, written)
            case Branch(cases):
                for _, inner in cases:
                    _check(inner, written)
            case Assign(target, value, accumulate):
                read = {name_of(leaf) for leaf in accesses(value)}
                read |= {name_of(target)} if accumulate else set()
                assert read <= written, (line, read - written)
                written.add(name_of(target))
            case Product(target, left, right):
                assert {left.name, right.name} <= written
                written.add(target.name)
            case Contract(target):
                assert set(map(name_of, line.read)) <= written
                written.add(name_of(target))


def test_lowering_does_not_depend_on_width() -> None:
    narrow, wide = (str(kernels(layers([w, w, 10])).gradient) for w in (100, 256))
    assert len(narrow.splitlines()) == len(wide.splitlines())


def test_lowering_is_deterministic() -> None:
    assert str(kernels(classics.dense())) == str(kernels(classics.dense()))


def test_fans_of_a_dense_layer_and_a_convolution() -> None:
    net = Network("fans")
    a, b = net.index("a", 64), net.index("b", 32)
    o, c, p, r = net.index("o", 8), net.index("c", 3), net.index("p", 5), net.index("r", 10)
    v, f = net.input("v", a), net.input("f", c, net.index("l", 14))
    w, q = net.parameter("w", a, b), net.parameter("q", o, c, p)
    dense = Equation(IndexedBase("d")[b], tanh(Sum(w[a, b] * v[a], a) + 1))
    convolution = Equation(IndexedBase("e")[o, r], Sum(q[o, c, p] * f[c, r + p], c, p))
    first, second = net.parameters
    assert fans(first, (dense, convolution)) == (64, 32)
    assert fans(second, (dense, convolution)) == (15, 40)


def test_program_prints_as_pseudo_code() -> None:
    text = str(kernels(classics.dense()))
    assert "kernel forward" in text
    assert "for s in number of samples:" in text

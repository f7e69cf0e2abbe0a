"""How kernels go about their work: layout, block size and the form of products, with the reasons.

The cost model. With more than `FEW` samples a step, the sample is the *last* axis of every tensor
("lanes"): each line of a kernel works on neighbouring samples in neighbouring lanes, whatever the
width of a layer, and no reduction crosses lanes but the sums over the samples. A vector register
holds `LANES` numbers (512 bits; narrower processors take two or four registers), and lanes without
a sample cost as much as others. With fewer samples a step it is the *first* axis ("rows"): vectors
lie along a layer. Measured with dense layers of 32 to 512, convolutions and attention, one sample
takes a fifth to 0.8 of the time in rows, four take 0.6 to 1, six 0.77 to 0.98 and eight up to 1.15.

A kernel works on a block of samples: as many as a training step has, rounded up to whole
registers, but at most as many as keep all values of a block in `CACHE` bytes. It is not cut below
`LEAST`: each block reads the weights and adds up their gradients, so what is computed with them
must be worth it, twice as much where the weights do not fit into that cache either. Only where
weights are few beside the values, as in convolutions and attention, it is cut further, down to one
register, until the values fit into the next cache. Measured with steps of 128 samples: three
convolutional networks, a graph network and a transformer take 0.75 to 0.93 of the time so, a
depthwise convolution and a GRU 0.99, causal attention 1.06. A larger step takes several blocks, as
equal as they can be.

Outputs alone are asked for one sample at a time, too, in a loop that steers or integrates. So where
the training is in lanes, there is a kernel in rows for the outputs of a few samples (`few`).

In rows the update of a large weight takes its time from the memory. There the gradient is computed
part by part, and the rule applied to each at once (`LARGE`, `PART`); for one sample, element by
element. Measured: with parts SGD takes 0.5 to 0.8 of the time, Adam 0.78 to 0.96; in lanes, with 64
samples, 1 to 1.05.

In lanes several threads share the samples of a step, and then add up their gradients. A number that
one has written reaches another in 0.8 ns, which is longer than it takes to compute a gradient. So
of a large weight of inputs each has rows of its own, if that exchanges less (`OWNED`). Measured on
two threads: 784-128-10 takes 0.85 of the time with 64 samples a step and 0.78 with 50, 0.88 where
rows are outputs (``W[j,i]*x[i]``), 784-512-512-10 with 128 samples 0.96.

In rows, a network with at most `SCALARS` parameters and twice as many values of a sample is trained
by a loop in which each of them is a variable of its own ("scalars"): a step of tens of nanoseconds
cannot wait for memory, nor for functions: they have forms of which the result is there sooner.
Measured with Adam: 22 parameters are 7 times as fast as in rows, 94 no faster, since they find no
registers, and they take Numba five times as long to compile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CACHE",
    "FEW",
    "LANES",
    "LARGE",
    "LEAST",
    "OWN",
    "OWNED",
    "PART",
    "SCALARS",
    "Layout",
    "Products",
    "Strategy",
    "choose",
    "few",
]

Layout = Literal["model", "lanes", "rows", "scalars"]
"""Where the sample is: by the cost model, the last axis of every tensor, or the first.

With "scalars" it is the first, but the training loop has no tensors, where that can be done.
"""

Products = Literal["model", "tiles", "blas", "loops"]
"""How products are computed: by the cost model, or always one way where it can be done."""

LANES = {"float32": 16, "float64": 8}
"""Numbers in a vector register of 512 bits."""

FEW = 6
"""The greatest number of samples a step that are rows."""

CACHE = {"lanes": 48 * 1024, "rows": 512 * 1024}
"""Bytes that the values of a block may take.

In lanes they stay in the nearest cache; in rows, where BLAS has its own blocks, in the next one.
In lanes, too, the values stay in the next one beside weights of a quarter of it or less.
"""

LEAST = 64
"""The least number of samples to which a block is cut; twice that with large weights."""

SCALARS = 32
"""The greatest number of parameters, and half that of the values of a sample, as variables."""

LARGE = 2**13
"""The least number of elements of a weight that is updated part by part."""

PART = 2**11
"""How many elements such a part has at most, if it is not a row: they stay in the nearest cache."""

OWNED = 2
"""How many elements of a weight of which threads have rows there are at least for each sum of it.

The threads exchange these sums and their adjoints, instead of the elements and their gradients.
"""

OWN = 32
"""The least number of rows of a weight that a thread has, if each gives a sum: a few tiles."""

_ROWS = (32, 1024)
"""The least and the greatest number of samples of a block in rows."""

_ITEMSIZES = {"float64": 8, "float32": 4}


@dataclass(frozen=True, slots=True)
class Strategy:
    """The choices for the kernels of a network, and why.

    `lanes` is the width of a vector, 0 where the samples are rows. `block` is how many
    samples a kernel works on at a time at most; fewer take whole vectors. With `scalars` the
    training loop has variables instead of tensors.
    """

    lanes: int
    block: int
    products: Products = "model"
    reason: str = ""
    scalars: bool = False

    @property
    def layout(self) -> str:
        """Return "lanes" or "rows"."""
        return "lanes" if self.lanes else "rows"


def choose(
    batch: int,
    width: int,
    weights: int,
    dtype: str,
    layout: Layout = "model",
    products: Products = "model",
) -> Strategy:
    """Return the strategy for steps of `batch` samples.

    `width` is how many values one sample has in all tensors together, `weights` the number of
    parameters; `layout` and `products` other than "model" overrule the cost model.

    >>> choose(32, 200, 2410, "float32").block, choose(1, 200, 2410, "float32").layout
    (32, 'rows')
    """
    lanes, itemsize = LANES[dtype], _ITEMSIZES[dtype]
    if layout == "model":
        layout = "lanes" if batch > FEW else "rows"
        tiny = max(weights, width / 2) <= SCALARS and products == "model"
        layout = "scalars" if layout == "rows" and tiny else layout
    if layout != "lanes":
        return _in_rows(batch, itemsize * max(1, width), products, layout == "scalars")
    size = itemsize * max(1, width)
    most = max(_least(weights * itemsize, size, lanes), CACHE["lanes"] // size)
    blocks = -(-batch // most)
    block = _whole(-(-batch // blocks), lanes)
    reason = f"steps of {batch} samples: {blocks} of {block}, {lanes} to a register"
    return Strategy(lanes, block, products, reason)


def _least(weights: int, size: int, lanes: int) -> int:
    """Return below how many samples a block in lanes is not cut.

    The `weights`, and the values of one sample of this `size`, are in bytes.

    >>> _least(5_000, 1_000, 16), _least(5_000, 17_000, 16), _least(500_000, 17_000, 16)
    (64, 16, 128)
    """
    least = LEAST if weights <= CACHE["lanes"] else 2 * LEAST
    if 4 * weights > CACHE["rows"]:
        return least
    return min(least, max(1, CACHE["rows"] // size // lanes) * lanes)


def few(strategy: Strategy) -> Strategy:
    """Return the strategy for the outputs of a few samples, beside one in lanes.

    >>> few(choose(32, 200, 2410, "float32")).layout
    'rows'
    """
    reason = f"for {FEW} samples or less: vectors lie along a layer"
    return Strategy(0, FEW, strategy.products, reason)


def _in_rows(batch: int, size: int, products: Products, scalars: bool) -> Strategy:
    """Return the strategy in rows for samples whose values take `size` bytes."""
    low, high = _ROWS
    fit = CACHE["rows"] // size
    block = min(high, max(low, 1 << max(0, fit.bit_length() - 1)))
    steps = "steps of one sample" if batch == 1 else f"steps of {batch} samples"
    if scalars:
        return Strategy(0, block, "loops", f"{steps}, few enough values to be variables", True)
    return Strategy(0, block, products, f"{steps}: vectors lie along a layer")


def _whole(samples: int, lanes: int) -> int:
    return -(-samples // lanes) * lanes

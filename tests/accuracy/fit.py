"""Find the coefficients of the polynomials in `symprop.scalar`; to be run by hand.

    python tests/accuracy/fit.py [NAME ...]

Remez exchange at 220 bits: the coefficients c of ``sum(c[n]*x**n)``, or of such a polynomial and
of one by which it is divided, for which the largest weighted error over an interval is least.
Prints for each polynomial that error, which the weight makes relative to the function's value,
and the coefficients from c[0] on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import mpmath as mp

mp.mp.prec = 220
Function = Callable[[mp.mpf], mp.mpf]


def remez(
    function: Function, weight: Function, low: mp.mpf, high: mp.mpf, above: int, below: int = 0
) -> tuple[list[mp.mpf], list[mp.mpf], mp.mpf]:
    """Return `above` coefficients, `below` and a last 1 of a divisor, and the largest error."""
    count = above + below
    steps = [(1 - mp.cos(mp.pi * n / (24 * count))) / 2 for n in range(24 * count + 1)]
    grid = [low + (mp.mpf(high) - low) * step for step in steps]
    if below:  # there the function changes least where x is large
        grid = [low * (mp.mpf(high) / low) ** step for step in steps]
    values = [(x, function(x), weight(x)) for x in grid]
    nodes = grid[::24]
    best, least = ([], []), mp.inf
    divisor = [*[mp.mpf(0)] * below, mp.mpf(1)]
    for _ in range(12 + 12 * below):
        dividend, divisor, level = interpolated(function, weight, nodes, divisor)
        errors = [(quotient(dividend, divisor, x) - value) * w for x, value, w in values]
        largest = max(map(abs, errors))
        if largest < least:
            best, least = (dividend, divisor), largest
        extremes = alternating(errors)
        if len(extremes) < count + 1 or largest < level * mp.mpf("1.02"):
            break
        while len(extremes) > count + 1:
            extremes.pop(0 if abs(errors[extremes[0]]) < abs(errors[extremes[-1]]) else -1)
        nodes = [grid[n] for n in extremes]
    return *best, least


def quotient(above: list[mp.mpf], below: list[mp.mpf], x: mp.mpf) -> mp.mpf:
    """Return the value of a quotient of polynomials."""
    return mp.polyval(above[::-1], x) / mp.polyval(below[::-1], x)


def interpolated(
    function: Function, weight: Function, nodes: list[mp.mpf], divisor: list[mp.mpf]
) -> tuple[list[mp.mpf], list[mp.mpf], mp.mpf]:
    """Return the polynomials whose quotient's errors at the nodes are equal with changing signs.

    The errors are those with the last divisor, which makes the equations linear.
    """
    count, below = len(nodes) - 1, len(divisor) - 1
    matrix, right = mp.matrix(count + 1, count + 1), mp.matrix(count + 1, 1)
    for row, x in enumerate(nodes):
        for power in range(count - below):
            matrix[row, power] = x**power
        for power in range(below):
            matrix[row, count - below + power] = -function(x) * x**power
        matrix[row, count] = (-1) ** row * mp.polyval(divisor[::-1], x) / weight(x)
        right[row] = function(x) * x**below
    *solution, level = mp.lu_solve(matrix, right)
    split = count - below
    return solution[:split], [*solution[split:], mp.mpf(1)], abs(level)


def alternating(errors: list[mp.mpf]) -> list[int]:
    """Return the places of the largest errors between changes of sign."""
    places = [0]
    for n, error in enumerate(errors):
        if (error >= 0) != (errors[places[-1]] >= 0):
            places.append(n)
        elif abs(error) > abs(errors[places[-1]]):
            places[-1] = n
    return places


def away(function: Function) -> Function:
    """Return `function`, evaluated a little beside 0, where its formula divides 0 by 0."""
    return lambda x: function(x if abs(x) > mp.mpf("1e-20") else mp.mpf("1e-20"))


def odd(function: Function) -> Function:
    """Return (f(x)/x - 1)/x^2 as a function of x^2."""
    return away(lambda z: (function(mp.sqrt(z)) / mp.sqrt(z) - 1) / z)


def floor(power: int = 1) -> Function:
    """Return the weight of what is multiplied by x^power, never 0."""
    return lambda x: max(abs(x) ** power, mp.mpf("1e-3"))


def one(x: mp.mpf) -> mp.mpf:
    return mp.mpf(1)


def scaled_erfc(shift: float, centre: float) -> Function:
    """Return e^(a^2) erfc(a)/t as a function of t - centre, where t = 1/(a + shift)."""

    def function(u: mp.mpf) -> mp.mpf:
        t = u + centre
        a = 1 / t - shift
        return mp.exp(a * a) * mp.erfc(a) / t

    return function


def settled(function: Function, base: str) -> tuple[Function, Function]:
    """Return x*function(x) - base and the weight that makes its error relative to x*function(x)."""
    return lambda x: x * function(x) - mp.mpf(base), lambda x: 1 / (x * function(x))


HALF = mp.log(2) / 2 * mp.mpf("1.001")
EXP = away(lambda r: (mp.expm1(r) - r) / r**2)
TANH = away(lambda r: (-mp.expm1(-2 * r) / 2 - r) / r**2)
LOG = away(lambda f: (mp.log1p(f) - f + f * f / 2) / f**3)
RATIO = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * mp.mpf("1.001")
TURN = (mp.pi / 4 * mp.mpf("1.001")) ** 2
COS = away(lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z / z)
ERF = away(lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1)
CDF = away(lambda z: mp.erf(mp.sqrt(z / 2)) / mp.sqrt(z) / 2)
CDF_SLOPE = mp.mpf("0.3989422917366028")  # 1/sqrt(2 pi) in float32
CDF_TAIL = away(lambda z: (CDF(z) - CDF_SLOPE) / z)
ARCS = away(lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z)
NARROW = scaled_erfc(3, 0.125)

FITS: dict[str, tuple] = {
    # name: function, weight, interval, numbers of coefficients
    "exp single": (EXP, floor(), -HALF, HALF, 5),
    "expm1 single": (EXP, floor(), -HALF, HALF, 6),
    "exp double": (EXP, floor(), -HALF, HALF, 10),
    "exp by 256 double": (EXP, floor(), -HALF / 256, HALF / 256, 3),
    "log single": (LOG, floor(2), mp.sqrt(0.5) - 1, mp.sqrt(2) - 1, 8),
    "log double": (ARCS, floor(), 0, RATIO, 7),
    "tanh single": (TANH, floor(), -HALF / 2, HALF / 2, 5),
    "tanh double": (TANH, floor(), -HALF / 2, HALF / 2, 11),
    "sinh single": (odd(mp.sinh), floor(), 0, 1, 4),
    "sinh double": (odd(mp.sinh), floor(), 0, 1, 7),
    "atanh single": (odd(mp.atanh), floor(), 0, 0.25, 6),
    "atanh double": (odd(mp.atanh), floor(), 0, 0.25, 14),
    "sin single": (odd(mp.sin), floor(), 0, TURN, 3),
    "sin double": (odd(mp.sin), floor(), 0, TURN, 6),
    "cos single": (COS, floor(2), 0, TURN, 3),
    "cos double": (COS, floor(2), 0, TURN, 6),
    "atan single": (odd(mp.atan), floor(), 0, 0.25, 5),
    "atan double": (odd(mp.atan), floor(), 0, 0.25, 12),
    "asin single": (odd(mp.asin), floor(), 0, 0.25, 5),
    "asin double": (odd(mp.asin), floor(), 0, 0.25, 12),
    "erf single": (ERF, one, 0, 1, 7),
    "erf beyond 1 single": (lambda a: mp.log(mp.erfc(a)), mp.erfc, 1, 4, 6),
    "erfc single": (
        ERF, lambda z: floor(0.5)(z) / mp.erfc(mp.sqrt(z)), 0, mp.mpf("0.49"), 6,
    ),
    "erfc beyond 0.7 single": (
        *settled(lambda a: mp.exp(a * a) * mp.erfc(a), "0.484375"), mp.mpf("0.7"), mp.mpf("10.4"),
        5, 4,
    ),
    "normal_cdf single": (
        CDF_TAIL, lambda z: floor()(z) ** 1.5 / mp.ncdf(-mp.sqrt(z)), mp.mpf("1e-4"), 1, 5,
    ),
    "normal_cdf beyond 1 single": (
        *settled(lambda a: mp.exp(a * a / 2) * mp.ncdf(-a), "0.34375"), mp.mpf(1), mp.mpf("14.5"),
        5, 4,
    ),
    "erf double": (ERF, one, 0, mp.mpf("0.36"), 10),
    "normal_cdf double": (CDF, one, 0, mp.mpf("0.7225"), 10),
    "erfc double": (
        NARROW, lambda u: 1 / NARROW(u), 1 / mp.mpf("30.5") - 0.125,
        1 / mp.mpf("3.58") - 0.125, 22,
    ),
}  # fmt: skip


def lacking() -> tuple[mp.mpf, mp.mpf]:
    """Return what to add to the first two coefficients of "erfc double" once all are rounded."""
    function, weight, low, high, count = FITS["erfc double"]
    rounded = [mp.mpf(float(c)) for c in remez(function, weight, low, high, count)[0]]
    rest = remez(lambda u: function(u) - mp.polyval(rounded[::-1], u), weight, low, high, 2)[0]
    return rest[0], rest[1]


def main() -> None:
    for name in sys.argv[1:] or FITS:
        above, below, error = remez(*FITS[name])
        print(f"{name}: error {mp.nstr(error, 2)}")
        for coefficient in above:
            print(f"    {mp.nstr(coefficient, 20)}")
        for coefficient in below[:-1]:
            print(f"    / {mp.nstr(coefficient, 20)}")
        if name == "erfc double":
            print("rounded, lacking", *(mp.nstr(c, 20) for c in lacking()))


if __name__ == "__main__":
    main()

"""Random networks against the oracle: formulas, and kernels of every layout as plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from random_networks import networks
from zoo import ZOO

import symprop
from symprop import Network
from symprop.loader import load
from symprop.lower import lower
from symprop.options import Options
from symprop.render import render
from symprop.verification import compare_formulas, compare_kernels
from symprop.verification.points import draw

QUICK = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def disagreements(network: Network) -> list[str]:
    """Compare all adjoints with central differences at 60 digits, at a few random points."""
    derivation = symprop.differentiate(network)
    random = np.random.default_rng(0)
    found = []
    for _ in range(2):
        point = draw(derivation, "moderate", 2, "float64", random)
        assert point is not None
        found += compare_formulas(derivation, *point, random)
    assert found
    return [str(agreement) for agreement in found if not agreement.ok]


@pytest.mark.parametrize("name", ZOO)
def test_formulas_of_the_zoo_are_the_derivatives(name: str) -> None:
    assert disagreements(ZOO[name]()) == []


@QUICK
@given(networks())
def test_formulas_of_random_networks_are_the_derivatives(network: Network) -> None:
    assert disagreements(network) == []


@settings(QUICK, max_examples=10)
@given(networks())
def test_kernels_of_random_networks_are_right(network: Network) -> None:
    derivation = symprop.differentiate(network)
    point = draw(derivation, "moderate", 2, "float64", np.random.default_rng(0))
    assert point is not None
    for layout, products in (
        ("lanes", "tiles"),
        ("lanes", "loops"),
        ("rows", "tiles"),
        ("rows", "blas"),
    ):
        program = lower(derivation, layout=layout, products=products)  # type: ignore[arg-type]
        kernels = load(render(derivation, program, Options()), network.name, jit=False)
        with np.errstate(all="ignore"):
            rows = compare_kernels(derivation, kernels, *point, "a point")
        assert not [str(row) for row in rows if not row.ok], (layout, products)

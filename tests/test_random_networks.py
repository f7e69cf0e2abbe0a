"""Random networks against the oracle: formulas and plain-Python kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from random_networks import networks
from zoo import ZOO

import symprop
from symprop import Network
from symprop.verification import compare_formulas
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

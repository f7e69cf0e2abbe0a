"""Worked examples: exact values at one sample, against the numbers of the literature."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from classics import dense, derived, kumar, lamsal, naive, one_neuron
from sympy import Symbol
from zoo import ZOO

from symprop.derivation import differentiate
from symprop.errors import DataError, OptionError
from symprop.explain.worked import Worked, decimal, work
from symprop.network import Equation


def printed(worked: Worked, name: str, digits: int) -> str:
    return mpmath.nstr(worked.value(name), digits, strip_zeros=False)


def test_forward_values_of_kumar() -> None:
    worked = work(derived(kumar))
    assert printed(worked, "H1", 4) == "0.3775"
    assert printed(worked, "H1out", 8) == "0.59326999"
    assert printed(worked, "y1out", 8) == "0.75136507"
    assert printed(worked, "y2out", 9) == "0.772928465"
    assert printed(worked, "E", 9) == "0.298371109"  # the text cuts its last digit off: ...108
    assert printed(worked, "dE/dw5", 7) == "0.08216704"


def test_updates_of_kumar() -> None:
    after = work(derived(kumar)).after_step()
    right = {"w5": 0.35891648, "w6": 0.408666186, "w7": 0.511301270, "w8": 0.561370121}
    assert after.step == 1
    for name, value in right.items():
        assert float(after.value(name)) == pytest.approx(value, abs=5e-9), name
    assert float(after.value("w1")) == pytest.approx(0.149780716, abs=5e-10)
    assert after.value("b1") == work(derived(kumar)).value("b1")  # not trainable


def test_numbers_of_lamsal() -> None:
    worked = work(derived(lamsal))
    after = worked.after_step()
    values = {"sum_h1": 0.41, "output_h1": 0.60108, "output_o2": 0.77955, "E1": 0.23456,
              "E": 0.24908, "dE/dw5": 0.08020, "dE/dw6": 0.08211, "dE/dw1": 0.00110}  # fmt: skip
    for name, value in values.items():
        assert float(worked.value(name)) == pytest.approx(value, abs=1e-5), name  # digits cut off
    for name, value in {"w5": 0.45187, "w6": 0.55073, "w2": 0.19919, "w3": 0.29667}.items():
        assert float(after.value(name)) == pytest.approx(value, abs=1.1e-5), name


def test_sixty_epochs_of_one_neuron_end_where_the_text_ends() -> None:
    worked = work(derived(one_neuron))
    table = {0: ("0.0259", "0.3723"), 5: ("0.0062", "0.4891"), 15: ("0.0003", "0.5738")}
    for epoch in range(60):
        if epoch in table:
            assert f"{float(worked.value('L')):.4f}, {float(worked.value('y')):.4f}" == ", ".join(
                table[epoch]
            )
        worked = worked.after_step()
    final = [f"{float(worked.value(name)):.4f}" for name in ("w1", "b1", "w2", "b2", "y")]
    assert final == ["0.4072", "0.1143", "0.3978", "0.3697", "0.6000"]


def test_numbers_are_taken_as_they_are_written() -> None:
    worked = work(derived(kumar))
    # 0.05*0.15 + 0.1*0.2 + 0.35, and not the nearest binary numbers
    assert worked.value("H1") * 10000 == 3775
    sevenfold = decimal(Equation(Symbol("y"), 0.1 * Symbol("x")))
    assert str(sevenfold) == "y = x/10"


def test_fifty_digits() -> None:
    worked = work(derived(naive))
    with mpmath.workdps(60):
        y = 1 / (1 + mpmath.exp(-1))
        expected = 2 * (y - 1) * y * (1 - y) * 2
        assert abs(mpmath.mpf(worked.value("dL/dw")) - expected) < mpmath.mpf(10) ** -50


def test_adam_by_hand() -> None:
    worked = work(derived(one_neuron))
    gradient = float(worked.value("dL/dw2"))
    after = worked.after_step("adam", {"learning_rate": 0.1})
    first = 0.3 - 0.1 * gradient / (abs(gradient) + 1e-8)
    assert float(after.value("w2")) == pytest.approx(first, rel=1e-14)
    second = after.after_step("adam", {"learning_rate": 0.1})
    m = 0.9 * 0.1 * gradient + 0.1 * float(after.value("dL/dw2"))
    v = 0.999 * 0.001 * gradient**2 + 0.001 * float(after.value("dL/dw2")) ** 2
    step = 0.1 * (m / (1 - 0.9**2)) / (math.sqrt(v / (1 - 0.999**2)) + 1e-8)
    assert float(second.value("w2")) == pytest.approx(first - step, rel=1e-12)


def test_tensors_by_element() -> None:
    worked = work(derived(dense))
    h = np.tanh(np.array([0.5, -1.0, 0.25]) @ [[0.1, -0.2], [0.3, 0.4], [-0.5, 0.6]] + 0.1)
    assert float(worked.value("h", (1,))) == pytest.approx(h[1], rel=1e-15)
    assert worked.values("dL/dW1").shape == (3, 2)
    assert set(worked.names) >= {"x", "W1", "h", "dL/dW1", "L"}


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_kind_of_network_can_be_worked(name: str) -> None:
    derivation = differentiate(ZOO[name]())
    network = derivation.network
    random = np.random.default_rng(1)
    sample: dict[str, Any] = {}
    for variable in (*network.inputs, *network.targets):
        whole = network.index_inputs.get(variable.name)
        sample[variable.name] = (
            random.integers(0, whole, variable.shape)
            if whole
            else np.round(random.uniform(0.1, 0.9, variable.shape), 3)
        )
    worked = work(derivation, sample=sample)
    for parameter in network.parameters:
        assert worked.values(derivation.adjoint_name(parameter.name)).shape == parameter.shape
    loss = derivation.loss_name
    assert worked.after_step("sgd").value(loss) != worked.value(loss)


def test_what_is_missing_is_said() -> None:
    derivation = derived(kumar)
    with pytest.raises(DataError, match="'t2' is missing"):
        work(derivation, sample={"x1": 1, "x2": 1, "t1": 1})
    with pytest.raises(DataError, match="unknown name 'w9'; did you mean"):
        work(derivation, parameters={"w9": 1})
    with pytest.raises(DataError, match=r"'W1': got the shape \(2,\), expected \(3, 2\)"):
        work(derived(dense), parameters={"W1": [1, 2]})
    with pytest.raises(DataError, match="comes without a sample"):
        work(differentiate(ZOO["scalars"]()))
    worked = work(derivation)
    with pytest.raises(OptionError, match="nothing is called 'dE/dw55'; did you mean"):
        worked.value("dE/dw55")
    with pytest.raises(OptionError, match="unknown hyperparameter 'rate'"):
        worked.after_step(settings={"rate": 1})
    with pytest.raises(OptionError, match=r"W1: got the element \[3, 0\]"):
        work(derived(dense)).value("W1", (3, 0))

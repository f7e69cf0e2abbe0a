"""The update rules against the formulas of PyTorch's documentation, step by step."""

from __future__ import annotations

import math
import pickle

import pytest
import sympy
from sympy import Symbol

from symprop.errors import OptionError
from symprop.network import Equation, Training
from symprop.optimizers import OPTIMIZERS, Optimizer, find
from symprop.options import Options, check_hyperparameters, hyperparameters

GRADIENTS = [0.5, -1.25, 0.0, 2.0, 1e-9, -3.0]


def replay(optimizer: Optimizer, theta: float, gradients: list[float], **changed: float):
    """Apply the equations one after the other, as the module's text says, with Python's floats."""
    values = {**optimizer.hyperparameters, **changed, **dict.fromkeys(optimizer.slots, 0.0)}
    values["theta"] = theta
    path = []
    for t, gradient in enumerate(gradients, 1):
        values |= {"t": t, "gradient": gradient}
        for equation in optimizer.equations:
            names = sorted(map(str, equation.rhs.free_symbols))
            function = sympy.lambdify([Symbol(n, real=True) for n in names], equation.rhs, "math")
            values[equation.name] = function(*(values[name] for name in names))
        path.append(values["theta"])
    return path


def sgd(theta, gradients, lr):
    for g in gradients:
        theta -= lr * g
        yield theta


def momentum(theta, gradients, lr, mu, nesterov=False):
    buffer = 0.0
    for g in gradients:
        buffer = mu * buffer + g
        theta -= lr * (g + mu * buffer if nesterov else buffer)
        yield theta


def rmsprop(theta, gradients, lr, alpha, eps):
    average = 0.0
    for g in gradients:
        average = alpha * average + (1 - alpha) * g * g
        theta -= lr * g / (math.sqrt(average) + eps)
        yield theta


def adam(theta, gradients, lr, beta1, beta2, eps, decay=0.0):
    m = v = 0.0
    for step, g in enumerate(gradients, 1):
        theta -= lr * decay * theta
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        bias1, bias2 = 1 - beta1**step, 1 - beta2**step
        theta -= lr / bias1 * m / (math.sqrt(v) / math.sqrt(bias2) + eps)
        yield theta


EXPECTED = {
    "sgd": lambda: sgd(0.75, GRADIENTS, 0.01),
    "momentum": lambda: momentum(0.75, GRADIENTS, 0.01, 0.9),
    "nesterov": lambda: momentum(0.75, GRADIENTS, 0.01, 0.9, nesterov=True),
    "rmsprop": lambda: rmsprop(0.75, GRADIENTS, 0.01, 0.99, 1e-8),
    "adam": lambda: adam(0.75, GRADIENTS, 0.001, 0.9, 0.999, 1e-8),
    "adamw": lambda: adam(0.75, GRADIENTS, 0.001, 0.9, 0.999, 1e-8, 0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps(name):
    # 6 steps of at most 20 rounded operations on values near 1: far below 1e-13
    assert replay(OPTIMIZERS[name], 0.75, GRADIENTS) == pytest.approx(
        list(EXPECTED[name]()), rel=1e-13
    )


def test_the_rules_differ():
    """Negative control: the comparison above tells any two rules apart."""
    for name, optimizer in OPTIMIZERS.items():
        for other, steps in EXPECTED.items():
            if other != name:
                assert replay(optimizer, 0.75, GRADIENTS) != pytest.approx(list(steps()), rel=1e-13)


def test_first_step_by_hand():
    assert replay(OPTIMIZERS["sgd"], 1.0, [2.0], learning_rate=0.25) == [0.5]
    assert replay(OPTIMIZERS["momentum"], 1.0, [2.0, 2.0], learning_rate=0.25, momentum=0.5) == [
        0.5,  # velocity 2
        -0.25,  # velocity 0.5*2 + 2 = 3
    ]
    assert replay(OPTIMIZERS["nesterov"], 1.0, [2.0], learning_rate=0.25, momentum=0.5) == [0.25]
    # with epsilon = 0 the first step of adam is the learning rate, against the gradient's sign
    assert replay(OPTIMIZERS["adam"], 1.0, [123.0], learning_rate=0.25, epsilon=0.0) == [
        pytest.approx(0.75, rel=1e-14)
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_torch_agrees(name):
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.tensor([0.75], dtype=torch.float64))
    make = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
        "nesterov": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
        "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
        "adam": lambda p: torch.optim.Adam(p),
        "adamw": lambda p: torch.optim.AdamW(p),
    }
    optimizer, path = make[name]([parameter]), []
    for gradient in GRADIENTS:
        parameter.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        path.append(parameter.item())
    assert replay(OPTIMIZERS[name], 0.75, GRADIENTS) == pytest.approx(path, rel=1e-12)


def test_text():
    assert str(OPTIMIZERS["momentum"]).splitlines()[:3] == [
        "momentum(learning_rate=0.01, momentum=0.9)",
        "  velocity = momentum*velocity + gradient",
        "  theta = theta - learning_rate*velocity",
    ]
    assert all("(19" in str(rule) or "(20" in str(rule) for rule in OPTIMIZERS.values())


def test_values():
    adam = OPTIMIZERS["adam"]
    assert pickle.loads(pickle.dumps(adam)) == adam
    assert hash(Options()) == hash(Options(optimizer=adam))
    with pytest.raises(TypeError):
        adam.hyperparameters["beta1"] = 0.5
    assert find("adam") is adam
    assert find(adam) is adam


THETA, GRADIENT, RATE, V = sympy.symbols("theta gradient rate v")
STEP = Equation(THETA, THETA - RATE * GRADIENT)
AVERAGE = Equation(V, (V + GRADIENT) / 2)


def test_a_rule_of_ones_own():
    rule = Optimizer("averaged", {"rate": 1}, ("v",), (AVERAGE, Equation(THETA, THETA - RATE * V)))
    assert replay(rule, 1.0, [2.0, 1.0], rate=0.5) == [0.5, 0.0]
    assert all(s.is_real for equation in rule.equations for s in equation.rhs.free_symbols)


I = sympy.Idx("i", 2)  # noqa: E741
BAD = {
    "did you mean 'gradient' or 'rat'?": ("o", {"rat": 1.0}, (), (STEP,)),
    "unknown name 'rate'": ("o", {}, (), (STEP,)),
    "got equations for nothing; the last one": ("o", {}, (), ()),
    "got equations for v; the last one": ("o", {}, ("v",), (AVERAGE,)),
    "got equations for theta, v; the last one": ("o", {"rate": 1.0}, ("v",), (STEP, AVERAGE)),
    "slot 'v' has 0 equations; give it exactly one": ("o", {"rate": 1.0}, ("v",), (STEP,)),
    "slot 'v' has 2 equations": ("o", {"rate": 1.0}, ("v",), (AVERAGE, AVERAGE, STEP)),
    "neither theta nor a slot; declare the slot": ("o", {"rate": 1.0}, (), (AVERAGE, STEP)),
    "hyperparameter 'epochs': the name": ("o", {"rate": 1.0, "epochs": 1.0}, (), (STEP,)),
    "hyperparameter 'lambda': the name": ("o", {"rate": 1.0, "lambda": 1.0}, (), (STEP,)),
    "hyperparameter 'a b': the name": ("o", {"rate": 1.0, "a b": 1.0}, (), (STEP,)),
    "hyperparameter 'patience': the name": ("o", {"rate": 1.0, "patience": 1.0}, (), (STEP,)),
    "slot 'gradient': the name is reserved": ("o", {"rate": 1.0}, ("gradient",), (STEP,)),
    "'rate' is a slot and a hyperparameter": ("o", {"rate": 1.0}, ("rate",), (STEP,)),
    "'rate': got the default '1', expected a finite": ("o", {"rate": "1"}, (), (STEP,)),
    "'rate': got the default nan, expected a finite": ("o", {"rate": math.nan}, (), (STEP,)),
    "'rate': got the default True": ("o", {"rate": True}, (), (STEP,)),
    "expected a Python name as its name": ("my rule", {"rate": 1.0}, (), (STEP,)),
    "is no real expression": ("o", {}, (), (Equation(THETA, sympy.I * THETA),)),
    "left side is neither": ("o", {}, (), (Equation(sympy.IndexedBase("theta")[I], THETA),)),
}  # fmt: skip


@pytest.mark.parametrize(("message", "fields"), BAD.items(), ids=BAD)
def test_bad_rules(message, fields):
    with pytest.raises(OptionError) as caught:
        Optimizer(*fields)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"optimizer {fields[0]!r}: ")


def test_unknown_optimizer():
    with pytest.raises(
        OptionError, match=r"unknown optimizer 'adm'; did you mean 'adam' or 'adamw'"
    ):
        find("adm")
    with pytest.raises(OptionError, match=r"unknown optimizer \['adam'\]"):
        find(["adam"])


def test_options():
    assert Options("float32").optimizer is OPTIMIZERS["adam"]
    with pytest.raises(OptionError, match=r"got 'float23', expected 'float64' or 'float32'; did"):
        Options("float23")
    with pytest.raises(OptionError, match=r"got 'adam', expected an Optimizer"):
        Options(optimizer="adam")


def test_hyperparameters():
    sgd = OPTIMIZERS["sgd"]
    training = Training(optimizer="sgd", hyperparameters={"learning_rate": 1})
    assert hyperparameters(sgd, training) == {"learning_rate": 1.0}
    assert hyperparameters(OPTIMIZERS["adam"], training)["learning_rate"] == 0.001
    with pytest.raises(
        OptionError, match=r"'sgd' has no hyperparameter 'learn_rate'; did you mean 'lea"
    ):
        hyperparameters(sgd, Training(optimizer="sgd", hyperparameters={"learn_rate": 1.0}))
    with pytest.raises(OptionError, match=r"got learning_rate = 'fast', expected a finite number"):
        check_hyperparameters(sgd, {"learning_rate": "fast"})

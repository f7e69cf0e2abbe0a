"""A second opinion where PyTorch is installed: its autograd against generated kernels.

Both sides compute in float64. Their losses and gradients are sums of at most a few
hundred terms of order 1, each rounded a few dozen times on either side: 2e4 roundings
of 1.1e-16 bound the difference by 3e-12.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from zoo import ZOO

import symprop

torch = pytest.importorskip("torch")
BOUND = 3e-12

Loss = Callable[[Any, Any], Any]


def classifier(p: Any, data: Any) -> Any:
    x, t = data
    z = torch.tanh(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
    return torch.nn.functional.cross_entropy(z, t)


def tied(p: Any, data: Any) -> Any:
    (x,) = data
    return ((torch.tanh(x @ p["W"] + p["b"]) @ p["W"].T - x) ** 2).sum(1).mean() / 2


def skip(p: Any, data: Any) -> Any:
    x, t = data
    u = x + torch.nn.functional.gelu(x @ p["W"])
    y = torch.nn.functional.layer_norm(u, (5,), p["g"], p["b"], eps=1e-5)
    return ((y - t) ** 2).sum(1).mean() / 2


def attention(p: Any, data: Any) -> Any:
    x, t = data
    q, k, v = (torch.einsum("nsd,ade->nase", x, p[name]) for name in ("Wq", "Wk", "Wv"))
    h = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    y = torch.einsum("nase,aeo->nso", h, p["Wo"])
    return ((y - t) ** 2).sum((1, 2)).mean() / 2


def convolution(p: Any, data: Any) -> Any:
    x, t = data
    y = torch.relu(torch.nn.functional.conv1d(x, p["w"], p["b"], padding=1))
    f = torch.nn.functional.conv1d(y, p["v"][:, None, :], stride=2, groups=3)
    return (((f.mean(2) @ p["W"]) - t) ** 2).sum(1).mean()


def convolution_2d(p: Any, data: Any) -> Any:
    x, t = data
    y = torch.nn.functional.conv2d(x[:, None], p["f"][None, None])
    return ((torch.nn.functional.max_pool2d(y, 2)[:, 0] - t) ** 2).sum((1, 2)).mean()


def embedding(p: Any, data: Any) -> Any:
    token, t = data
    z = p["E"][token].mean(1) @ p["E"].T
    return torch.nn.functional.cross_entropy(z, t)


OPINIONS: dict[str, Loss] = {
    f.__name__: f
    for f in (classifier, tied, skip, attention, convolution, convolution_2d, embedding)
}


@pytest.mark.parametrize("name", OPINIONS)
def test_autograd_agrees(name: str) -> None:
    network = ZOO[name]()
    module = symprop.compile(network)
    random = np.random.default_rng(1)
    data = []
    for variable in (*network.inputs, *network.targets):
        shape = (6, *variable.shape)
        if variable.name in network.index_inputs:
            data.append(random.integers(0, network.index_inputs[variable.name], shape))
        elif variable.name == "t" and name in ("classifier", "embedding"):
            data.append(random.dirichlet(np.ones(shape[1]), 6))
        else:
            data.append(random.standard_normal(shape))
    start = module.initialize(3)
    loss, gradients = module.backward(start, *data)
    leaves = {k: torch.tensor(v, requires_grad=True) for k, v in start._asdict().items()}
    opinion = OPINIONS[name](leaves, [torch.from_numpy(array) for array in data])
    opinion.backward()
    assert abs(loss - opinion.item()) <= BOUND * max(1, abs(loss))
    for key, leaf in leaves.items():
        difference = np.abs(getattr(gradients, key) - leaf.grad.numpy()).max()
        assert difference <= BOUND * max(1, np.abs(leaf.grad.numpy()).max()), key

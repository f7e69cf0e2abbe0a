"""What the kernels of a network are generated for: a dtype and an optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from symprop.errors import OptionError, nearest
from symprop.network import Training
from symprop.optimizers import OPTIMIZERS, Optimizer, is_number

__all__ = ["Dtype", "Options", "check_hyperparameters", "hyperparameters"]

Dtype = Literal["float64", "float32"]
"""The type of the numbers that kernels compute with."""


@dataclass(frozen=True, slots=True)
class Options:
    """The choices that the text of a generated module depends on besides the network.

    Raises `OptionError` for a dtype or an optimizer that is none.
    """

    dtype: Dtype = "float64"
    optimizer: Optimizer = OPTIMIZERS["adam"]

    def __post_init__(self) -> None:
        known = get_args(Dtype)
        if self.dtype not in known:
            raise OptionError(
                f"dtype: got {self.dtype!r}, expected {' or '.join(map(repr, known))}"
                f"{nearest(str(self.dtype), known)}"
            )
        if not isinstance(self.optimizer, Optimizer):
            raise OptionError(
                f"optimizer: got {self.optimizer!r}, expected an Optimizer; "
                "symprop.optimizers.find gives one by its name"
            )


def hyperparameters(optimizer: Optimizer, training: Training) -> dict[str, float]:
    """Return the defaults of `optimizer` with those that `training` gives in their place.

    What `training` gives for another optimizer than `optimizer` is left aside: a
    learning rate for `sgd` says nothing about `adam`. Raises `OptionError` where
    `training` names a hyperparameter that its optimizer does not have, or no number.
    """
    values = dict(optimizer.hyperparameters)
    if training.optimizer != optimizer.name:
        return values
    return values | check_hyperparameters(optimizer, dict(training.hyperparameters))


def check_hyperparameters(optimizer: Optimizer, given: dict[str, float]) -> dict[str, float]:
    """Return `given` as floats; raise `OptionError` unless they are numbers of `optimizer`."""
    for name, value in given.items():
        if name not in optimizer.hyperparameters:
            raise OptionError(
                f"optimizer {optimizer.name!r} has no hyperparameter {name!r}"
                f"{nearest(name, optimizer.hyperparameters)}; it has "
                f"{', '.join(optimizer.hyperparameters) or 'none'}"
            )
        if not is_number(value):
            raise OptionError(
                f"optimizer {optimizer.name!r}: got {name} = {value!r}, expected a finite number"
            )
    return {name: float(value) for name, value in given.items()}

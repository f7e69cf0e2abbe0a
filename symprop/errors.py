"""Every error that symprop raises on purpose.

Each message names the subject, what was got, what was expected and the remedy.
The command line turns `SympropError` into one message without a traceback; its
exit status is the class's `exit_status`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class SympropError(Exception):
    """Base of all errors below; `exit_status` is what the command line returns for it."""

    exit_status = 2


class NetworkError(SympropError, ValueError):
    """A network is built from parts that do not fit together."""


class DescriptionError(SympropError, ValueError):
    """A description file is not a network; `problems` lists everything wrong with it.

    Each problem is one line that says where it stands and what would mend it.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class DifferentiationError(SympropError, ValueError):
    """An expression has no derivative that symprop knows."""


class FormulaSizeError(SympropError, ValueError):
    """A closed form would be too large to print; the message gives the estimate."""


class LoweringError(SympropError, ValueError):
    """An equation has no form that a kernel can compute."""


class ShapeError(SympropError, ValueError):
    """An array does not have the shape that the network's indices give it."""


class OptionError(SympropError, ValueError):
    """An optimizer, a hyperparameter or another option is not what it should be."""


class DataError(SympropError, ValueError):
    """A data file does not hold the network's inputs and targets."""


class WeightsError(SympropError, ValueError):
    """A file of weights does not belong to the network."""


class OutputError(SympropError, OSError):
    """A result cannot be written where it was asked for."""


class VerificationError(SympropError, ArithmeticError):
    """A kernel does not compute what the mathematics says; nothing was written."""

    exit_status = 1


class DivergenceError(SympropError, ArithmeticError):
    """The loss became NaN or infinite; `epoch` says when, `state` is the last good one."""

    exit_status = 1

    def __init__(self, message: str, epoch: int, state: Any) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.state = state


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message: the one or two names of `known` that `name` may mean.

    >>> nearest("adan", ["sgd", "adam"])
    "; did you mean 'adam'?"
    >>> nearest("x", ["X", "t"])
    "; did you mean 'X'?"
    >>> nearest("W3", ["W2", "W1"])
    "; did you mean 'W1' or 'W2'?"
    >>> nearest("zzz", ["sgd", "adam"])
    ''
    """
    folded = {candidate.casefold(): candidate for candidate in sorted(known)}
    close = sorted(difflib.get_close_matches(name.casefold(), folded, n=2, cutoff=0.5))
    meant = " or ".join(repr(folded[candidate]) for candidate in close)
    return f"; did you mean {meant}?" if meant else ""

"""Train the kernels of a network and evaluate what they have learnt.

The loop itself is compiled and stands in the generated module (`start`, `resume`); here is
what surrounds it: progress, Ctrl-C, early stopping, callbacks, and errors in words.
`kernels` is everywhere a `CompiledModule` or a generated module.
"""

from __future__ import annotations

import inspect
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from symprop.data import check, check_names
from symprop.errors import DataError, DivergenceError, OptionError, nearest
from symprop.network import Network
from symprop.optimizers import is_number
from symprop.weights import load_parameters, load_state, save_parameters, save_state

__all__ = [
    "Result",
    "evaluate",
    "load_parameters",
    "load_state",
    "save_parameters",
    "save_state",
    "train",
]

Floats = NDArray[np.float64]
Callback = Callable[[int, Floats], object]
Stop = Literal["completed", "patience", "callback", "interrupted"]


@dataclass(frozen=True, slots=True)
class Result:
    """What `train` returns.

    `state` is the last state; ``train(..., state=result.state)`` goes on from it to the
    bit. `parameters` are those of `state`, or with `patience` those of the epoch with
    the lowest validation loss, which `best_epoch` names (counted from 1 in this call). `losses`
    has one value for each completed epoch, `validation_losses` too where there are validation
    samples. `stopped` tells why training ended.
    """

    state: Any
    parameters: Any
    losses: Floats
    validation_losses: Floats
    stopped: Stop
    best_epoch: int | None = None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the training."""
        return self.stopped == "interrupted"


def train(
    kernels: Any,
    data: Mapping[str, Any],
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    shuffle: bool | None = None,
    state: Any = None,
    validation: Mapping[str, Any] | None = None,
    patience: int | None = None,
    progress: bool = False,
    callback: Callback | None = None,
    **hyperparameters: float,
) -> Result:
    """Train for `epochs` epochs; what is not given is as the network's description says.

    `data` and `validation` hold an array by the name of each input and target, the first
    axis counting the samples. Training starts from the initial parameters of `seed`, or
    goes on from `state` (``kernels.start(parameters, seed)`` makes one of any parameters).
    With `validation`, its mean loss is computed after each epoch; with `patience` training
    stops when that has not fallen for so many epochs, and the best parameters are returned.

    About five times a second, and with `validation` after each epoch,
    ``callback(epochs_done, losses)`` is called; returning True stops. `progress` shows a
    bar if standard error is a terminal. Ctrl-C stops too, and the result says so
    (`Result.interrupted`); a second Ctrl-C raises KeyboardInterrupt at once.

    A loss that becomes NaN or infinite raises `DivergenceError`, whose `state` is that at the
    end of the last good epoch. Wrong options raise `OptionError`, wrong data `DataError`.
    """
    module = _module(kernels)
    _check_stopping(validation, patience, state, seed)
    given = {"epochs": epochs, "batch_size": batch_size, "shuffle": shuffle, **hyperparameters}
    settings = _settings(module, {k: v for k, v in given.items() if v is not None})
    arrays = _arrays(kernels, data)
    held = None if validation is None else _arrays(kernels, validation)
    if state is None:
        chosen = _default(module.train, "seed") if seed is None else seed
        state = module.start(module.initialize(chosen), chosen)
    with _interrupt() as interrupted, _bar(progress, settings["epochs"], module.NAME) as bar:
        watch = _Watch(interrupted, callback, bar)
        try:
            if held is None:
                return _straight(module, state, arrays, settings, watch)
            return _validated(module, state, arrays, settings, watch, held, patience)
        except module.DivergenceError as error:
            raise _divergence(error, module.NAME, settings) from error


def evaluate(kernels: Any, parameters: Any, data: Mapping[str, Any]) -> dict[str, float]:
    """Return the mean ``loss`` and, where outputs are probabilities of classes, ``accuracy``.

    Whether they are is read off the data: a target is paired with the first output of the
    same shape that no earlier target took. If the target holds only 0 and 1, and the output
    only numbers from 0 to 1, the accuracy is

    - for targets with exactly one 1 along the last axis, of size 2 at least: the share of
      places where the largest output is where the 1 is;
    - otherwise: the share of outputs that are on the target's side of 1/2 (1/2 counts as 1).

    With several such pairs the keys are ``accuracy(target)``. The shares are of all samples and
    all further places.
    """
    module, arrays = _module(kernels), _arrays(kernels, data)
    inputs, targets = _names(kernels)
    loss = float(module.loss(parameters, *arrays))
    outputs = module.forward(parameters, *arrays[: len(inputs)])
    outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
    named = dict(zip(targets, arrays[len(inputs) :], strict=True))
    pairs = _paired(outputs, named)
    found = {name: _accuracy(output, named[name]) for name, output in pairs.items()}
    shares = {name: share for name, share in found.items() if share is not None}
    if len(shares) == 1:
        return {"loss": loss, "accuracy": next(iter(shares.values()))}
    return {"loss": loss} | {f"accuracy({name})": share for name, share in shares.items()}


def _paired(outputs: list[Any], targets: Mapping[str, Any]) -> dict[str, Any]:
    """Return the output that belongs to each target by its shape, for those that have one."""
    pairs = {}
    for name, target in targets.items():
        for position, output in enumerate(outputs):
            if output.shape == target.shape:
                pairs[name] = outputs.pop(position)
                break
    return pairs


def _accuracy(output: NDArray[Any], target: NDArray[Any]) -> float | None:
    if not np.isin(target, (0, 1)).all() or not ((output >= 0) & (output <= 1)).all():
        return None
    if target.ndim > 1 and target.shape[-1] > 1 and (target.sum(axis=-1) == 1).all():
        return float(np.mean(output.argmax(axis=-1) == target.argmax(axis=-1)))
    return float(np.mean((output >= 0.5) == (target == 1)))


class _Watch:
    """What happens between slices of the compiled loop; `resume` calls it, True stops it."""

    def __init__(self, interrupted: threading.Event, callback: Callback | None, bar: Any) -> None:
        self.stopped: Stop = "completed"
        self.earlier: Floats = np.empty(0)  # losses of the epochs before the present `resume`
        self._interrupted = interrupted
        self._callback = callback
        self._bar = bar

    def __call__(self, done: int, losses: Floats) -> bool:
        """Show and tell what has been reached; return whether to stop."""
        reached = self.show(losses)
        if self._callback is not None and self._callback(len(reached), reached) is True:
            self.stopped = "callback"
        self.check_interrupt()
        return self.stopped != "completed"

    def show(self, losses: Floats) -> Floats:
        """Bring the bar up to date; return the losses of all epochs."""
        reached = np.concatenate([self.earlier, losses])
        if self._bar is not None:
            if len(reached):
                self._bar.set_postfix_str(f"loss {reached[-1]:.4g}", refresh=False)
            self._bar.update(len(reached) - self._bar.n)
        return reached

    def check_interrupt(self) -> None:
        """Take notice of Ctrl-C."""
        if self._interrupted.is_set():
            self.stopped = "interrupted"


class _Best:
    """The parameters with the lowest validation loss so far."""

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters
        self.epoch = 0
        self.losses: list[float] = []
        self._lowest = math.inf

    def add(self, loss: float, parameters: Any) -> None:
        """Take the next epoch's loss into account; NaN counts as infinite."""
        self.losses.append(loss)
        if loss < self._lowest or self.epoch == 0:
            self.parameters, self.epoch = parameters, len(self.losses)
            self._lowest = math.inf if math.isnan(loss) else loss


def _straight(
    module: Any, state: Any, arrays: list[Any], settings: dict[str, Any], watch: _Watch
) -> Result:
    state, losses = module.resume(state, *arrays, callback=watch, **settings)
    watch.show(losses)
    watch.check_interrupt()
    return Result(state, state.parameters, losses, np.empty(0), watch.stopped)


def _validated(
    module: Any,
    state: Any,
    arrays: list[Any],
    settings: dict[str, Any],
    watch: _Watch,
    held: list[Any],
    patience: int | None,
) -> Result:
    """Train epoch by epoch, which gives the same numbers as all epochs at once."""
    best, each = _Best(state.parameters), settings | {"epochs": 1}
    for _ in range(settings["epochs"]):
        state, losses = module.resume(state, *arrays, callback=watch, **each)
        if len(losses):
            best.add(float(module.loss(state.parameters, *held)), state.parameters)
        if watch.stopped == "completed":
            watch(1, losses)
        watch.earlier = np.concatenate([watch.earlier, losses])
        if watch.stopped == "completed" and patience and len(best.losses) - best.epoch >= patience:
            watch.stopped = "patience"
        if watch.stopped != "completed":
            break
    losses, held_losses = watch.earlier, np.array(best.losses)
    if patience is None:
        return Result(state, state.parameters, losses, held_losses, watch.stopped)
    return Result(state, best.parameters, losses, held_losses, watch.stopped, best.epoch or None)


def _divergence(error: Any, name: str, settings: Mapping[str, Any]) -> DivergenceError:
    rate = settings.get("learning_rate")
    remedy = "lower the learning rate" + (f" ({rate:g})" if is_number(rate) else "")
    kept = f"of epoch {error.epoch - 1}" if error.epoch > 1 else "that training started from"
    return DivergenceError(
        f"network {name!r}: the loss became NaN or infinite in epoch {error.epoch}; {remedy} or "
        f"scale the inputs. The parameters {kept} are kept in the error's state",
        error.epoch,
        error.state,
    )


# What the kernels are


def _module(kernels: Any) -> Any:
    return getattr(kernels, "module", kernels)


def _network(kernels: Any) -> Network | None:
    """Return the network of a `CompiledModule`; a generated module does not know it."""
    return getattr(getattr(kernels, "derivation", None), "network", None)


def _names(kernels: Any) -> tuple[list[str], list[str]]:
    """Return the names of the inputs and of the targets, in order."""
    network = _network(kernels)
    if network is not None:
        return [v.name for v in network.inputs], [v.name for v in network.targets]
    module = _module(kernels)
    inputs, both = _positional(module.forward), _positional(module.loss)
    return inputs, both[len(inputs) :]


def _positional(function: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments after the first that are given by position.

    >>> _positional(lambda parameters, x, t, *, epochs=1: None)
    ['x', 't']
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    arguments = inspect.signature(function).parameters.values()
    return [argument.name for argument in arguments if argument.kind in kinds][1:]


def _arrays(kernels: Any, data: Mapping[str, Any]) -> list[NDArray[Any]]:
    """Return the inputs and targets in order, of the dtype of the kernels."""
    network, dtype = _network(kernels), _module(kernels).DTYPE
    if network is not None:
        checked = check(data, network)
    else:
        names = [name for group in _names(kernels) for name in group]
        check_names(data, names, "data", "array")
        checked = {name: np.asarray(data[name]) for name in names}
    return [_converted(array, dtype, name) for name, array in checked.items()]


def _converted(array: NDArray[Any], dtype: str, name: str) -> NDArray[Any]:
    if array.dtype.kind != "f":
        return array  # subscripts stay integers
    with np.errstate(over="ignore"):
        converted = array.astype(dtype, order="C", copy=False)
    if np.isinf(converted).any():
        raise DataError(
            f"data, array {name!r}: holds infinity or numbers too large for {dtype}; scale it"
        )
    return converted


# Options


def _check_stopping(validation: object, patience: object, state: object, seed: object) -> None:
    if patience is not None:
        _check_count("patience", patience, 1)
        if validation is None:
            raise OptionError("patience needs validation samples to watch: give validation=...")
    if seed is not None:
        _check_count("seed", seed, 0)
        if state is not None:
            raise OptionError("seed has no effect on a state, which holds its own; leave one out")


def _check_count(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise OptionError(f"{name}: got {value!r}, expected an integer >= {least}")


def _settings(module: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Return what `resume` gets by name, checked; always with the number of epochs."""
    for name, least in (("epochs", 0), ("batch_size", 1)):
        if name in given:
            _check_count(name, given[name], least)
    known = inspect.signature(module.resume).parameters
    flexible = any(argument.kind is argument.VAR_KEYWORD for argument in known.values())
    for name, value in given.items():
        if name not in known and not flexible:
            keywords = [k for k, a in known.items() if a.kind is a.KEYWORD_ONLY]
            options = [keyword for keyword in keywords if keyword != "callback"]
            raise OptionError(
                f"network {module.NAME!r}: no hyperparameter {name!r}{nearest(name, options)}; its "
                f"kernels have {', '.join(options)}"
            )
        if name != "shuffle" and not is_number(value):
            raise OptionError(f"{name}: got {value!r}, expected a finite number")
    return {"epochs": _default(module.resume, "epochs"), **given}


def _default(function: Callable[..., Any], name: str) -> Any:
    return inspect.signature(function).parameters[name].default


# Terminal


@contextmanager
def _bar(wanted: bool, epochs: int, name: str) -> Iterator[Any]:
    """Yield a progress bar, or None where nobody would see it."""
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=epochs, desc=name, unit="epoch", file=sys.stderr) as bar:
        yield bar


@contextmanager
def _interrupt() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets; the second raises KeyboardInterrupt again.

    Only Python's own handling of Ctrl-C is replaced, and only in the main thread, where
    alone it can be.
    """
    pressed = threading.Event()
    own = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not own or threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def handle(number: int, frame: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, handle)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)

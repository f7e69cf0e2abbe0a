"""Descriptions: a network as a TOML file, read without running anything and written back.

    name = "line"
    inputs  = ["x"]
    targets = ["t"]
    outputs = ["y"]

    [parameters]
    w = 1
    b = { value = 0, trainable = false }

    [equations]
    y = "w*x + b"
    loss = "(y - t)**2/2"

The tables are ``[indices]`` (name = size), ``[parameters]`` (a number, nested lists, the
name of an initialiser, or a table with value and trainable), ``[equations]`` in the
language of `symprop.expressions`, ``[training]`` (optimizer, batch_size, epochs, seed,
shuffle, and the optimizer's hyperparameters) and ``[data]`` (a sample or a list of samples
for each input and target, or file = "name.npz" beside the description, with test_samples).
Each ``[[claims]]`` is a number that a worked example prints: quantity, printed (strings),
where, after (the number of updates before it); see `symprop.quantities`.
The loss is the equation `loss`; ``loss = "E"`` at the top says that it is the equation `E`
and that formulas call it so.

All problems of a description are reported together. A name whose declaration or equation
is refused is not reported again where it is used.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sympy import Idx

from symprop.errors import DescriptionError, NetworkError, nearest
from symprop.expressions import ExpressionError, parse_expression, words
from symprop.indices import index_name
from symprop.network import Claim, Data, Network, Training, Variable
from symprop.notation import expression_text
from symprop.quantities import elements
from symprop.toml import dump, write

__all__ = ["dump", "expression_text", "parse", "read", "write"]

_LARGEST = 4 * 2**20
_MANY = 100
_WHOLE = 2**63 - 1
_LONGEST_INDEX = 10**7

_TABLES = ("indices", "parameters", "equations", "training", "data")
_LISTS = ("inputs", "targets", "outputs")
_KEYS = ("name", *_LISTS, "loss", *_TABLES, "claims")
_DECLARATION = re.compile(r"\s*([^\s\[\]]+)\s*(?:\[([^\[\]]*)\])?\s*")
_SUBJECT = re.compile(
    r"(?:index|input|target|parameter|equation|output|loss|network name)\b[^:]*: "
)
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.(?:npz|csv)")


def read(path: str | Path) -> Network:
    """Return the network that a description file holds; raise `DescriptionError` otherwise."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise DescriptionError(f"{path}: not a file; expected a description (.toml)")
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except FileNotFoundError:
        raise DescriptionError(f"{path}: file not found") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DescriptionError(f"{path}: cannot be read: {reason}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(content) <= _LARGEST:
            raise DescriptionError(
                f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8 text"
            ) from None
        text = " " * len(content)
    return parse(text, path.name)


def parse(text: str, where: str = "description") -> Network:
    """Return the network that `text` describes.

    Raises `DescriptionError` with all problems; each begins with `where` and the place.

    >>> net = parse('''
    ... name = "line"
    ... inputs = ["x"]
    ... outputs = ["y"]
    ... [parameters]
    ... w = 1
    ... [equations]
    ... y = "w*x"
    ... loss = "y**2/2"
    ... ''')
    >>> print(*net.equations)
    y = w*x L = y**2/2
    """
    if len(text) > _LARGEST:
        raise DescriptionError(f"{where}: larger than {_LARGEST // 2**20} MB; not a description")
    reading = _Reading(where, _table(text, where))
    network = reading.network()
    if reading.problems:
        raise DescriptionError(reading.shown())
    return network


def _table(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*) \(at (line \d+), (column \d+)\)", str(error), re.DOTALL)
        place = f", {found[2]}, {found[3]}" if found else ""
        message = found[1] if found else str(error)
        raise DescriptionError(f"{where}{place}: not TOML: {_line(message)}") from None
    except RecursionError:
        raise DescriptionError(f"{where}: values are nested too deeply") from None
    except ValueError as error:
        raise DescriptionError(f"{where}: not TOML: {_line(str(error))}") from None


class _Reading:
    """One description on its way to a network, with the problems found so far.

    `broken` are the names whose declaration was refused; `mentioned` are all words of
    refused equations, which may well be the only use of a parameter or an index.
    """

    def __init__(self, where: str, table: dict[str, Any]) -> None:
        self.where, self.table = where, table
        self.problems: list[str] = []
        self.broken: set[str] = set()
        self.mentioned: set[str] = set()
        self.net = Network()

    def network(self) -> Network:
        """Read every part in the order in which the parts build on one another."""
        self._known(self.table, _KEYS, "")
        self._name()
        for name, length in self._section("indices").items():
            self._index(name, length)
        self._variables("inputs", "input", self.net.input)
        self._variables("targets", "target", self.net.target)
        for text, value in self._section("parameters").items():
            self._parameter(text, value)
        self._equations()
        self._outputs()
        self._training()
        self._whole()
        self._data()
        self._claims()
        return self.net

    def shown(self) -> list[str]:
        """Return the problems, cut where there are very many."""
        more = len(self.problems) - _MANY
        rest = [f"{self.where}: and {more} more problems"] if more > 0 else []
        return self.problems[:_MANY] + rest

    def _add(self, place: str, message: str) -> None:
        """Note down a problem, unless the same is there already."""
        problem = f"{self.where}{', ' if place else ''}{place}: {_line(message)}"
        if problem not in self.problems:
            self.problems.append(problem)

    def _known(self, table: Iterable[str], keys: Iterable[str], place: str) -> None:
        for key in table:
            if key not in keys:
                self._add(place, f"unknown key {_shown(key)}{nearest(key[:99], keys)}")

    def _attempt(self, place: str, act: Callable[..., object], *args: Any, **options: Any) -> bool:
        """Call a method of the network; note down what it objects to."""
        try:
            act(*args, **options)
        except NetworkError as error:
            self._add(place, _SUBJECT.sub("", str(error), count=1))
            return False
        return True

    def _section(self, key: str) -> dict[str, Any]:
        """Return a table of the file; {} where it is missing or none."""
        value = self.table.get(key, {})
        if isinstance(value, dict):
            return value
        self._add("", f"{key!r} is {_kind(value)}, expected a table: [{key}]")
        return {}

    def _list(self, key: str) -> list[str]:
        """Return a list of strings of the file; [] where it is missing or none."""
        value = self.table.get(key, [])
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
        self._add(key, f'got {_kind(value)}, expected a list of names: {key} = ["x[i]"]')
        return []

    def _name(self) -> None:
        name = self.table.get("name")
        if not isinstance(name, str):
            got = "no name" if name is None else f"the name is {_kind(name)}"
            self._add("", f'{got}; expected letters, digits and underscores: name = "digits"')
            return
        with suppress(NetworkError):
            self.net = Network(name)
        self._attempt("name", Network, name)

    def _index(self, name: str, length: Any) -> None:
        place = f"index {_shown(name)}"
        if isinstance(length, int) and length > _LONGEST_INDEX:
            self._add(place, f"got the size {_short(length)}, expected at most {_LONGEST_INDEX:,}")
            self.broken.add(name)
        elif not self._attempt(place, self.net.index, name, length):
            self._break(name)

    def _break(self, name: str) -> None:
        if name not in self.net.names:
            self.broken.add(name)

    def _declared(self, text: str, place: str) -> tuple[str, tuple[Idx, ...]] | None:
        """Read ``W[i, j]`` as a name and its indices."""
        found = _DECLARATION.fullmatch(text)
        if not found:
            self._add(place, "expected a name, or a name with indices: W[i,j]")
            self.broken |= set(re.findall(r"^[A-Za-z]\w*", text, re.ASCII))
            return None
        name, inside = found.groups()
        labels = [] if inside is None else [label.strip() for label in inside.split(",")]
        known = {index_name(index): index for index in self.net.indices}
        for label in labels:
            if label not in known and label not in self.broken:
                self._add(
                    place,
                    f"{_shown(label)} is no index{nearest(label[:99], known)}; add it to [indices]",
                )
        if any(label not in known for label in labels):
            self._break(name)
            return None
        return name, tuple(known[label] for label in labels)

    def _variables(self, key: str, kind: str, declare: Callable[..., object]) -> None:
        for text in self._list(key):
            place = f"{kind} {_shown(text)}"
            declared = self._declared(text, place)
            if declared and not self._attempt(place, declare, declared[0], *declared[1]):
                self._break(declared[0])
        if key == "inputs" and not self.table.get(key):
            self._add("", 'no inputs; name at least one: inputs = ["x"]')

    def _parameter(self, text: str, value: Any) -> None:
        place = f"parameter {_shown(text)}"
        declared = self._declared(text, place)
        options = {"init": value, "trainable": True}
        if isinstance(value, dict):
            self._known(value, ("value", "trainable"), place)
            options = {"init": value.get("value"), "trainable": value.get("trainable", True)}
        if not isinstance(options["trainable"], bool):
            self._add(place, f"trainable is {_kind(options['trainable'])}, expected true or false")
            options["trainable"] = True
        if not isinstance(options["init"], str) and not _numeric(options["init"]):
            self._add(
                place, "expected a number, lists of numbers, the name of an initialiser, or "
                "{ value = 0.35, trainable = false }"
            )  # fmt: skip
            options["init"] = 0.0
        if declared:
            self._declare_parameter(place, *declared, **options)

    def _declare_parameter(
        self, place: str, name: str, indices: tuple[Idx, ...], init: Any, trainable: bool
    ) -> None:
        """Declare the parameter even where its value is refused: its name is right."""
        if not self._attempt(
            place, self.net.parameter, name, *indices, init=init, trainable=trainable
        ):
            with suppress(NetworkError):
                self.net.parameter(name, *indices)
            self._break(name)

    def _equations(self) -> None:
        equations = self._section("equations")
        if not equations:
            self._add("", "no equations; write them under [equations]")
            return
        loss, printed = self._loss_key(equations)
        names = {text: (_DECLARATION.fullmatch(text) or ["", ""])[1] for text in equations}
        later = [name for text, name in names.items() if text != loss]
        for text, source in equations.items():
            if text != loss:
                later.remove(names[text])
                self._equation(text, source, later)
        if loss:
            place = f"equation {_shown(loss)}"
            rhs = self._expression(place, equations[loss])
            if rhs is None or not self._attempt(place, self.net.loss, rhs, printed):
                self.mentioned |= words(str(equations[loss]))
                self.net.loss(0)

    def _loss_key(self, equations: dict[str, Any]) -> tuple[str, str]:
        """Return the key of the loss's equation ('' where it is missing) and its printed name."""
        named = self.table.get("loss", "")
        if not isinstance(named, str):
            self._add("loss", f'got {_kind(named)}, expected the name of an equation: loss = "E"')
            named = ""
        if named in equations:
            return named, named
        if "loss" in equations:
            return "loss", named
        wanted = f"{named} =" if named else "loss ="
        self._add("", f'no loss; add its equation under [equations]: {wanted} "..."')
        self.net.loss(0)
        return "", ""

    def _equation(self, text: str, source: Any, later: list[str]) -> None:
        place = f"equation {_shown(text)}"
        declared = self._declared(text, place)
        rhs = self._expression(place, source, later)
        if declared is None:
            self.mentioned |= words(str(source))
            return
        name, indices = declared
        if rhs is None or not self._attempt(place, self.net.define, name, rhs, *indices):
            self.mentioned |= words(str(source))
            with suppress(NetworkError):
                self.net.define(name, 0, *indices)
            self._break(name)

    def _expression(self, place: str, source: Any, later: Iterable[str] = ()) -> Any:
        """Return the right side of an equation; None where it is refused."""
        if not isinstance(source, str):
            self._add(place, f"got {_kind(source)}, expected an expression in quotes")
            return None
        names: dict[str, Variable | Idx | None] = dict.fromkeys(self.broken)
        names |= {variable.name: variable for variable in self.net.variables}
        names |= {index_name(index): index for index in self.net.indices}
        try:
            return parse_expression(source, names, set(later))
        except ExpressionError as error:
            for column, message in error.problems:
                self._add(f"{place}, column {column}" if column else place, message)
            return None

    def _outputs(self) -> None:
        for name in self._list("outputs"):
            if name not in self.broken:
                self._attempt(f"output {_shown(name)}", self.net.output, name)

    def _training(self) -> None:
        table = self._section("training")
        checks: dict[str, tuple[Callable[[Any], bool], str]] = {
            "optimizer": (_is_name, "the name of an optimizer"),
            "batch_size": (lambda value: _is_whole(value, 1), "a whole number from 1"),
            "epochs": (lambda value: _is_whole(value, 1), "a whole number from 1"),
            "seed": (lambda value: _is_whole(value, 0), "a whole number from 0"),
            "shuffle": (lambda value: isinstance(value, bool), "true or false"),
        }
        hyper = (_is_finite, "a number")
        for key, value in table.items():
            valid, expected = checks.get(key, hyper)
            if not _is_name(key):
                self._add("[training]", f"unknown key {_shown(key)}{nearest(key[:99], checks)}")
            elif not valid(value):
                self._add("[training]", f"{key} is {_kind(value)}, expected {expected}")
        if not self.problems:
            given = {key: table[key] for key in checks if key in table}
            others = {key: float(table[key]) for key in table if key not in checks}
            self.net.training = Training(**given, hyperparameters=others)

    def _whole(self) -> None:
        """Report what can only be said of the network as a whole."""
        if not self._section("equations"):
            return
        for message in self.net.problems():
            if not any(f"{name!r}" in message or f"{name}[" in message for name in self.mentioned):
                self._add("", message)
        used = {index for variable in self.net.variables for index in variable.indices}
        used |= set().union(*(equation.rhs.atoms(Idx) for equation in self.net.equations))
        for name in map(index_name, set(self.net.indices) - used):
            if name not in self.mentioned and not self._declared_with(name):
                self._add(f"index {_shown(name)}", "used nowhere; use it or remove it")

    def _declared_with(self, name: str) -> bool:
        """Tell whether a refused declaration uses the index."""
        texts = (*self._list("inputs"), *self._list("targets"))
        texts += (*self._section("parameters"), *self._section("equations"))
        return any(name in words(text.partition("[")[2]) for text in texts)

    def _data(self) -> None:
        table = self._section("data")
        if not table:
            return
        if isinstance(table.get("file"), str):
            self._known(table, ("file", "test_samples"), "[data]")
            if not _FILE.fullmatch(table["file"]):
                self._add(
                    "[data]",
                    f"file {_shown(table['file'])}: expected the name of an .npz or .csv file "
                    "beside the description",
                )
            kept = table.get("test_samples", 0)
            if not _is_whole(kept, 0):
                self._add(
                    "[data]", f"test_samples is {_kind(kept)}, expected a whole number from 0"
                )
                kept = 0
            self.net.data = Data(file=table["file"], test_samples=kept)
            return
        self._samples(table)

    def _samples(self, table: dict[str, Any]) -> None:
        """Read the samples that stand in the file itself."""
        variables = (*self.net.inputs, *self.net.targets)
        self._known(table, (*(v.name for v in variables), *self.broken), "[data]")
        whole = {} if self.problems else self.net.index_inputs
        samples = {}
        for variable in variables:
            if variable.name not in table:
                self._add("[data]", f"no value for {variable.name!r}")
                continue
            array = self._array(variable, table[variable.name])
            if array is not None:
                samples[variable.name] = array.astype(np.int64) if variable.name in whole else array
        if len({len(array) for array in samples.values()}) > 1:
            counts = ", ".join(f"{name} {len(array)}" for name, array in samples.items())
            self._add("[data]", f"the variables differ in their number of samples: {counts}")
        self.net.data = Data(samples=samples)

    def _claims(self) -> None:
        """Read the claims; what they are about is only checked where the network is sound."""
        found = self.table.get("claims", [])
        if not isinstance(found, list) or not all(isinstance(claim, dict) for claim in found):
            self._add("", f"'claims' is {_kind(found)}, expected tables: [[claims]]")
            return
        sound = not self.problems
        for number, table in enumerate(found, start=1):
            place = f"claim {number}"
            if isinstance(table.get("quantity"), str):
                place += f", {_shown(table['quantity'])}"
            self._known(table, ("quantity", "printed", "where", "after"), place)
            claim = self._claim(table, place)
            if claim is not None and sound:
                try:
                    elements(claim, self.net)
                except DescriptionError as error:
                    self._add(place, str(error))
            if claim is not None:
                self.net.claims += (claim,)

    def _claim(self, table: dict[str, Any], place: str) -> Claim | None:
        """Return one claim; None where a part of it is not what it should be."""
        printed = table.get("printed", "")
        after = table.get("after", 0)
        checks = {
            "quantity": (isinstance(table.get("quantity"), str), 'a string such as "dE/dw5"'),
            "printed": (_texts(printed), 'a string, for its digits count: "0.0820"'),
            "where": (isinstance(table.get("where", ""), str), "a string"),
            "after": (_is_whole(after, 0), "a whole number of updates from 0"),
        }
        for key, (valid, expected) in checks.items():
            if not valid:
                got = "missing" if key not in table else _kind(table[key])
                self._add(place, f"{key} is {got}, expected {expected}")
        if not all(valid for valid, _ in checks.values()):
            return None
        return Claim(table["quantity"], _frozen(printed), table.get("where", ""), after)

    def _array(self, variable: Variable, value: Any) -> NDArray[Any] | None:
        """Return the samples of a variable, their number first; None where they do not fit."""
        place, shape = f"[data], {variable.name}", variable.shape
        if not _numeric(value):
            self._add(place, f"got {_kind(value)}, expected a finite number or lists of numbers")
            return None
        with suppress(ValueError):
            array = np.asarray(value, dtype=np.float64)
            array = array[np.newaxis] if array.ndim == len(shape) else array
            if array.shape[1:] == shape and len(array):
                return array
        listed = ", ".join(map(str, shape))
        expected = f"a sample of shape ({listed})" if shape else "a number"
        self._add(place, f"the value does not fit: expected {expected}, or a list of such samples")
        return None


def _numeric(value: Any) -> bool:
    """Tell whether `value` is a finite number or nested lists of them."""
    if isinstance(value, list):
        return bool(value) and all(map(_numeric, value))
    return _is_finite(value)


def _texts(value: Any) -> bool:
    """Tell whether `value` is a string or nested lists of strings."""
    return all(map(_texts, value)) if isinstance(value, list) else isinstance(value, str)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _WHOLE


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", value))


def _kind(value: Any) -> str:
    """Say what a TOML value is, in a few words."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    return _short(value)


def _short(value: Any) -> str:
    if isinstance(value, int) and abs(value) > _WHOLE:
        return "an enormous number"
    text = repr(value) if isinstance(value, str | int | float) else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _shown(name: str) -> str:
    """Return a name of the file in double quotes, harmless to a terminal."""
    text = repr(name[:60])[1:-1] + ("..." if len(name) > 60 else "")
    return f'"{text}"'


def _line(message: str) -> str:
    """Return a message as one line of bearable length, harmless to a terminal."""
    text = "".join(c if c.isprintable() else " " for c in message)
    return text if len(text) <= 500 else f"{text[:500]}..."

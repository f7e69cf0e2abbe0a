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
language of `symprop.description.expressions`, ``[training]`` (optimizer, batch_size, epochs, seed,
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

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from sympy import Idx

from symprop.description.expressions import parse_expression
from symprop.description.notation import expression_text
from symprop.description.problems import Problems, is_numeric, kind, shown
from symprop.description.settings import read_claims, read_data, read_training
from symprop.description.syntax import ExpressionError, words
from symprop.description.toml import dump, load_table, write
from symprop.errors import DescriptionError, NetworkError, nearest
from symprop.indices import index_name
from symprop.network import Network, Variable

__all__ = ["dump", "expression_text", "parse", "read", "write"]

_LARGEST = 4 * 2**20
_LONGEST_INDEX = 10**7

_TABLES = ("indices", "parameters", "equations", "training", "data")
_LISTS = ("inputs", "targets", "outputs")
_KEYS = ("name", *_LISTS, "loss", *_TABLES, "claims")
_DECLARATION = re.compile(r"\s*([^\s\[\]]+)\s*(?:\[([^\[\]]*)\])?\s*")


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
    reading = _Reading(where, load_table(text, where))
    network = reading.network()
    if reading.problems:
        raise DescriptionError(reading.problems.lines())
    return network


class _Reading:
    """One description on its way to a network, with the problems found so far.

    `broken` are the names whose declaration was refused; `mentioned` are all words of
    refused equations, which may well be the only use of a parameter or an index.
    """

    def __init__(self, where: str, table: dict[str, Any]) -> None:
        self.table = table
        self.problems = Problems(where)
        self.broken: set[str] = set()
        self.mentioned: set[str] = set()
        self.net = Network()

    def network(self) -> Network:
        """Read every part in the order in which the parts build on one another."""
        self.problems.unknown(self.table, _KEYS, "")
        self._name()
        for name, length in self._section("indices").items():
            self._index(name, length)
        self._variables("inputs", "input", self.net.input)
        self._variables("targets", "target", self.net.target)
        for text, value in self._section("parameters").items():
            self._parameter(text, value)
        if self._section("equations"):
            self._equations()
            self._outputs()
        else:
            self.problems.add("", "no equations; write them under [equations]")
        self._whole()
        self.net.training = read_training(self._section("training"), self.problems)
        self.net.data = read_data(self._section("data"), self.net, self.broken, self.problems)
        self.net.claims = read_claims(self.table.get("claims", []), self.net, self.problems)
        return self.net

    def _section(self, key: str) -> dict[str, Any]:
        """Return a table of the file; {} where it is missing or none."""
        value = self.table.get(key, {})
        if isinstance(value, dict):
            return value
        self.problems.add("", f"{key!r} is {kind(value)}, expected a table: [{key}]")
        return {}

    def _list(self, key: str) -> list[str]:
        """Return a list of strings of the file; [] where it is missing or none."""
        value = self.table.get(key, [])
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
        self.problems.add(key, f'got {kind(value)}, expected a list of names: {key} = ["x[i]"]')
        self.broken |= words(str(value)) - self.net.names
        return []

    def _name(self) -> None:
        name = self.table.get("name")
        if not isinstance(name, str):
            got = "no name" if name is None else f"the name is {kind(name)}"
            self.problems.add(
                "", f'{got}; expected letters, digits and underscores: name = "digits"'
            )
            return
        with suppress(NetworkError):
            self.net = Network(name)
        self.problems.attempt("name", Network, name)

    def _index(self, name: str, length: Any) -> None:
        place = f"index {shown(name)}"
        if isinstance(length, int) and length > _LONGEST_INDEX:
            self.problems.add(
                place, f"got the size {kind(length)}, expected at most {_LONGEST_INDEX:,}"
            )
            self.broken.add(name)
        elif not self.problems.attempt(place, self.net.index, name, length):
            self._break(name)

    def _break(self, name: str) -> None:
        if name not in self.net.names:
            self.broken.add(name)

    def _declared(self, text: str, place: str) -> tuple[str, tuple[Idx, ...]] | None:
        """Read ``W[i, j]`` as a name and its indices."""
        found = _DECLARATION.fullmatch(text)
        if not found:
            self.problems.add(place, "expected a name, or a name with indices: W[i,j]")
            self.broken |= set(re.findall(r"^[A-Za-z]\w*", text, re.ASCII))
            return None
        name, inside = found.groups()
        labels = [] if inside is None else [label.strip() for label in inside.split(",")]
        known = {index_name(index): index for index in self.net.indices}
        for label in labels:
            if label not in known and label not in self.broken:
                self.problems.add(
                    place,
                    f"{shown(label)} is no index{nearest(label[:99], known)}; add it to [indices]",
                )
                self.broken.add(label)
        if any(label not in known for label in labels):
            self._break(name)
            return None
        return name, tuple(known[label] for label in labels)

    def _variables(self, key: str, kind: str, declare: Callable[..., object]) -> None:
        for text in self._list(key):
            place = f"{kind} {shown(text)}"
            declared = self._declared(text, place)
            if declared and not self.problems.attempt(place, declare, declared[0], *declared[1]):
                self._break(declared[0])
        if key == "inputs" and not self.table.get(key):
            self.problems.add("", 'no inputs; name at least one: inputs = ["x"]')

    def _parameter(self, text: str, value: Any) -> None:
        place = f"parameter {shown(text)}"
        declared = self._declared(text, place)
        options = {"init": value, "trainable": True}
        if isinstance(value, dict):
            self.problems.unknown(value, ("value", "trainable"), place)
            misspelt = set(value) - {"trainable"}
            options = {
                "init": value.get("value", 0.0 if misspelt else None),
                "trainable": value.get("trainable", True),
            }
        if not isinstance(options["trainable"], bool):
            self.problems.add(
                place, f"trainable is {kind(options['trainable'])}, expected true or false"
            )
            options["trainable"] = True
        if not isinstance(options["init"], str) and not is_numeric(options["init"]):
            self.problems.add(
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
        if not self.problems.attempt(
            place, self.net.parameter, name, *indices, init=init, trainable=trainable
        ):
            with suppress(NetworkError):
                self.net.parameter(name, *indices)
            self._break(name)

    def _equations(self) -> None:
        equations = self._section("equations")
        loss, printed = self._loss_key(equations)
        names = {text: (_DECLARATION.fullmatch(text) or ["", ""])[1] for text in equations}
        later = [name for text, name in names.items() if text != loss]
        for text, source in equations.items():
            if text != loss:
                later.remove(names[text])
                self._equation(text, source, later)
        if loss:
            place = f"equation {shown(loss)}"
            rhs = self._expression(place, equations[loss])
            if rhs is None or not self.problems.attempt(place, self.net.loss, rhs, printed):
                self._mention(equations[loss])
                self.net.loss(0)

    def _loss_key(self, equations: dict[str, Any]) -> tuple[str, str]:
        """Return the key of the loss's equation ('' where it is missing) and its printed name."""
        named = self.table.get("loss", "")
        if not isinstance(named, str):
            self.problems.add(
                "loss", f'got {kind(named)}, expected the name of an equation: loss = "E"'
            )
            named = ""
        if named in equations:
            return named, named
        if "loss" in equations:
            return "loss", named
        wanted = f"{named} =" if named else "loss ="
        self.problems.add(
            "",
            f'no loss; add its equation under [equations]: {wanted} "..."'
            f"{nearest(named or 'loss', equations)}",
        )
        self.net.loss(0)
        return "", ""

    def _equation(self, text: str, source: Any, later: list[str]) -> None:
        place = f"equation {shown(text)}"
        declared = self._declared(text, place)
        rhs = self._expression(place, source, later)
        if declared is None:
            self._mention(source)
            return
        name, indices = declared
        if rhs is None or not self.problems.attempt(place, self.net.define, name, rhs, *indices):
            self._mention(source)
            with suppress(NetworkError):
                self.net.define(name, 0, *indices)
            self._break(name)

    def _expression(self, place: str, source: Any, later: Iterable[str] = ()) -> Any:
        """Return the right side of an equation; None where it is refused."""
        if not isinstance(source, str):
            self.problems.add(place, f"got {kind(source)}, expected an expression in quotes")
            return None
        names: dict[str, Variable | Idx | None] = dict.fromkeys(self.broken)
        names |= {variable.name: variable for variable in self.net.variables}
        names |= {index_name(index): index for index in self.net.indices}
        try:
            return parse_expression(source, names, set(later))
        except ExpressionError as error:
            for column, message in error.problems:
                self.problems.add(f"{place}, column {column}" if column else place, message)
            return None

    def _mention(self, source: Any) -> None:
        """Take note of the names that a refused equation uses, or meant to use."""
        found = words(str(source))
        self.mentioned |= found
        for word in found - self.net.names:
            self.mentioned |= set(get_close_matches(word, self.net.names, n=2, cutoff=0.5))

    def _outputs(self) -> None:
        for name in self._list("outputs"):
            if name not in self.broken:
                self.problems.attempt(f"output {shown(name)}", self.net.output, name)

    def _whole(self) -> None:
        """Report what can only be said of the network as a whole."""
        if not self._section("equations"):
            return
        for message in self.net.problems():
            if not any(f"{name!r}" in message or f"{name}[" in message for name in self.mentioned):
                self.problems.add("", message)
        used = {index for variable in self.net.variables for index in variable.indices}
        used |= set().union(*(equation.rhs.atoms(Idx) for equation in self.net.equations))
        for name in map(index_name, set(self.net.indices) - used):
            if name not in self.mentioned and not self._declared_with(name):
                self.problems.add(f"index {shown(name)}", "used nowhere; use it or remove it")

    def _declared_with(self, name: str) -> bool:
        """Tell whether a refused declaration uses the index."""
        texts = (*self._list("inputs"), *self._list("targets"))
        texts += (*self._section("parameters"), *self._section("equations"))
        return any(name in words(text.partition("[")[2]) for text in texts)

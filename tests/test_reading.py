"""Networks that are read when they are needed, and texts that are made once."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import sympy
import zoo
from sympy import Float, Symbol

from symprop import cache, reading
from symprop.compiler import compile, source_text
from symprop.derivation import Derivation, differentiate
from symprop.description import parse
from symprop.errors import DescriptionError, OptionError
from symprop.identity import identity
from symprop.network import Equation, Network
from symprop.optimizers import OPTIMIZERS
from symprop.options import Options
from symprop.reading import Unread, read

TEXT = """
name = "line"
inputs  = ["x"]
targets = ["t"]
outputs = ["y"]

[parameters]
w = 0.5
b = { value = 0, trainable = false }

[equations]
y = "0.1*w*x + b"
loss = "(y - t)**2/2"

[training]
optimizer = "sgd"
learning_rate = 0.5
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch) -> Path:
    """A cache of each test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SYMPROP_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A description that was read before."""
    path = tmp_path / "line.toml"
    path.write_text(TEXT)
    read(path)
    return path


# ------------------------------------------------------------------------------- unread networks


def test_a_network_is_read_when_something_is_asked(path: Path) -> None:
    network = read(path)
    assert type(network) is Unread
    assert network.name == "line"
    assert type(network) is Network
    assert network.fingerprint == parse(TEXT).fingerprint
    assert network.training == parse(TEXT).training
    assert set(vars(network)) == set(vars(parse(TEXT)))


@pytest.mark.parametrize(
    "ask",
    [
        lambda network: isinstance(network, Network) and network.name,
        lambda network: network.__class__ is Network and network.name,
        lambda network: "equations" in dir(network),
        lambda network: "Network" in repr(network),
        lambda network: pickle.loads(pickle.dumps(network)).name == "line",
        lambda network: copy.deepcopy(network).name == "line",
        lambda network: type(copy.copy(network)) is Network,
        lambda network: network.define("u", Symbol("x", real=True) ** 2) is not None,
    ],
)
def test_it_is_a_network_to_all_who_ask(ask, path: Path) -> None:
    network = read(path)
    assert ask(network)
    assert type(network) is Network


def test_changes_are_made_to_the_network_itself(path: Path) -> None:
    network = read(path)
    network.claims = ()
    assert type(network) is Network
    network = read(path)
    changed = replace(parse(TEXT).training, optimizer="adam")
    network.training = changed
    assert network.training is changed
    assert "adam" in compile(network).source
    network = read(path)
    del network.data
    assert not hasattr(network, "data")
    with pytest.raises(AttributeError, match="nonsense"):
        _ = read(path).nonsense


def test_threads_read_it_once(path: Path, monkeypatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(
        reading, "_parsed", lambda text, where: made.append(where) or parse(text, where)
    )
    network = read(path)
    threads = [threading.Thread(target=lambda: network.fingerprint) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["line.toml"]


def test_what_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(TEXT.replace("0.1*w", "0.1*v"))
    for _ in range(2):
        with pytest.raises(DescriptionError, match=r"^wrong\.toml.*unknown name 'v'"):
            read(path)
    for missing in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(DescriptionError, match=r"file not found|not a file"):
            read(missing)
    path.write_bytes(b"\xff")
    with pytest.raises(DescriptionError, match="not UTF-8"):
        read(path)


def test_a_changed_file_is_another_network(path: Path) -> None:
    first = compile(read(path))
    path.write_text(TEXT.replace("0.1*w", "0.2*w"))
    second = compile(read(path))
    assert "0.1" in first.source
    assert "0.2" in second.source
    path.write_text(TEXT.replace("learning_rate = 0.5", "learning_rate = 0.25"))
    assert "learning_rate: float = 0.25" in compile(read(path)).source


# ------------------------------------------------------------------------------- kept texts


def test_kernels_from_the_cache_are_those_that_were_made(path: Path) -> None:
    made = compile(parse(TEXT), dtype="float32")
    first = compile(read(path), dtype="float32")
    network = read(path)
    kept = compile(network, dtype="float32")
    assert type(network) is Unread, "nothing was asked of it"
    assert made.source == first.source == kept.source
    assert made.module is kept.module
    assert kept.derivation.forward == made.derivation.forward
    assert kept.derivation is kept.derivation
    assert kept.options == made.options
    assert compile(read(path)).DTYPE == "float64"
    assert "(adam)" in compile(read(path), optimizer="adam").source
    assert "(sgd)" in compile(read(path)).source


def test_what_was_compiled_is_not_what_the_network_becomes(path: Path) -> None:
    compile(read(path))
    network = read(path)
    kernels = compile(network)
    network.define("u", Symbol("x", real=True) ** 2)
    assert [e.name for e in kernels.derivation.network.equations] == ["y", "L"]


def test_options_are_checked_before_and_after(path: Path) -> None:
    for _ in range(2):
        with pytest.raises(OptionError, match="dtype"):
            compile(read(path), dtype="float16")
        with pytest.raises(OptionError, match="unknown optimizer"):
            compile(read(path), optimizer="adamm")
        assert compile(read(path), optimizer=OPTIMIZERS["adam"]).DTYPE == "float64"


def test_a_text_is_made_once(monkeypatch) -> None:
    from symprop import compiler

    made: list[Derivation] = []
    original = compiler._made
    monkeypatch.setattr(compiler, "_made", lambda d, o: made.append(d) or original(d, o))
    texts = {source_text(differentiate(parse(TEXT)), Options()) for _ in range(2)}
    assert (len(made), len(texts)) == (1, 1)
    monkeypatch.setenv("SYMPROP_CACHE_DIR", "off")
    assert source_text(differentiate(parse(TEXT)), Options()) in texts
    assert len(made) == 2


def test_an_older_state_of_the_code_is_not_used(path: Path, monkeypatch) -> None:
    compile(read(path))
    reading.tools.cache_clear()
    monkeypatch.setattr(cache, "package", lambda: "0.1.0 other")
    try:
        network = read(path)
        compile(network)
        assert type(network) is Network
    finally:
        reading.tools.cache_clear()


def test_files_of_the_package_are_part_of_the_key(tmp_path: Path) -> None:
    (tmp_path / "lower").mkdir()
    (tmp_path / "lower" / "a.py").write_text("1")
    before = cache._files(str(tmp_path))
    assert len(before) == 1
    (tmp_path / "lower" / "a.py").write_text("12")
    assert cache._files(str(tmp_path)) != before
    (tmp_path / "notes.txt").write_text("")
    assert len(cache._files(str(tmp_path))) == 1


SCRIPT = """
import sys
import numpy
import symprop
kernels = symprop.compile(symprop.load_example("kumar"), dtype="float32", optimizer="adam")
data = [numpy.array(column, "float32") for column in DATA]
parameters, _ = kernels.train(kernels.initialize(), *data, epochs=1)
print([float(value) for value in parameters])
print(sorted({"sympy", "jinja2", "scipy.linalg", "symprop.network"} & set(sys.modules)))
"""


def test_kernels_from_the_cache_need_no_algebra() -> None:
    """The second run imports none of what is only needed to make kernels."""
    network = parse((Path(reading.__file__).parent / "networks" / "kumar.toml").read_text())
    columns = [[0.25, 0.5]] * (len(network.inputs) + len(network.targets))
    script = SCRIPT.replace("DATA", repr(columns))
    runs = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            capture_output=True, text=True, check=True, env=dict(os.environ), timeout=120,
        ).stdout.splitlines()
        for _ in range(2)
    ]  # fmt: skip
    assert runs[0][0] == runs[1][0]
    assert "sympy" in runs[0][1]
    assert runs[1][1] == "[]"


# ------------------------------------------------------------------------------- identity


@pytest.mark.parametrize("name", zoo.ZOO)
def test_identity_is_that_of_the_description(name: str) -> None:
    one, other = (identity(differentiate(zoo.ZOO[name]()), Options()) for _ in range(2))
    assert one is not None
    assert one == other


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("w = 0.5", "w = 0.25"),
        ("trainable = false", "trainable = true"),
        ("learning_rate = 0.5", "learning_rate = 0.25"),
        ("learning_rate = 0.5", "epochs = 7"),
        ("0.1*w*x", "0.1000000000000000055511151231257827*w*x + 0*w"),
        ('"line"', '"other"'),
    ],
)
def test_identity_tells_apart_what_a_text_is_made_of(before: str, after: str) -> None:
    one, other = (differentiate(parse(text)) for text in (TEXT, TEXT.replace(before, after)))
    options = Options(optimizer=OPTIMIZERS["sgd"])
    same = source_text(one, options) == source_text(other, options)
    assert same or identity(one, options) != identity(other, options)
    if "0*w" not in after:
        assert not same


def test_identity_sees_digits_that_are_not_printed() -> None:
    derivation = differentiate(parse(TEXT))
    (y, loss) = derivation.forward
    near = Equation(y.lhs, y.rhs.subs(Float(0.1), Float(0.1 + 2e-17 * 4)))
    assert str(near.rhs) == str(y.rhs)
    assert near.rhs != y.rhs
    changed = replace(derivation, forward=(near, loss))
    assert identity(changed, Options()) != identity(derivation, Options())


def test_identity_sees_the_optimizer_and_the_adjoints() -> None:
    derivation = differentiate(parse(TEXT))
    whole = identity(derivation, Options())
    rule = OPTIMIZERS["adam"]
    slower = replace(rule, hyperparameters={**rule.hyperparameters, "beta1": 0.8})
    assert identity(derivation, Options(optimizer=slower)) != whole
    wrong = replace(derivation.backward[0], rhs=-derivation.backward[0].rhs)
    changed = replace(derivation, backward=(wrong, *derivation.backward[1:]))
    assert identity(changed, Options()) != whole


def test_dummies_are_told_by_their_order() -> None:
    def derivation(*dummies: sympy.Dummy) -> Derivation:
        made = differentiate(parse(TEXT))
        rhs = sympy.Add(*dummies, evaluate=False)
        return replace(made, backward=(Equation(Symbol("u"), rhs),))

    a, b, c = (sympy.Dummy("s", integer=True) for _ in range(3))
    assert identity(derivation(a, b), Options()) == identity(derivation(b, c), Options())
    assert identity(derivation(a, b), Options()) != identity(derivation(a, a), Options())


def test_functions_of_others_have_no_identity() -> None:
    derivation = differentiate(parse(TEXT))

    class strange(sympy.Function):  # noqa: N801
        pass

    for rhs in (strange(Symbol("x")), sympy.Function("f")(Symbol("x"))):
        changed = replace(derivation, backward=(Equation(Symbol("u"), rhs),))
        assert identity(changed, Options()) is None

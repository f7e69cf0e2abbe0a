"""Descriptions: the file is the network, all of its mistakes are told at once, and back."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Abs, Float, Idx, Integer, Max, Piecewise, Rational, Sum, Symbol, exp, log, sqrt
from zoo import ZOO

from symprop import Network, description
from symprop.description import dump, expression_text, parse, read, write
from symprop.description.expressions import parse_expression
from symprop.errors import DescriptionError, NetworkError, OutputError
from symprop.functions import (
    elu,
    leaky_relu,
    log_softmax,
    logsumexp,
    reduce_max,
    sigmoid,
    softmax,
)
from symprop.indices import piecewise, summation
from symprop.network import Data, Training, Variable

DIGITS = """
name = "digits"
inputs  = ["x[i]"]
targets = ["t[k]"]
outputs = ["p"]

[indices]
i = 64
j = 32
k = 10

[parameters]
"W1[i,j]" = "glorot_uniform"
"b1[j]" = 0
"W2[j,k]" = "glorot_uniform"
"b2[k]" = 0

[equations]
"h[j]" = "tanh(sum(W1[i,j]*x[i], i) + b1[j])"
"z[k]" = "sum(W2[j,k]*h[j], j) + b2[k]"
"p[k]" = "softmax(z[k], k)"
loss = "logsumexp(z[k], k) - sum(t[k]*z[k], k)"

[training]
optimizer = "adam"
learning_rate = 1e-3
batch_size = 32
epochs = 30
"""

LINE = """
name = "line"
inputs = ["x", "u[i]"]
outputs = ["y"]
[indices]
i = 2
[parameters]
w = 1
[equations]
y = "w*x + sum(u[i], i)"
loss = "y**2"
"""


def problems(text: str, where: str = "digits.toml") -> list[str]:
    with pytest.raises(DescriptionError) as caught:
        parse(text, where)
    assert caught.value.exit_status == 2
    assert all(line.startswith(where) for line in caught.value.problems)
    return [line.removeprefix(where).lstrip(",: ") for line in caught.value.problems]


def changed(old: str, new: str, text: str = DIGITS) -> list[str]:
    """Return the problems of a description in which one thing was changed."""
    assert text.count(old) == 1, old
    return problems(text.replace(old, new))


def same(a: Network, b: Network) -> None:
    """Assert that two networks are equal in everything that a description holds."""
    assert a.fingerprint == b.fingerprint
    assert (a.name, a.outputs, a.training) == (b.name, b.outputs, b.training)
    assert a.parameters == b.parameters
    assert a.equations == b.equations
    assert (a.data.file, a.data.test_samples) == (b.data.file, b.data.test_samples)
    assert list(a.data.samples) == list(b.data.samples)
    for name, array in a.data.samples.items():
        np.testing.assert_array_equal(array, b.data.samples[name])


# From the file to the network


def test_the_file_and_the_builder_give_the_same_network() -> None:
    net = Network("digits")
    i, j, k = net.index("i", 64), net.index("j", 32), net.index("k", 10)
    x, t = net.input("x", i), net.target("t", k)
    W1 = net.parameter("W1", i, j, init="glorot_uniform")
    b1 = net.parameter("b1", j, init=0)
    W2 = net.parameter("W2", j, k, init="glorot_uniform")
    b2 = net.parameter("b2", k, init=0)
    h = net.define("h", sympy.tanh(Sum(W1[i, j] * x[i], i) + b1[j]), j)
    z = net.define("z", Sum(W2[j, k] * h[j], j) + b2[k], k)
    net.output("p", softmax(z[k], k), k)
    net.loss(logsumexp(z[k], k) - Sum(t[k] * z[k], k))
    net.training = Training(epochs=30, hyperparameters={"learning_rate": 1e-3})
    same(parse(DIGITS), net)
    assert dump(net).strip() == DIGITS.replace("1e-3", "0.001").strip()


def test_parameter_values() -> None:
    net = parse(
        """
        name = "values"
        inputs = ["x[i]"]
        [indices]
        i = 2
        [parameters]
        "a[i]" = [1, 2.5]
        b = { value = 0.35, trainable = false }
        "c[ i ]" = { value = "he_normal" }
        d = -1e-3
        [equations]
        loss = "sum((a[i]*x[i] + b)*c[i], i) + d"
        """
    )
    a, b, c, d = net.parameters
    assert (a.init, a.trainable) == ((1.0, 2.5), True)
    assert (b.init, b.trainable) == (0.35, False)
    assert (c.init, c.shape, c.trainable) == ("he_normal", (2,), True)
    assert d.init == -1e-3


def test_the_loss_may_have_another_name() -> None:
    named = 'name = "line"\nloss = "E"'
    as_equation = (
        LINE.replace('name = "line"', named)
        .replace("loss =", "E =", 2)
        .replace('E = "E"', 'loss = "E"')
    )
    assert parse(as_equation).equations[-1].name == "E"
    as_loss = LINE.replace('name = "line"', named)
    assert parse(as_loss).fingerprint == parse(as_equation).fingerprint
    assert parse(LINE).equations[-1].name == "L"
    same(parse(dump(parse(as_loss))), parse(as_loss))


def test_training_defaults_and_every_key() -> None:
    assert parse(LINE).training == Training()
    table = """
    [training]
    optimizer = "momentum"
    batch_size = 7
    epochs = 3
    seed = 5
    shuffle = false
    learning_rate = 1
    momentum = 0.5
    """
    training = parse(LINE + table).training
    assert training == Training("momentum", 7, 3, 5, False, {"learning_rate": 1.0, "momentum": 0.5})
    assert isinstance(training.hyperparameters["learning_rate"], float)


@pytest.mark.parametrize(
    ("table", "x", "u"),
    [
        ("x = 0.5\nu = [1, 2]", [0.5], [[1, 2]]),
        ("x = [0.5, 1]\nu = [[1, 2], [3, 4]]", [0.5, 1], [[1, 2], [3, 4]]),
    ],
)
def test_data_is_one_sample_or_several(table: str, x: list[float], u: list[list[float]]) -> None:
    net = parse(f"{LINE}\n[data]\n{table}")
    np.testing.assert_array_equal(net.data.samples["x"], x)
    np.testing.assert_array_equal(net.data.samples["u"], u)
    assert net.data.samples["x"].dtype == np.float64
    same(parse(dump(net)), net)


def test_data_that_serves_as_subscript_holds_integers() -> None:
    net = parse(
        """
        name = "look"
        inputs = ["word[s]"]
        [indices]
        s = 3
        v = 5
        d = 2
        [parameters]
        "E[v,d]" = "he_normal"
        [equations]
        "y[s]" = "sum(E[word[s],d]**2, d)"
        loss = "sum(y[s], s)"
        [data]
        word = [[0, 4, 1]]
        """
    )
    assert net.data.samples["word"].dtype == np.int64
    assert net.index_inputs == {"word": 5}
    same(parse(dump(net)), net)


def test_data_in_a_file() -> None:
    net = parse(DIGITS + '[data]\nfile = "digits.npz"\ntest_samples = 360\n')
    assert (net.data.file, net.data.test_samples) == ("digits.npz", 360)
    same(parse(dump(net)), net)


# From text to expressions

i, j, k, r, p = (Idx(name, n) for name, n in zip("ijkrp", (4, 3, 5, 6, 3), strict=True))
NAMES = {
    **{str(index.label): index for index in (i, j, k, r, p)},
    **{name: Variable(name) for name in "abc"},
    "x": Variable("x", (i,)),
    "z": Variable("z", (k,)),
    "W": Variable("W", (i, j)),
    "img": Variable("img", (r,)),
}
A, B, C = (Symbol(name, real=True) for name in "abc")
X, Z, W, IMG = (NAMES[name].symbol for name in ("x", "z", "W", "img"))

EXPRESSIONS = [
    ("1/2", Rational(1, 2)),
    ("0.1", Float(0.1)),
    ("1e-5*a", Float(1e-5) * A),
    ("-a**2", -(A**2)),
    ("2**-a", 2**-A),
    ("a - b - c", A - B - C),
    ("a/b/c", A / B / C),
    ("a - (b - c)", A - B + C),
    ("a**b**2", A ** (B**2)),
    ("pi*a", sympy.pi * A),
    ("sqrt(a)*abs(b)", sqrt(A) * Abs(B)),
    ("max(a, b, 0)", Max(A, B, 0)),
    ("leaky_relu(a)", leaky_relu(A)),
    ("leaky_relu(a, b)", leaky_relu(A, B)),
    ("elu(a, 0.3)", elu(A, Float(0.3))),
    ("log1p(a) + expm1(b)", sympy.codegen.cfunctions.log1p(A) + sympy.codegen.cfunctions.expm1(B)),
    ("sum(W[i,j]*x[i], i)", summation(W[i, j] * X[i], [i])),
    ("sum(W[i,j], i, j)", summation(W[i, j], [i, j])),
    ("mean(x[i], i)", summation(X[i], [i]) / 4),
    ("reduce_max(W[i,j], i, j)", reduce_max(W[i, j], i, j)),
    ("logsumexp(z[k], k)", logsumexp(Z[k], k)),
    ("log_softmax(z[k], k)", log_softmax(Z[k], k)),
    ("softmax(z[k], k)[p]", softmax(Z[k], k, p)),
    ("x[2*p - 1]", X[2 * p - 1]),
    ("img[r//2 + r % 2]", IMG[sympy.floor(r / 2) + sympy.Mod(r, 2)]),
    ("z[3]", Z[3]),
    ("sin(i/4)*i", sympy.sin(i / Integer(4)) * i),
    ("a if a > 0 else b", piecewise((A, A > 0), (B, sympy.true))),
    (
        "a if a > 0 else b if b != 1 else c",
        piecewise((A, A > 0), (B, sympy.Ne(B, 1)), (C, sympy.true)),
    ),
    (
        "a if a > 0 else (b if b > 0 else c)",
        piecewise((A, A > 0), (piecewise((B, B > 0), (C, sympy.true)), sympy.true)),
    ),
    (
        "img[r + p - 1] if 0 <= r + p - 1 < 6 else 0",
        piecewise(
            (IMG[r + p - 1], sympy.And(sympy.Le(0, r + p - 1), r + p - 1 < 6)), (0, sympy.true)
        ),
    ),
    (
        "1 if a > 0 and not (b > 0 or c == 0) else 0",
        piecewise((1, (A > 0) & ~((B > 0) | sympy.Eq(C, 0))), (0, sympy.true)),
    ),
]


@pytest.mark.parametrize(("text", "expected"), EXPRESSIONS, ids=[t for t, _ in EXPRESSIONS])
def test_expressions_and_their_text(text: str, expected: sympy.Expr) -> None:
    assert parse_expression(text, NAMES) == expected
    assert parse_expression(expression_text(expected), NAMES) == expected


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (sympy.tanh(Sum(W[i, j] * X[i], i) + A), "tanh(sum(W[i,j]*x[i], i) + a)"),
        (A * B + C, "a*b + c"),
        ((B - A) ** 2 / 2, "(b - a)**2/2"),
        (logsumexp(Z[k], k) - Sum(Z[k], k), "logsumexp(z[k], k) - sum(z[k], k)"),
        (-A * log(B) - (1 - A) * log(1 - B), "-a*log(b) - (1 - a)*log(1 - b)"),
        (exp(1) * sigmoid(A), "exp(1)*sigmoid(a)"),
        (X[sympy.floor((i + 1) / 2)], "x[(i + 1)//2]"),
        (Float(0.1) + A, "a + 0.1"),
    ],
)
def test_text_reads_well(expression: sympy.Expr, text: str) -> None:
    assert expression_text(expression) == text


def test_what_has_no_text_is_refused() -> None:
    with pytest.raises(DescriptionError, match="has no besselj"):
        expression_text(sympy.besselj(0, A))
    with pytest.raises(DescriptionError, match=r"end it with \(value, True\)"):
        expression_text(Piecewise((A, A > 0)))


# All problems, each with its place


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("tanh(sum(W1", "tanh(sum(W3", 'equation "h[j]", column 10: unknown name \'W3\'; '
         "did you mean 'W1' or 'W2'?"),
        ("tanh(sum", "tahn(sum", "equation \"h[j]\", column 1: unknown function 'tahn'; "
         "did you mean 'tan' or 'tanh'?"),
        ("[training]", "[zzz]", 'unknown key "zzz"; known are claims, data, equations, indices, '),
        ("[training]", "[trainig]", 'unknown key "trainig"; did you mean \'training\'?'),
        ("W2[j,k]*h[j]", "W2[k,j]*h[j]", 'equation "z[k]": W2[k, j] reads axis 1 at 0 to 31'),
        ("sum(W1[i,j]*x[i], i)", "W1[i,j]*x[i]", "equation \"h[j]\": index 'i' is free"),
        ("W1[i,j]*x[i]", "W1[i]*x[i]", "equation \"h[j]\", column 10: 'W1' has 1 subscripts here, "
         "expected 2 as in W1[i,j]"),
        ("*x[i]", "*x", "equation \"h[j]\", column 18: 'x' needs its subscripts: x[i]"),
        ("j = 32", "j = 32\nq = 3", 'index "q": used nowhere; use it or remove it'),
        ("j = 32", "j = 0", 'index "j": got the size 0, expected an integer >= 1'),
        ("j = 32", "j = 1000000000000", 'index "j": got the size 1000000000000, expected at most'),
        ('"b1[j]" = 0', '"b1[j]" = 0\nextra = 1', "parameter 'extra' is used in no equation"),
        ('"b1[j]" = 0', '"b1[j]" = [1, 2]', 'parameter "b1[j]": got an initial value of shape'),
        ('"b1[j]" = 0', '"b1[j]" = nan', 'parameter "b1[j]": expected a number'),
        ('"b1[j]" = 0', '"b1[j]" = true', 'parameter "b1[j]": expected a number'),
        ('"b1[j]" = 0', '"b1[j]" = 1979-05-27', 'parameter "b1[j]": expected a number'),
        ('"b1[j]" = 0', '"b1[j]" = "glorot"', "parameter \"b1[j]\": unknown initialiser 'glorot'"),
        ('"b1[j]" = 0', '"b1[j]" = { vale = 0 }', 'unknown key "vale"; did you mean \'value\'?'),
        ('"b1[j]" = 0', '"b1[j]" = { value = 0, trainable = 1 }', "trainable is 1, expected true"),
        ('"b1[j]" =', '"b1[q]" =', 'parameter "b1[q]": "q" is no index; add it to [indices]'),
        ('"b1[j]" = 0', '"b1[j]" = 0\nb1 = 1', 'parameter "b1": the name is taken already'),
        ('"b1[j]" = 0', '"b1[j]" = 0\nlambda = 1', 'parameter "lambda": the name is reserved'),
        ('"b1[j]" = 0', '"b1[j]" = 0\nnp = 1', 'parameter "np": the name is reserved'),
        ('"b1[j]" = 0', '"b1[j]" = 0\n"a b" = 1', 'parameter "a b": expected a name, or a name'),
        ('"b1[j]" = 0', '"b1[j]" = 0\n"a.b" = 1', 'parameter "a.b": expected letters, digits'),
        ('"b1[j]" = 0', '"b1[j]" = 0\n_a = 1', 'parameter "_a": expected letters, digits'),
        ("loss =", "lss =", 'no loss; add its equation under [equations]: loss = "..."; '
         "did you mean 'lss'?"),
        ('outputs = ["p"]', 'outputs = ["q"]', 'output "q": no equation defines it'),
        ('inputs  = ["x[i]"]', 'inputs = "x[i]"', "inputs: got 'x[i]', expected a list of names"),
        ('name = "digits"', "", "no name; expected letters, digits and underscores"),
        ('name = "digits"', 'name = "9 digits"', "name: expected letters, digits and underscores"),
        ("batch_size = 32", "batch_size = 0", "[training]: batch_size is 0, expected a whole"),
        ("batch_size = 32", "seed = -1", "[training]: seed is -1, expected a whole"),
        ("batch_size = 32", 'rate = "x"', "[training]: rate is 'x', expected a number"),
        ("batch_size = 32", "shuffle = 1", "[training]: shuffle is 1, expected true or false"),
        ('"softmax(z[k], k)"', "3", 'equation "p[k]": got 3, expected an expression in quotes'),
        ('"softmax(z[k], k)"', '""', 'equation "p[k]": the expression is empty'),
        ('"softmax(z[k], k)"', '"h[j] +"', 'equation "p[k]", column 7: not an expression'),
        ("epochs = 30", "epochs = ", "line 28, column 10: not TOML: Invalid value"),
    ],
)  # fmt: skip
def test_one_mistake_one_message(old: str, new: str, expected: str) -> None:
    found = changed(old, new)
    assert len(found) == 1, found
    assert expected in found[0]


def test_without_inputs() -> None:
    assert changed('inputs  = ["x[i]"]', "") == [
        'no inputs; name at least one: inputs = ["x"]',
        "equation \"h[j]\", column 18: unknown name 'x'",
    ]


def test_used_before_defined() -> None:
    line = '"h[j]" = "tanh(sum(W1[i,j]*x[i], i) + b1[j])"\n'
    below = DIGITS.replace(line, "").replace("loss =", line + "loss =")
    assert problems(below) == [
        "equation \"z[k]\", column 13: name 'h' is used before it is defined; move its equation up"
    ]


def test_all_problems_at_once_and_no_follow_up_noise() -> None:
    text = (
        DIGITS.replace("W1[i,j]*x[i]", "W9[i,j]*x[i] + lamda")
        .replace('"b2[k]" = 0', '"b2[k]" = "zero"')
        .replace("j = 32", "j = 32\nunused = 3")
        .replace("[training]", "[training]\nshuffle = 3")
        .replace("epochs = 30", "epochs = 30\n[dta]\n")
    )
    found = problems(text)
    assert len(found) == 6, found
    for number, start in enumerate(
        (
            'unknown key "dta"',
            'parameter "b2[k]": unknown initialiser',
            "equation \"h[j]\", column 10: unknown name 'W9'",
            "equation \"h[j]\", column 25: unknown name 'lamda'",
            'index "unused": used nowhere',
            "[training]: shuffle is 3",
        )
    ):
        assert found[number].startswith(start), found[number]


def test_a_refused_declaration_is_told_once() -> None:
    assert len(changed("j = 32", "")) == 1
    assert len(changed('"W1[i,j]" =', '"W1[i,qq]" =')) == 1
    assert len(changed('"h[j]" = "tanh', '"h[jj]" = "tanh')) == 1
    keyword = DIGITS.replace("W1[i,j]", "lambda[i,j]")
    assert problems(keyword) == [
        'parameter "lambda[i,j]": the name is reserved (Python, or the generated module, uses '
        "it); choose another"
    ]


def test_duplicate_keys_are_told_by_line() -> None:
    assert "line" in problems(DIGITS + "epochs = 3\n")[0]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("x = 1", "[data]: no value for 'u'"),
        ("x = 1\nu = [1, 2]\nv = 2", 'unknown key "v"'),
        (
            "x = 1\nu = [1, 2, 3]",
            "[data], u: the value does not fit: expected a sample of shape (2)",
        ),
        ("x = 1\nu = [[1, 2], [3]]", "[data], u: the value does not fit"),
        ("x = [1, 2]\nu = [1, 2]", "differ in their number of samples: x 2, u 1"),
        ("x = inf\nu = [1, 2]", "[data], x: got inf, expected a finite number"),
        ('x = "1"\nu = [1, 2]', "[data], x: got '1', expected a finite number"),
        ("x = []\nu = [1, 2]", "[data], x: got a list, expected a finite number"),
        ('file = "../a.npz"', "expected the name of an .npz or .csv file beside the description"),
        ('file = "/etc/passwd"', "expected the name of an .npz or .csv file"),
        ('file = "..npz"', "expected the name of an .npz or .csv file"),
        ('file = "a\\\\b.npz"', "expected the name of an .npz or .csv file"),
        ('file = "a.npz"\ntest_samples = -1', "test_samples is -1, expected a whole number from 0"),
    ],
)
def test_bad_data(table: str, expected: str) -> None:
    (found,) = problems(f"{LINE}\n[data]\n{table}")
    assert expected in found


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "digits.toml"
    write(parse(DIGITS), path)
    same(read(path), parse(DIGITS))
    path.write_bytes(b"\xef\xbb\xbf" + DIGITS.replace("\n", "\r\n").encode())
    same(read(str(path)), parse(DIGITS))
    path.write_text(DIGITS.replace("W1[i,j]*", "W3[i,j]*"))
    with pytest.raises(DescriptionError, match=r'^digits\.toml, equation "h\[j\]", column 10: '):
        read(path)
    with pytest.raises(OutputError, match="cannot be written"):
        write(parse(DIGITS), tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "file not found"),
        ("folder", "not a file"),
        (b"name = '\xff'", "byte 8 is not UTF-8"),
        (b"#" * (4 * 2**20 + 1), "larger than 4 MB"),
        (b"\x00", "not TOML"),
        (b"", "no name"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: bytes | str | None, expected: str) -> None:
    path = tmp_path / "net.toml"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(DescriptionError, match=re.escape(expected)) as caught:
        read(path)
    assert "net.toml" in caught.value.problems[0]


def test_messages_are_harmless_to_a_terminal() -> None:
    for line in problems(DIGITS + '[equations2]\n"\\u001b[31m" = 1\n"\\u001b[2J[i]" = 1\n'):
        assert line.isprintable()
    for line in changed('"b1[j]" = 0', '"b1[j]" = 0\n"\\u001b[31m" = 1'):
        assert line.isprintable()


# And back


@pytest.mark.parametrize("name", sorted(ZOO))
def test_zoo_round_trip(name: str) -> None:
    net = ZOO[name]()
    same(parse(dump(net)), net)
    assert dump(parse(dump(net))) == dump(net)


def test_unused_indices_are_left_out() -> None:
    net = Network("net")
    net.index("unused", 3)
    net.loss(net.input("x") ** 2)
    assert "unused" not in dump(net)
    same(parse(dump(net)), net)


def test_incomplete_networks_have_no_text() -> None:
    with pytest.raises(NetworkError, match="has no loss"):
        dump(Network("net"))


def test_long_values_are_broken_into_rows() -> None:
    net = Network("net")
    a, b = net.index("a", 2), net.index("b", 20)
    values = np.linspace(-1, 1, 40).reshape(2, 20)
    net.parameter("w", a, b, init=values)
    w = net.variable("w").symbol
    net.input("x")
    net.loss(Sum(w[a, b] ** 2, a, b))
    assert '"w[a,b]" = [\n  [-1, ' in dump(net)
    same(parse(dump(net)), net)


leaves = st.sampled_from(
    [A, B, X[i], W[i, j], Integer(2), Rational(-3, 4), Float(0.1), sympy.pi, 1 / (1 + A**2), i]
)


def combined(children: st.SearchStrategy[sympy.Expr]) -> st.SearchStrategy[sympy.Expr]:
    pair = st.tuples(children, children)
    return st.one_of(
        pair.map(lambda ab: ab[0] + ab[1]),
        pair.map(lambda ab: ab[0] - ab[1]),
        pair.map(lambda ab: ab[0] * ab[1]),
        pair.map(lambda ab: ab[0] / (2 + ab[1] ** 2)),
        pair.map(lambda ab: piecewise((ab[0], ab[1] < A), (ab[1], sympy.true))),
        children.map(sympy.tanh),
        children.map(sigmoid),
        children.map(leaky_relu),
        children.map(lambda e: exp(-e)),
        children.map(lambda e: e**3),
        children.map(lambda e: logsumexp(e * Z[k], k)),
        children.map(lambda e: softmax(e * Z[k], k, p)),
        children.map(lambda e: Sum(e * W[i, j], j)),
    )


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Return a small network of two random equations."""
    rhs = draw(st.recursive(leaves, combined, max_leaves=5))
    net = Network("random")
    for index in (i, j, k, p):
        net.index(str(index.label), int(index.upper) + 1)
    net.input("x", i)
    net.input("z", k)
    net.parameter("W", i, j, init=draw(st.sampled_from(["he_normal", 0.5, [[1, 2, 3]] * 4])))
    for name in "ab":
        value = draw(st.floats(-1e300, 1e300))
        net.parameter(name, init=value, trainable=draw(st.booleans()))
    y = net.output("y", rhs, i, j, p)
    used = A * B + Sum(W[i, j], i, j)
    net.loss(Sum(y[i, j, p] ** 2, i, j, p) + used, name=draw(st.sampled_from(["", "E"])))
    rate = draw(st.floats(0, 1, exclude_min=True))
    net.training = Training(epochs=draw(st.integers(1, 9)), hyperparameters={"learning_rate": rate})
    if draw(st.booleans()):
        n = draw(st.integers(1, 3))
        numbers = np.random.default_rng(n)
        net.data = Data({"x": numbers.normal(size=(n, 4)), "z": numbers.normal(size=(n, 5))})
    return net


@settings(max_examples=25, deadline=None)
@given(networks())
def test_random_networks_round_trip(net: Network) -> None:
    same(parse(dump(net)), net)


def test_public_names() -> None:
    assert set(description.__all__) == {"dump", "expression_text", "parse", "read", "write"}

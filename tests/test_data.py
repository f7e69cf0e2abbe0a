"""Samples from files: what is read, and what each broken file is told."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from symprop import Data, Network
from symprop import data as data_module
from symprop.data import check, embedded, load, split
from symprop.errors import DataError


@pytest.fixture
def network():
    """Return a network with a scalar, a vector and a matrix input, and a scalar target."""
    net = Network("mixed")
    i, j = net.index("i", 2), net.index("j", 3)
    a, x, K, t = net.input("a"), net.input("x", j), net.input("K", i, j), net.target("t")
    w = net.parameter("w", i, j)
    y = net.output("y", a + (w[i, j] * K[i, j] * x[j]).subs({i: 0, j: 0}))
    net.loss((y - t) ** 2 + w[0, 0])
    return net


@pytest.fixture
def lookup():
    """Return a network whose input is a subscript."""
    net = Network("lookup")
    v = net.index("v", 5)
    token, t = net.input("token"), net.target("t")
    E = net.parameter("E", v)
    net.loss((E[token] - t) ** 2)
    return net


HEADER = "a,x[0],x[1],x[2],K[0,0],K[0,1],K[0,2],K[1,0],K[1,1],K[1,2],t"
QUOTED = '"t",a,"x[2]",x_1,"x[0]","K[1, 2]",K_1_1,"K[1,0]","K[0,2]","K[0,1]","K[0,0]"'
PLAIN = "a,x_0,x_1,x_2,K_0_0,K_0_1,K_0_2,K_1_0,K_1_1,K_1_2,t"


def write(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def rows(*lines):
    return "\n".join((PLAIN, *lines)) + "\n"


FIRST = "0,1,2,3,4,5,6,7,8,9,10"


@pytest.mark.parametrize(
    "text",
    [
        rows(FIRST, "10,11,12,13,14,15,16,17,18,19,20"),
        rows(FIRST, "", "10,11,12,13,14,15,16,17,18,19,20").replace("\n", "\r\n"),
        "\ufeff" + rows(FIRST, ' 10, 11,"12",13,1.4e1,15,16,17,18,19,20'),
        f"{QUOTED}\n10,0,3,2,1,9,8,7,6,5,4\n20,10,13,12,11,19,18,17,16,15,14",
    ],
    ids=["plain", "crlf, empty line", "mark, quotes", "reordered"],
)
def test_csv(network, tmp_path, text):
    samples = load(write(tmp_path / "d.csv", text), network)
    assert list(samples) == ["a", "x", "K", "t"]
    assert samples["a"].tolist() == [0, 10]
    assert samples["x"].tolist() == [[1, 2, 3], [11, 12, 13]]
    assert samples["K"].tolist() == [[[4, 5, 6], [7, 8, 9]], [[14, 15, 16], [17, 18, 19]]]
    assert samples["t"].tolist() == [10, 20]
    assert all(array.dtype == np.float64 for array in samples.values())
    assert all(array.flags.c_contiguous for array in samples.values())


def test_both_csv_readers_agree(network, tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    text = rows(*(",".join(map(repr, map(float, row))) for row in rng.normal(size=(50, 11))))
    quick = load(write(tmp_path / "d.csv", text), network)
    monkeypatch.setattr(data_module, "_quick_table", lambda file, width: None)
    careful = load(tmp_path / "d.csv", network)
    assert all(np.array_equal(quick[name], careful[name]) for name in quick)


BAD_CSV = {
    "the file is empty; expected a header": "",
    "line 1: got numbers, expected a header: a, x[0], x[1], ..., t": FIRST + "\n" + FIRST,
    "line 1: expected columns separated by commas": PLAIN.replace(",", ";"),
    "line 1: column 'a' occurs 2 times": rows(FIRST).replace("x_0", "a"),
    "line 1: column 'x[0]' occurs 2 times": rows(FIRST).replace("x_1", "x[0]"),
    "unknown column 'y_2'; column 'x[2]' is missing": rows(FIRST).replace("x_2", "y_2"),
    "unknown column 'T'; did you mean 't'?": rows(FIRST).replace("t", "T"),
    "line 1: column 't' is missing": rows(FIRST).replace(",t", ""),
    "line 1: unknown column 'id'; expected exactly the inputs and targets": rows(FIRST).replace(
        ",t", ",t,id"
    ),
    "there are no samples": rows(),
    "line 3: got 10 cells, expected 11 as in the header": rows(FIRST, FIRST[:-3]),
    "line 3: got 12 cells, expected 11": rows(FIRST, FIRST + ",1"),
    "line 4, column 'x_1': got 'two', expected a number": rows(
        FIRST, "", FIRST.replace(",2,", ",two,")
    ),
    "line 2, column 'x_1': got '', expected a number": rows(FIRST.replace(",2,", ",,")),
    "line 2, column 'x_1': got '2_0', expected a number": rows(FIRST.replace(",2,", ",2_0,")),
    "line 3, column 't': got 'NaN', expected a finite number; remove the line": rows(
        FIRST, FIRST.replace("10", "NaN")
    ),
    "line 2, column 't': got '1e999', expected a finite number": rows(FIRST.replace("10", "1e999")),
    "no UTF-8 text (byte": rows(FIRST).encode("utf-16"),
    "line 2, column 'a': got '\\x000'": rows("\0" + FIRST),
}


@pytest.mark.parametrize(("message", "text"), BAD_CSV.items(), ids=BAD_CSV)
def test_bad_csv(network, tmp_path, message, text):
    path = write(tmp_path / "bad.csv", text)
    with pytest.raises(DataError) as caught:
        load(path, network)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_many_wrong_columns_are_one_short_message(network, tmp_path):
    header = ",".join(f"c{number}" for number in range(20000))
    with pytest.raises(DataError, match=r"and 20006 more such problems") as caught:
        load(write(tmp_path / "d.csv", header), network)
    assert len(str(caught.value)) < 1000


def arrays(count=2):
    return {
        "t": np.arange(count),
        "K": np.ones((count, 2, 3), dtype=np.float32),
        "x": np.zeros((count, 3), dtype=bool),
        "a": np.arange(count) / 2,
    }


def test_npz(network, tmp_path):
    np.savez_compressed(tmp_path / "d.npz", **arrays())
    samples = load(tmp_path / "d.npz", network)
    assert list(samples) == ["a", "x", "K", "t"]
    assert samples["K"].shape == (2, 2, 3)
    assert all(array.dtype == np.float64 for array in samples.values())


def nan_at(place):
    array = np.ones((2, 2, 3))
    array[place] = np.nan
    return array


BAD_ARRAYS = {
    "unknown array 'X'; did you mean 'x'?": {"X": 1},
    "array 'a' is missing": {"a": None},
    "array 'x': got the shape (2, 4), expected (n, 3), n samples": {"x": np.ones((2, 4))},
    "array 'a': got the shape (2, 1), expected (n,), n samples": {"a": np.ones((2, 1))},
    "array 'a': got the shape (), expected (n,)": {"a": np.ones(())},
    "differ in their number of samples: a 3, x 2, K 2, t 2": {"a": np.ones(3)},
    "array 't': got the type complex128, expected real numbers": {"t": np.ones(2, dtype=complex)},
    "array 't': got the type <U1, expected real numbers": {"t": np.array(["1", "2"])},
    "array 'K': K[0,2] of sample 1 (counted from 0) is nan": {"K": nan_at((1, 0, 2))},
    "array 'a': a of sample 0 (counted from 0) is inf": {"a": np.array([np.inf, 0.0])},
}


@pytest.mark.parametrize(("message", "changed"), BAD_ARRAYS.items(), ids=BAD_ARRAYS)
def test_bad_arrays(network, tmp_path, message, changed):
    samples = {k: v for k, v in (arrays() | changed).items() if v is not None}
    with pytest.raises(DataError) as caught:
        check(samples, network)
    assert message in str(caught.value)
    np.savez(tmp_path / "d.npz", **samples)
    with pytest.raises(DataError) as caught:
        load(tmp_path / "d.npz", network)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "d.npz"))


def test_no_samples_and_ragged_lists(network):
    with pytest.raises(DataError, match="there are no samples"):
        check(arrays(0), network)
    with pytest.raises(DataError, match=r"array 'x': its rows differ in length, expected \(n, 3\)"):
        check(arrays() | {"x": [[1, 2, 3], [1, 2]]}, network)


def test_hostile_npz(network, tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, **(arrays() | {"a": np.array([print, print])}))
    with pytest.raises(DataError, match="'a': no array of plain numbers: Object arrays cannot"):
        load(path, network)
    write(path, b"no archive")
    with pytest.raises(DataError, match=r"d\.npz: no \.npz file"):
        load(path, network)
    np.savez_compressed(path, **arrays(1000))
    damaged = bytearray(path.read_bytes())
    damaged[200:260] = bytes(60)
    with pytest.raises(DataError, match=r"d\.npz"):
        load(write(path, bytes(damaged)), network)


def test_an_array_that_claims_to_be_huge(network, tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, **arrays())
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name in arrays():
            archive.writestr(f"{name}.npy", header.getvalue())
    with pytest.raises(DataError, match=r"d\.npz"):
        load(path, network)


def test_sizes_are_limited(network, tmp_path, monkeypatch):
    monkeypatch.setattr(data_module, "_LARGEST", 100_000)
    np.savez_compressed(tmp_path / "d.npz", **arrays(5000))
    assert (tmp_path / "d.npz").stat().st_size < 100_000
    with pytest.raises(DataError, match="more than 2 GiB unpacked"):
        load(tmp_path / "d.npz", network)
    with pytest.raises(DataError, match="larger than 2 GiB"):
        load(write(tmp_path / "d.csv", "a" * 100_001), network)


def test_files_that_are_none(network, tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: cannot be read: No such file"):
        load(tmp_path / "none.csv", network)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder\.csv: cannot be read: Is a directory"):
        load(tmp_path / "folder.csv", network)
    with pytest.raises(DataError, match=r"got the ending '.xlsx', expected .csv or .npz"):
        load(tmp_path / "d.xlsx", network)


def test_subscripts(lookup):
    samples = check({"token": [0.0, 4.0], "t": [1, 2]}, lookup)
    assert samples["token"].dtype == np.int64
    for bad, shown in ((5, "5"), (-1, "-1"), (0.5, "0.5")):
        with pytest.raises(
            DataError, match=rf"sample 1 .* holds {shown}, expected integers from 0"
        ):
            check({"token": [0, bad], "t": [1, 2]}, lookup)


def test_embedded(network, tmp_path):
    with pytest.raises(DataError, match=r"network 'mixed' comes without data; give a \.csv or"):
        embedded(network, tmp_path)
    network.data = Data(samples={name: array.tolist() for name, array in arrays().items()})
    assert embedded(network, tmp_path)["K"].shape == (2, 2, 3)
    network.data = Data(samples={"a": [1.0]})
    with pytest.raises(DataError, match=r"network 'mixed', data: array 'x' is missing"):
        embedded(network, tmp_path)
    network.data = Data(file="sub/d.npz")
    (tmp_path / "sub").mkdir()
    np.savez(tmp_path / "sub" / "d.npz", **arrays())
    assert embedded(network, tmp_path)["K"].shape == (2, 2, 3)


@pytest.mark.parametrize("file", ["../d.npz", "/etc/d.npz", "link.npz"])
def test_embedded_files_stay_inside(network, tmp_path, file):
    np.savez(tmp_path / "d.npz", **arrays())
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link.npz").symlink_to(tmp_path / "d.npz")
    network.data = Data(file=file)
    with pytest.raises(DataError, match="is outside the description's folder"):
        embedded(network, tmp_path / "inside")


def test_split():
    samples = {"x": np.arange(200).reshape(100, 2), "t": np.arange(100)}
    train, test = split(samples, 25)
    assert len(train["t"]) == 75
    assert len(test["t"]) == 25
    assert sorted([*train["t"], *test["t"]]) == list(range(100))
    assert np.array_equal(test["x"][:, 0], 2 * test["t"])
    assert np.all(np.diff(train["t"]) > 0)
    # spread over the whole file: each quarter has a share, a hypergeometric 6.25 +- 1.9
    assert np.histogram(test["t"], 4, (0, 100))[0].min() >= 2
    assert test["t"][:5].tolist() == split(samples, 25)[1]["t"][:5].tolist()
    assert split(samples, 0) == (samples, {})


def test_split_is_the_same_everywhere():
    _, test = split({"t": np.arange(10)}, 4)
    assert test["t"].tolist() == [0, 3, 7, 9]


def test_bad_split():
    for count in (-1, 3, 4):
        with pytest.raises(DataError, match=rf"test samples: got {count}, expected 0 to 2 of 3"):
            split({"t": np.arange(3)}, count)

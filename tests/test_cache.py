"""What is kept from one run to the next: found again, never wrong, never in the way."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from sympy import Sum

import symprop
from symprop import Network, cache
from symprop.compiler import source_text
from symprop.loader import load
from symprop.options import Options

SOURCE = """
import math
import os

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload, register_jitable
from typing import NamedTuple

WIDTH = int(os.environ.get("SYMPROP_TEST_WIDTH", "2"))

class Pair(NamedTuple):
    a: np.ndarray
    b: float

@intrinsic
def one_more(typingctx, z):
    def generate(context, builder, signature, arguments):
        return builder.fadd(arguments[0], arguments[0].type(1.0))
    return types.float64(types.float64), generate

def chosen(z):
    return z

@overload(chosen)
def compiled_choice(z):
    return lambda z: 2.0 * z

@register_jitable
def halved(z):
    return z / 2.0

@njit
def root(z):
    return math.sqrt(z)

@njit(nogil=True)
def kernel(pair, n):
    if n < 0:
        raise ValueError("n is negative")
    out = np.zeros(n)
    for place in range(n):
        out[place] = halved(chosen(one_more(root(pair.a[place % WIDTH]))))
    return Pair(out, pair.b)
"""

SCRIPT = """
import sys, numpy as np
from pathlib import Path
from symprop.compiler import source_text
from symprop.loader import load
module = load(Path(sys.argv[1]).read_text(), "mixed")
pair = module.kernel(module.Pair(np.array([4.0, 9.0]), 1.0), 3)
counts = [f.stats for f in (module.kernel, module.root)]
hits, misses = (sum(sum(c.values()) for c in kind) for kind in
                ([c.cache_hits for c in counts], [c.cache_misses for c in counts]))
print(pair.a.tolist(), hits, misses)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch) -> Path:
    """A cache of each test's own, which does not exist yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SYMPROP_CACHE_DIR", str(folder))
    cache._warn.cache_clear()
    return folder


def again(text: str = SOURCE, name: str = "mixed"):
    """Load a text as a new process would."""
    for title in [title for title in sys.modules if title.startswith("symprop.loader.")]:
        del sys.modules[title]
    return load(text, name)


def called(module) -> list:
    return module.kernel(module.Pair(np.array([4.0, 9.0]), 1.0), 3).a.tolist()


def hits(module) -> int:
    return sum(module.kernel.stats.cache_hits.values())


def codes(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/kernel-*.code"))


# ------------------------------------------------------------------------------------ machine code


def test_machine_code_is_taken_from_the_cache(place: Path) -> None:
    first = again()
    assert called(first) == [3.0, 4.0, 3.0]
    second = again()
    assert called(second) == [3.0, 4.0, 3.0]
    assert (hits(first), hits(second)) == (0, 1)
    assert not second.kernel.stats.cache_misses
    with pytest.raises(ValueError, match="n is negative"):
        second.kernel(second.Pair(np.ones(2), 1.0), -1)
    assert second.root(16.0) == 4.0
    assert type(second.kernel(second.Pair(np.ones(2), 1.0), 1)) is second.Pair
    assert second.kernel.stats.cache_path == str(codes(place)[0].parent)


def test_functions_that_are_called_are_loaded_first() -> None:
    """The caller's code has a copy of theirs, optimised again; which one runs must not vary."""
    called(again())
    module = again()
    called(module)
    assert sum(module.root.stats.cache_hits.values()) == 1


def trained(source: str) -> tuple[list[int], bytes]:
    """Train by a module loaded anew; which functions came from the cache, and the parameters."""
    module = load(source, "small")
    random = np.random.default_rng(0)
    data = random.standard_normal((40, 3)), random.standard_normal(40)
    parameters, _ = module.train(module.initialize(0), *data, epochs=2, batch_size=16)
    hits = [
        sum(function.stats.cache_hits.values())
        for function in (module._advance, module._gradient_block)
    ]
    del sys.modules[module.__name__]
    return hits, parameters.w.tobytes()


def test_what_is_called_where_it_is_must_be_there_under_its_name(place: Path) -> None:
    """A function compiled again has another name: what calls it by the old one is no use then."""
    net = Network("small")
    i = net.index("i", 3)
    x, t, w = net.input("x", i), net.target("t"), net.parameter("w", i, init=0.5)
    y = net.output("y", Sum(w[i] * x[i], i))
    net.loss((y - t) ** 2)
    source = source_text(symprop.differentiate(net), Options("float64"))
    assert re.search(r"_apart\(\s*_gradient_block", source)
    (misses, wanted), (hits, same) = trained(source), trained(source)
    assert (misses, hits) == ([0, 0], [1, 1])
    for file in place.rglob("_gradient_block-*.code"):
        file.unlink()
    again, found = trained(source)
    assert again == [0, 0]
    assert wanted == same == found


def test_another_signature_is_compiled_and_kept(place: Path) -> None:
    called(again())
    module = again()
    assert module.kernel(module.Pair(np.ones(2, "f"), 1.0), 1).a.tolist() == [2.0]
    assert hits(module) == 0
    module = again()
    assert module.kernel(module.Pair(np.ones(2, "f"), 1.0), 1).a.tolist() == [2.0]
    assert called(module) == [3.0, 4.0, 3.0]
    assert hits(module) == 2


def test_another_text_is_another_entry(place: Path) -> None:
    called(again())
    module = again(SOURCE.replace("2.0 * z", "4.0 * z"))
    assert called(module) == [6.0, 8.0, 6.0]
    assert hits(module) == 0


def test_a_constant_chosen_at_import_is_part_of_the_key(monkeypatch) -> None:
    """Numba compiles it in, and its own cache would give the code for another value."""
    called(again())
    monkeypatch.setenv("SYMPROP_TEST_WIDTH", "1")
    module = again()
    assert called(module) == [3.0, 3.0, 3.0]
    assert hits(module) == 0


def test_functions_made_by_one_function_are_told_apart() -> None:
    """They have one name, one line and one signature; by the module's names they differ."""
    text = """
import os
import re
from numba import njit

def times(factor):
    @njit
    def kernel(z):
        return factor * z
    return kernel

doubled, tripled = times(2), times(3)
chosen = times(int(os.environ.get("SYMPROP_TEST_WIDTH", "4")))
"""
    for count in (0, 1):
        module = again(text)
        assert [f(2) for f in (module.doubled, module.tripled, module.chosen)] == [4, 6, 8]
        assert sum(module.tripled.stats.cache_hits.values()) == count


def test_a_constant_chosen_at_import_in_a_made_function_is_part_of_the_key(monkeypatch) -> None:
    text = """
import os
import re
from numba import njit

def times(factor):
    return njit(lambda z: factor * z)

chosen = times(int(os.environ.get("SYMPROP_TEST_WIDTH", "4")))
"""
    assert again(text).chosen(2) == 8
    monkeypatch.setenv("SYMPROP_TEST_WIDTH", "5")
    assert again(text).chosen(2) == 10


@pytest.mark.parametrize("name", ["symprop", "numba", "llvmlite", "np"])
def test_versions_are_part_of_the_key(name: str, monkeypatch) -> None:
    from symprop import machine_code

    called(again())
    monkeypatch.setattr(getattr(machine_code, name), "__version__", "0.0")
    module = again()
    assert called(module) == [3.0, 4.0, 3.0]
    assert hits(module) == 0


def test_settings_of_numba_are_part_of_the_key(monkeypatch) -> None:
    import numba

    called(again())
    monkeypatch.setattr(numba.config, "SLP_VECTORIZE", 1 - numba.config.SLP_VECTORIZE)
    module = again()
    called(module)
    assert hits(module) == 0


def test_what_numba_is_told_to_forget_is_compiled_again() -> None:
    called(again())
    module = again()
    called(module)
    assert hits(module) == 1
    module.kernel.recompile()
    assert called(module) == [3.0, 4.0, 3.0]
    assert sum(module.kernel.stats.cache_misses.values()) == 1


def test_code_with_an_address_of_this_process_is_not_kept(place: Path) -> None:
    """Numba refuses too, with a warning, which would be an error here."""
    text = """
import ctypes
from numba import njit
cosine = ctypes.CDLL(None).labs
cosine.argtypes, cosine.restype = [ctypes.c_long], ctypes.c_long

@njit
def kernel(n):
    return cosine(n)
"""
    module = again(text)
    assert module.kernel(-3) == 3
    assert codes(place) == []


def test_off_means_off(place: Path, monkeypatch) -> None:
    for value in ("", "off", " OFF "):
        monkeypatch.setenv("SYMPROP_CACHE_DIR", value)
        assert cache.folder() is None
        assert called(again()) == [3.0, 4.0, 3.0]
        cache.write("entry", "name", b"content")
        assert cache.read("entry", "name") is None
    assert not place.exists()


# --------------------------------------------------------------------------------------- processes


def start(place: Path, **environment: str) -> subprocess.Popen[str]:
    text = place.parent / "mixed.txt"
    text.write_text(SOURCE)
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(text)]
    env = {**os.environ, "SYMPROP_CACHE_DIR": str(place), **environment}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return out.strip()


def test_processes_share_machine_code(place: Path) -> None:
    """Two at once, which both compile or not; one afterwards; one for another processor."""
    both = [start(place), start(place)]
    assert all(finished(process).startswith("[3.0, 4.0, 3.0] ") for process in both)
    assert finished(start(place)) == "[3.0, 4.0, 3.0] 2 0"
    assert not list(place.rglob("*.tmp"))
    assert finished(start(place, NUMBA_CPU_NAME="generic")) == "[3.0, 4.0, 3.0] 0 2"
    assert finished(start(place)) == "[3.0, 4.0, 3.0] 2 0", "both are kept"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # JAX warns where a test imported it
def test_a_forked_process_uses_the_cache_too(place: Path) -> None:
    called(again())
    module = again()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and fork, from Python 3.12
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if called(module) == [3.0, 4.0, 3.0] and hits(module) == 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ------------------------------------------------------------------------------- damage, full disk


@pytest.mark.parametrize("damage", ["empty", "half", "one bit", "no pickle", "other key"])
def test_a_damaged_file_is_compiled_again_and_replaced(damage: str, place: Path) -> None:
    called(again())
    (path,) = codes(place)
    content = path.read_bytes()
    if damage in ("no pickle", "other key"):
        import pickle

        wrong = b"nonsense" if damage == "no pickle" else pickle.dumps(((1, 2), b"nonsense"))
        cache.write(path.parent.name, path.name, wrong)
    else:
        flipped = content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
        path.write_bytes({"empty": b"", "half": content[:4000], "one bit": flipped}[damage])
    module = again()
    assert called(module) == [3.0, 4.0, 3.0]
    assert hits(module) == 0
    module = again()
    assert called(module) == [3.0, 4.0, 3.0]
    assert hits(module) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("step", ["mkdir", "mkstemp", "write"])
def test_where_nothing_can_be_written_all_works(step, number, place: Path, monkeypatch) -> None:
    def fail(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    class Full:
        """A file on a full disk."""

        def __init__(self, handle, _mode):
            self.handle = handle

        def __enter__(self):
            return self

        def __exit__(self, *_error):
            os.close(self.handle)

        write = fail

    if step == "mkdir":
        monkeypatch.setattr(Path, "mkdir", fail)
    elif step == "mkstemp":
        monkeypatch.setattr(tempfile, "mkstemp", fail)
    else:
        monkeypatch.setattr(cache.os, "fdopen", Full)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert called(again()) == [3.0, 4.0, 3.0]
    assert not [path for path in place.rglob("*") if path.is_file()]


def test_a_file_in_the_place_of_the_folder_is_no_obstacle(place: Path) -> None:
    place.write_text("mine")
    assert called(again()) == [3.0, 4.0, 3.0]
    assert place.read_text() == "mine"


def test_a_folder_removed_while_running_is_made_again(place: Path) -> None:
    import shutil

    called(again())
    module = again()
    shutil.rmtree(place)
    assert called(module) == [3.0, 4.0, 3.0]
    assert hits(module) == 0
    assert codes(place)


# --------------------------------------------------------------------------- where, whose, how long


posix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="ownership is POSIX's")


@posix
def test_the_folder_is_private(place: Path) -> None:
    before = os.umask(0)
    try:
        called(again())
    finally:
        os.umask(before)
    for path in (place, *place.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


@posix
@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_that_others_can_write_to_is_not_used(mode: int, place: Path) -> None:
    cache.write("entry", "name", b"planted")
    place.chmod(mode)
    with pytest.warns(RuntimeWarning, match="not used as symprop's cache, since others than you"):
        assert cache.read("entry", "name") is None
    cache.write("entry", "other", b"content")  # no second warning
    assert not (place / "entry" / "other").exists()
    place.chmod(0o755)
    assert cache.read("entry", "name") == b"planted", "reading does no harm"


@posix
def test_a_folder_of_somebody_else_is_not_used(place: Path, monkeypatch) -> None:
    cache.write("entry", "name", b"planted")
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    with pytest.warns(RuntimeWarning, match="set SYMPROP_CACHE_DIR"):
        assert cache.read("entry", "name") is None


@pytest.mark.parametrize(
    ("platform", "environment", "wanted"),
    [
        ("linux", {}, "home/.cache/symprop"),
        ("linux", {"XDG_CACHE_HOME": "/tmp/xdg"}, "/tmp/xdg/symprop"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "home/.cache/symprop"),
        ("darwin", {"XDG_CACHE_HOME": "/tmp/xdg"}, "home/Library/Caches/symprop"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/symprop"),
        ("win32", {}, "home/AppData/Local/symprop"),
        ("linux", {"SYMPROP_CACHE_DIR": "~/kernels"}, "home/kernels"),
        ("win32", {"SYMPROP_CACHE_DIR": "/elsewhere"}, "/elsewhere"),
    ],
)
def test_where_the_folder_is(platform, environment, wanted, tmp_path, monkeypatch) -> None:
    for name in ("SYMPROP_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": str(tmp_path / "home"), **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache.folder() == tmp_path / wanted


def test_without_a_home_there_is_no_cache(monkeypatch) -> None:
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SYMPROP_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert cache.folder() is None
    assert called(again()) == [3.0, 4.0, 3.0]


def test_entries_that_are_not_used_for_a_month_are_removed_once_a_day(place: Path) -> None:
    now = time.time()
    for name, days in {"old": 31, "used": 31, "recent": 29}.items():
        cache.write(name, "file", b"content")
        os.utime(place / name, (now, now - days * 86400))
    assert cache.read("used", "file") == b"content"
    cache.write("new", "file", b"content")
    assert (place / "old").exists(), "it was cleaned today"
    os.utime(place / "cleaned", (now, now - 2 * 86400))
    cache.write("newer", "file", b"content")
    assert {path.name for path in place.iterdir()} == {"used", "recent", "new", "newer", "cleaned"}


def test_names_of_entries_tell_their_parts_apart() -> None:
    assert cache.digest("ab", "c") != cache.digest("a", "bc") != cache.digest("abc")
    assert cache.digest("ab", "c") == cache.digest("ab", "c")

r"""What symprop keeps from one run to the next: texts of kernels and their machine code.

The entries lie in a folder of their own in the user's cache directory:
``$XDG_CACHE_HOME/symprop`` or ``~/.cache/symprop``, ``~/Library/Caches/symprop`` on macOS,
``%LOCALAPPDATA%\symprop`` on Windows. The environment variable ``SYMPROP_CACHE_DIR`` names
another folder; empty or ``off`` it switches the cache off. The folder may be removed at any time.

An entry is a folder named by a hash of everything that its files depend on, so it never has to
be changed. A file is written elsewhere and moved to its place, so nobody reads half of it, and
begins with the hash of its content, so a damaged one is taken for missing and written again. Where
nothing can be written (a read-only or full disk) nothing is kept, and nothing is said.

Texts are executed and machine code lies in pickles, so whoever can write to the folder can run
code as the user. It is made for the user alone (mode 0700); one that belongs to somebody else, or
that others may write to, is not used, with a warning. Entries that have not been used for
30 days are removed, once a day at most.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
import tempfile
import time
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

import symprop

__all__ = ["TEXT", "digest", "folder", "package", "read", "write"]

TEXT = "module.py"
"""The file of an entry that holds the text of a module."""

_DAY = 86400.0
_UNUSED = 30 * _DAY
_MARK = "cleaned"


def digest(*parts: str) -> str:
    """Return the name of the entry that depends on `parts`: 40 hexadecimal digits."""
    joined = "".join(f"{len(part)}:{part}" for part in parts)  # ("ab", "c") is not ("a", "bc")
    return hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()[:40]


@cache
def package() -> str:
    """Return symprop's version and a hash of the names, sizes and ages of its own files.

    So what was kept by an older state of the code, of the same version, is never used.
    """
    home = Path(__file__).parent
    folders = (home, home.parent / "templates")  # templates are beside the package in a checkout
    files = [path for place in folders for path in _files(str(place))]
    return f"{symprop.__version__} {digest(*sorted(files))}"


def _files(place: str) -> list[str]:
    found: list[str] = []
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.is_dir():
                found += _files(entry.path)
            elif entry.name.endswith((".py", ".jinja")):
                status = entry.stat()
                found.append(f"{entry.path} {status.st_size} {status.st_mtime_ns}")
    return found


def folder() -> Path | None:
    """Return the folder of all entries, which need not exist; None where the cache is off."""
    chosen = os.environ.get("SYMPROP_CACHE_DIR")
    try:
        if chosen is None:
            return _home() / "symprop"
        off = chosen.strip().lower() in ("", "off")
        return None if off else Path(chosen).expanduser().absolute()
    except (RuntimeError, OSError):  # the user has no home, or the working directory is gone
        return None


def _home() -> Path:
    """Return the directory that the platform keeps for the user's caches."""
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", "")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    named = os.environ.get("XDG_CACHE_HOME", "")  # a relative one is invalid, says the standard
    return Path(named) if os.path.isabs(named) else Path.home() / ".cache"


def read(entry: str, name: str) -> bytes | None:
    """Return the content of a file of an entry; None where it is missing or damaged."""
    try:
        place = folder()
        if place is None or not _private(place):
            return None
        content = (place / entry / name).read_bytes()
        _use(place / entry)
    except OSError:
        return None
    return content[32:] if hashlib.sha256(content[32:]).digest() == content[:32] else None


def write(entry: str, name: str, content: bytes) -> None:
    """Keep a file of an entry, if that is possible."""
    with suppress(OSError):
        place = folder()
        if place is None:
            return
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _private(place):
            return
        (place / entry).mkdir(mode=0o700, exist_ok=True)
        _move(place / entry / name, hashlib.sha256(content).digest() + content)
        _clean(place)


def _private(place: Path) -> bool:
    """Tell whether only the user can write to a folder, which must exist; warn if not."""
    status = place.stat()
    if not hasattr(os, "getuid"):  # Windows: what is below the user's profile is the user's
        return True
    if status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return True
    _warn(str(place))
    return False


@cache
def _warn(place: str) -> None:
    warnings.warn(
        f"{place}: not used as symprop's cache, since others than you could write to it; "
        "remove it (symprop makes a private one), or set SYMPROP_CACHE_DIR",
        RuntimeWarning,
        stacklevel=2,
    )


def _move(path: Path, content: bytes) -> None:
    """Write a file beside its place and move it there."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def _use(entry: Path) -> None:
    """Note in an entry's time, to the day, that it was used."""
    with suppress(OSError):
        if time.time() - entry.stat().st_mtime > _DAY:
            os.utime(entry)


def _clean(place: Path) -> None:
    """Remove entries that have not been used for long, unless that was done today."""
    now, mark = time.time(), place / _MARK
    if mark.exists() and now - mark.stat().st_mtime < _DAY:
        return
    mark.touch(mode=0o600)
    for entry in place.iterdir():
        if entry.is_dir() and now - entry.stat().st_mtime > _UNUSED:
            shutil.rmtree(entry, ignore_errors=True)

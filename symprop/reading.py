"""Reading descriptions, and not reading again what was read before until it is needed.

To import SymPy and to make equations of a description takes half a second. Kernels that
are in the cache need none of it. So `read` checks a description, once (the cache remembers that
it is good), and returns an `Unread` network: it becomes the `Network` when anything of it is
asked for, and `symprop.compile` asks for nothing where it finds the kernels' text.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache as memoised
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from symprop import cache

if TYPE_CHECKING:
    from symprop.network import Network

__all__ = ["Unread", "again", "key_of", "read", "tools"]

_LARGEST = 2**20
"""Bytes of a description; a larger one is read as ever, so that its size is judged in one place."""

_LOCK = threading.RLock()


def read(path: str | Path) -> Network:
    """Return the network that a description file holds; raise `DescriptionError` otherwise."""
    path = Path(path)
    text = _text(path)
    if text is None:  # whatever is wrong with the file, it is said there
        from symprop.description import read as read_file

        return read_file(path)
    key = cache.digest("description", tools(), hashlib.sha256(text.encode()).hexdigest())
    network = None
    if cache.read(key, "known") is None:
        network = _parsed(text, path.name)
        cache.write(key, "known", b"")
    return cast("Network", Unread(text, path.name, key, network))


def _text(path: Path) -> str | None:
    with suppress(OSError, ValueError):
        if path.is_file() and path.stat().st_size <= _LARGEST:
            return path.read_bytes().decode("utf-8-sig")
    return None


@memoised
def tools() -> str:
    """Return what equations and texts depend on besides what they are made from.

    These are symprop's own files and the versions of SymPy and Jinja2, told by their files'
    ages, since to import them is what shall be avoided.
    """
    found = [cache.package()]
    for name in ("sympy", "jinja2"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            status = Path(spec.origin).stat()
            found.append(f"{spec.origin} {status.st_size} {status.st_mtime_ns}")
    return cache.digest(*found)


def _parsed(text: str, where: str) -> Network:
    from symprop.description import parse

    return parse(text, where)


def key_of(network: Any) -> str | None:
    """Return what stands for a description that has not been read yet; None for any other."""
    return vars(network).get("_key") if type(network) is Unread else None


def again(network: Any) -> Callable[[], Network]:
    """Return a function that makes another network from the description of an unread one."""
    held = vars(network)
    return partial(_parsed, held["_text"], held["_where"])


class Unread:
    """A network that becomes a `Network`, in place, as soon as anything of it is asked for.

    Its class is `Network` for all that ask by `isinstance` or ``.__class__``. It can be changed
    like any network: it is read before.
    """

    def __init__(self, text: str, where: str, key: str, network: Network | None) -> None:
        vars(self).update(_text=text, _where=where, _key=key, _network=network)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the network."""
        return getattr(_become(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute of the network."""
        setattr(_become(self), name, value)

    def __delattr__(self, name: str) -> None:
        """Delete an attribute of the network."""
        delattr(_become(self), name)

    def __dir__(self) -> list[str]:
        """List the attributes of the network."""
        return list(dir(_become(self)))

    def __repr__(self) -> str:
        """Return what the network shows of itself."""
        return repr(_become(self))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle the network."""
        return _become(self).__reduce_ex__(protocol)

    @property  # type: ignore[misc]
    def __class__(self) -> type[Network]:  # type: ignore[override]
        """The class of the network, for `isinstance`, which must not see it change meanwhile."""
        from symprop.network import Network

        return Network


def _become(network: Any) -> Network:
    """Make a network of one that has not been read, once, whichever thread asks first."""
    with _LOCK:
        if type(network) is Unread:
            from symprop.network import Network

            held = vars(network)
            whole = held["_network"] or _parsed(held["_text"], held["_where"])
            held.clear()
            held.update(vars(whole))
            cast(Any, object.__dict__["__class__"]).__set__(network, Network)
    return cast("Network", network)

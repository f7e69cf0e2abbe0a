"""What Numba made of a function."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["own_bodies"]


def own_bodies(compiled: Any) -> list[str]:
    """Return the LLVM text of the function itself for each signature, without what is linked."""
    found = []
    for signature, text in compiled.inspect_llvm().items():
        name = re.escape(compiled.overloads[signature].fndesc.llvm_func_name)
        own = rf'^define [^\n]*@"?{name}"?\([^\n]*\{{\n.*?^\}}'
        found += re.findall(own, text, re.MULTILINE | re.DOTALL)
    return found

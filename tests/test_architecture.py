"""Imports go one way: each module uses only the floors below it."""

from __future__ import annotations

import ast
from pathlib import Path

import symprop

FLOORS = (
    "errors functions indices formulas equation network quantities "
    "bounds syntax expressions notation problems settings toml description layers "
    "rewrites flatten partials reuse contributions closed_form derivation "
    "optimizers options scalar "
    "lower printer render loader compiler precise slopes oracle points differences "
    "comparison replay verification generation data weights training "
    "worked reckoning paths claims exercise examples mathml spelling writing rows rules "
    "forward steps pages show drawing report explain cli"
).split()

PACKAGE = Path(symprop.__file__).parent


def floor(module: str) -> str:
    return module.split(".")[0]


def imported(path: Path) -> set[str]:
    """Return the symprop modules that a file imports, at the top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if node.module == "symprop"} or {node.module}
    return {name.removeprefix("symprop.") for name in found if name.startswith("symprop.")}


def test_every_module_has_a_floor() -> None:
    modules = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in PACKAGE.rglob("*.py")}
    assert modules - {"__init__", "templates"} == set(FLOORS)


def test_imports_go_down() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if own == "__init__":
            continue
        for module in imported(path):
            below = floor(module)
            assert below in FLOORS or module == "__version__", (path.name, module)
            if below in FLOORS and below != own:
                assert FLOORS.index(below) < FLOORS.index(own), f"{path.name} imports {module}"


def test_modules_within_lower_have_no_cycle() -> None:
    graph = {
        path.stem: {m.split(".")[1] for m in imported(path) if m.startswith("lower.")}
        for path in sorted((PACKAGE / "lower").glob("*.py"))
    }
    while graph:
        free = [module for module, needs in graph.items() if not needs & set(graph)]
        assert free, f"import cycle among {sorted(graph)}"
        for module in free:
            del graph[module]

"""Imports go one way: each module uses only the floors below it."""

from __future__ import annotations

import ast
from pathlib import Path

import symprop

PACKAGE = Path(symprop.__file__).parent

FLOORS = (
    "errors cache functions indices ranges formulas equation network quantities description "
    "reading layers derivation optimizers options identity sections scalar vectors templating "
    "lower printer render machine_code loader compiler "
    "verification generation data weights training examples explain bench cli"
).split()
"""The house from the ground up; a package is one floor, its own modules are ordered inside."""


def module(path: Path) -> str:
    """Return the name of a file's module inside symprop: ``lower.batch``, ``lower``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module(path): path for path in sorted(PACKAGE.rglob("*.py")) if module(path)}


def imported(path: Path) -> set[str]:
    """Return the symprop modules that a file imports, at the top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in parts if name.removeprefix("symprop.") in MODULES}
            found |= modules or {node.module}
    names = {name.removeprefix("symprop.") for name in found if name.startswith("symprop.")}
    return names & set(MODULES)


def floor(name: str) -> str:
    return name.split(".")[0]


def test_every_module_has_a_floor() -> None:
    assert {floor(name) for name in MODULES} == set(FLOORS)


def test_imports_go_down() -> None:
    for name, path in MODULES.items():
        for below in imported(path):
            if floor(below) != floor(name):
                low, high = FLOORS.index(floor(below)), FLOORS.index(floor(name))
                assert low < high, f"{name} imports {below}"


def test_modules_have_no_cycle() -> None:
    graph = {name: imported(path) - {name} for name, path in MODULES.items()}
    while graph:
        free = [name for name, needs in graph.items() if not needs & set(graph)]
        assert free, f"import cycle among {sorted(graph)}"
        for name in free:
            del graph[name]

"""The house: folders are tiers, imports go down only, siblings do not know each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_finetune

ROOT = Path(pytest_finetune.__file__).parent
PACKAGE = "pytest_finetune"

FOUNDATION = {"secrets", "errors", "core", "endpoints"}
AUTHORING = {"dataset", "metrics", "task", "programs"}
TIERS = {"lock", "store", "calls", "evaluate", "training", "reports"}
MAY_IMPORT: dict[str, set[str]] = {
    "secrets": set(),
    "errors": {"secrets"},
    "core": {"secrets", "errors"},
    "endpoints": {"secrets", "errors"},
    "sandbox": set(),
    "dataset": FOUNDATION,
    "metrics": FOUNDATION,
    "task": FOUNDATION | {"dataset", "metrics"},
    "programs": FOUNDATION | {"dataset"},
    "lock": FOUNDATION,
    "store": FOUNDATION,
    "calls": FOUNDATION,
    "evaluate": FOUNDATION | AUTHORING | {"calls"},
    "training": FOUNDATION | AUTHORING | {"calls"},
    "reports": FOUNDATION,
    "workflow": FOUNDATION | AUTHORING | TIERS | {"sandbox"},
    "plugin": FOUNDATION | AUTHORING | TIERS | {"sandbox", "workflow"},
    "cli": FOUNDATION | AUTHORING | TIERS | {"sandbox", "workflow"},
    "production": FOUNDATION | AUTHORING | TIERS | {"sandbox", "workflow"},
    "__main__": {"cli"},
    "": FOUNDATION | AUTHORING | {"production"},
}
HEAVY = {
    "dspy",
    "openai",
    "httpx",
    "sklearn",
    "numpy",
    "scipy",
    "rich",
    "jinja2",
    "optuna",
    "starlette",
    "uvicorn",
}
MODULES = sorted(ROOT.rglob("*.py"))


def tier_of(path: Path) -> str:
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py").removeprefix("__init__")


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Every module that a file imports, in full; only those that loading the file imports, if asked."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = (PACKAGE, *path.relative_to(ROOT).parts[:-1])
    for node in _at_load(tree) if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            yield from (f"{base}{node.module or alias.name}" for alias in node.names)


def _at_load(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in tree.body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            yield from node.body + node.orelse
        yield node


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    allowed = MAY_IMPORT[tier_of(path)] | {tier_of(path)}
    ours = {name.split(".")[1] for name in imports(path) if name.startswith(f"{PACKAGE}.")}
    assert ours - allowed == set()


# The sandbox is a process of its own: what it imports, pytest does not load.
IN_PYTEST = [path for path in MODULES if tier_of(path) != "sandbox"]


@pytest.mark.parametrize("path", IN_PYTEST, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_are_imported_inside_functions(path: Path) -> None:
    found = {name.split(".")[0] for name in imports(path, top_level=True)}
    assert found & HEAVY == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pytest_is_imported_in_the_plugin_only(path: Path) -> None:
    found = {name.split(".")[0] for name in imports(path)}
    assert ("pytest" not in found) or tier_of(path) == "plugin"


def test_every_tier_has_its_rule() -> None:
    assert {tier_of(path) for path in MODULES} <= set(MAY_IMPORT)

"""Canonical form -> SHA-256, of data and of source code.

A fingerprint says whether two things are the same thing. It must therefore be the same on Python 3.10 to
3.14, on every machine, and after a formatter has been run over the source.

* Data is written as JSON with sorted keys, no spaces and no escapes, in UTF-8 (in the spirit of RFC 8785,
  with Python's ``repr`` of floats: ``1`` and ``1.0`` differ). Text is not normalised: two spellings are two
  values.
* Source is hashed as its syntax tree without positions, comments, type hints and docstrings of functions,
  since none of these changes what is computed. ``ast.dump`` and byte code differ between Python versions; the
  walk below does not.
"""

from __future__ import annotations

import ast
import dataclasses
import datetime as dt
import decimal
import enum
import hashlib
import importlib.util
import inspect
import json
import linecache
import math
import sys
import sysconfig
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeAlias

from pytest_finetune.core.text import encoded
from pytest_finetune.errors import UsageError

__all__ = ["canonical_json", "data_fingerprint", "digest", "plain", "row_id", "source_fingerprint"]

_Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"
_INSTALLED = tuple(Path(sysconfig.get_paths()[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_OURS = Path(__file__).parents[1]
_ALL = "*"
_WRITTEN_AS_TEXT = (dt.date, dt.time, decimal.Decimal, uuid.UUID)


# --- data ---------------------------------------------------------------------------------------------------


def plain(value: object) -> Any:
    """Turn ``value`` into what JSON can hold: the one form in which values are hashed and compared.

    Enums become their value, tuples lists, sets sorted lists, pydantic models and dataclasses objects; dates,
    decimals and UUIDs become text.

    Raises:
        UsageError: for NaN, infinity, keys that are not text, and types that have no canonical form.
    """
    kind = type(value)
    if value is None or kind is str or kind is int or kind is bool:  # most values: asked first, since rows are many
        return value
    if kind is dict:
        return {_text_key(key): plain(item) for key, item in value.items()}  # type: ignore[attr-defined]  # a dict
    if kind is list or kind is tuple:
        return [plain(item) for item in value]  # type: ignore[attr-defined]  # likewise
    return _plain_other(value)


def _plain_other(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, Mapping):
        return {_text_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return _plain_object(value)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise UsageError(f"{value!r} is not a number that can be kept: use null where there is none")
    return value


def _text_key(key: object) -> str:
    if not isinstance(key, str):
        raise UsageError(f"the key {key!r} is not text: name the fields of an object with strings")
    return key


def _plain_object(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=canonical_json)
    if isinstance(value, _WRITTEN_AS_TEXT):
        return str(value)
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    raise UsageError(
        f"a value of type {type(value).__name__} has no canonical form: use text, numbers, lists, objects, "
        "dates, enums, dataclasses or pydantic models"
    )


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: object) -> bytes:
    """Write ``value`` as JSON that is the same bytes wherever it is written.

    Raises:
        UsageError: where ``plain`` does, and for text that UTF-8 cannot hold (half of a surrogate pair).
    """
    return encoded(_CANONICAL.encode(plain(value)))


def digest(value: object) -> str:
    """Give the SHA-256 of ``value``'s canonical form, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def row_id(fields: Mapping[str, object]) -> str:
    """Name a row by its content, in 16 hexadecimal digits (a million rows collide with a chance of 3e-8)."""
    return digest(fields)[:16]


def data_fingerprint(row_ids: Iterable[str]) -> str:
    """Give the fingerprint of a set of rows, whatever their order."""
    return digest(sorted(row_ids))


# --- source -------------------------------------------------------------------------------------------------


def source_fingerprint(function: Callable[..., object]) -> str:
    """Give the fingerprint of what a function's source says.

    Covered are the function, what it reaches by name in its own module (functions, classes, constants, which
    names are imported from where), the values it closes over, and what it reaches in other modules of the project.
    Not covered are the insides of modules that are installed.

    Args:
        function: a function written in a file. A decorated one is followed through ``functools.wraps``.

    Raises:
        UsageError: for lambdas, callable objects, and functions whose source cannot be read.
    """
    return digest(_parts(function, frozenset()))


def _parts(function: Callable[..., object], seen: frozenset[CodeType]) -> dict[str, Any]:
    function = inspect.unwrap(function)
    if not isinstance(function, FunctionType):
        raise _unreadable(function, "is not a plain function")
    code = function.__code__
    tree = _module_tree(function)
    node = _definition(tree, function)
    parts = {f"closure {name}": value for name, value in _closure(function, seen | {code}).items()}
    parts["function"] = _canonical(node)
    home = _Home(str(function.__globals__.get("__package__") or ""), tree)
    return parts | _reached(home, _reads(node) - set(code.co_freevars), {})


def _module_tree(function: FunctionType) -> ast.Module:
    filename = function.__code__.co_filename
    linecache.checkcache(filename)
    lines = linecache.getlines(filename, function.__globals__)
    if function.__name__ == "<lambda>":
        raise _unreadable(function, "is a lambda")
    if filename.startswith("<") or not lines:
        raise _unreadable(function, f"has no readable source ({filename})")
    return ast.parse("".join(lines))


def _definition(tree: ast.Module, function: FunctionType) -> _Function:
    """Find the function by its line: names may repeat in a module."""
    code = function.__code__
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first == code.co_firstlineno:
                return node
    raise _unreadable(function, f"is no longer where it was when {code.co_filename} was imported")


def _unreadable(function: Any, reason: str) -> UsageError:
    name = getattr(function, "__qualname__", type(function).__name__)
    return UsageError(
        f"{name} {reason}, so a change of it could not be noticed: write it as a `def` in a file, or pass version="
    )


def _closure(function: FunctionType, seen: frozenset[CodeType]) -> dict[str, Any]:
    """Values that the function took along from the function around it."""
    values: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name == "__class__":  # of ``super()``: the class that the method is in, which says nothing new
            continue
        held = cell.cell_contents
        if not isinstance(held, FunctionType):
            try:
                values[name] = plain(held)
            except UsageError:
                raise _unreadable(function, f"closes over {name!r}, a {type(held).__name__}") from None
        elif held.__code__ not in seen:
            values[name] = _parts(held, seen)
    return values


@dataclasses.dataclass(frozen=True)
class _Home:
    """A module in which names are looked up.

    Attributes:
        package: From which its relative imports start.
        tree: Its source.
        prefix: How its names are told from those of the function's own module, where it is another.
    """

    package: str
    tree: ast.Module
    prefix: str = ""


def _reached(home: _Home, names: set[str], found: dict[str, Any]) -> dict[str, Any]:
    """Everything at the top of the module that ``names`` lead to, however indirectly; added to what was found."""
    bindings, pending = _bindings(home.tree), set(names)
    while pending:
        name = pending.pop()
        key, statements = f"name {home.prefix}{name}", bindings.get(name, bindings.get(_ALL, []))
        if statements and key not in found:
            found[key] = [_canonical(statement) for statement in statements]
            pending.update(*map(_reads, statements))
            for module, wanted in _imported(statements, home.package):
                _reached_in(module, name if wanted == _ALL else wanted, found)
    return found


def _reached_in(module: ModuleType, wanted: str | None, found: dict[str, Any]) -> None:
    """What a name of another module of the project leads to; of a module that is imported as such, all of them."""
    file = str(module.__file__)
    linecache.checkcache(file)
    tree = ast.parse("".join(linecache.getlines(file)))
    home = _Home(module.__package__ or "", tree, f"{module.__name__}.")
    _reached(home, set(_bindings(tree)) if wanted is None else {wanted}, found)


def _imported(statements: Iterable[ast.stmt], package: str) -> Iterator[tuple[ModuleType, str | None]]:
    """The modules of the project that statements import, each with the name that is taken from it."""
    for statement in statements:
        named: list[tuple[str, str | None]]
        if isinstance(statement, ast.Import):
            named = [(alias.name, None) for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            base = "." * statement.level + (statement.module or "")
            base = importlib.util.resolve_name(base, package) if statement.level else base
            named = [*((base, alias.name) for alias in statement.names)]
            named += [(f"{base}.{alias.name}", None) for alias in statement.names]  # it may be a module
        else:
            continue
        for name, wanted in named:
            module = sys.modules.get(name)
            if module is not None and _is_of_the_project(module):
                yield module, wanted


def _is_of_the_project(module: ModuleType) -> bool:
    """Whether a module is written by the user: it is a file, and neither Python's, nor installed, nor ours."""
    file = getattr(module, "__file__", None)
    if not file or not file.endswith(".py"):
        return False
    return not any(Path(file).is_relative_to(folder) for folder in (*_INSTALLED, _OURS))


def _bindings(tree: ast.Module) -> dict[str, list[ast.stmt]]:
    """The statements at the top of a module that give each of its names a value."""
    found: dict[str, list[ast.stmt]] = {}
    for statement in _top_level(tree.body):
        for name, binding in _bound(statement):
            found.setdefault(name, []).append(binding)
    return found


def _top_level(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    for node in nodes:
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _top_level(
                child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.excepthandler)
            )


def _bound(statement: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name, statement
    elif isinstance(statement, ast.Import):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0], ast.Import([alias])
    elif isinstance(statement, ast.ImportFrom):
        for alias in statement.names:
            yield alias.asname or alias.name, ast.ImportFrom(statement.module, [alias], statement.level)
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for node in (node for target in targets for node in ast.walk(target)):
            if isinstance(node, ast.Name):
                yield node.id, statement


def _canonical(node: object) -> Any:
    """Write a syntax tree as lists and objects, without what differs between versions or is idle."""
    if isinstance(node, list):
        return [_canonical(item) for item in node]
    if isinstance(node, ast.Constant):
        return [type(node.value).__name__, ascii(node.value)]
    if not isinstance(node, ast.AST):
        return node
    return {"": type(node).__name__} | {name: _canonical(value) for name, value in _meaning(node)}


_MEANINGLESS = frozenset({"ctx", "kind", "type_comment", "type_params", "returns"})
_DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _meaning(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """The fields of a node that change what is computed."""
    for name, value in ast.iter_fields(node):
        if isinstance(node, ast.JoinedStr):
            yield name, [part for part in node.values if not _is_empty(part)]
        elif name == "body" and isinstance(node, _DOCUMENTED):
            yield from _body(node)
        elif isinstance(node, ast.arg) and name == "annotation":
            continue
        elif name not in _MEANINGLESS and value is not None and value != []:
            yield name, value


def _is_empty(part: ast.expr) -> bool:
    """Whether a part of an f-string is the nothing that Python 3.12 puts at the ends of some."""
    return isinstance(part, ast.Constant) and part.value == ""


def _body(node: _Function | ast.ClassDef) -> Iterator[tuple[str, Any]]:
    """The docstring of a class is kept: that of a signature is its instruction. Formatters trim its lines."""
    doc = ast.get_docstring(node)
    if doc is not None and isinstance(node, ast.ClassDef):
        yield "docstring", "\n".join(line.rstrip() for line in doc.splitlines())
    yield "body", node.body if doc is None else node.body[1:]


def _reads(node: object) -> set[str]:
    """Names that ``node`` takes from the scope around it."""
    if isinstance(node, list):
        return set().union(*map(_reads, node))
    if isinstance(node, ast.Name):
        return {node.id}
    if not isinstance(node, ast.AST):
        return set()
    names: set[str] = set().union(*(_reads(value) for _, value in _meaning(node)))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return names - _locals(node)
    return names


def _locals(function: _Function | ast.Lambda) -> set[str]:
    """Names that belong to the function itself, so that a namesake in the module is not meant."""
    names = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
    declared: set[str] = set()
    for node in _own_scope(function.body):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.Global):
            declared.update(node.names)
    return names - declared


def _own_scope(body: ast.expr | list[ast.stmt]) -> Iterator[ast.AST]:
    for node in body if isinstance(body, list) else [body]:
        pending: list[ast.AST] = [node]
        while pending:
            inner = pending.pop()
            yield inner
            if not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                pending.extend(ast.iter_child_nodes(inner))

"""Importing tasks files, so that nobody gets those of another folder under a name that both folders have.

Python keeps one module for a name. A file whose name no other tasks file has is loaded under it, with its folder on
``sys.path``. Files that share a name are loaded by their path from the rootdir (``teams.a.finetune_tasks``), with the
rootdir on ``sys.path`` too, and their plain name is refused: it would be that of whichever came first.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

from pytest_finetune.errors import FinetuneError, UsageError


class _SharedNames(MetaPathFinder):
    """Refuses to import what several tasks files are called, and says what to write instead."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:  # noqa: ARG002  # as it is called
        if fullname in self.names:
            told = " or ".join(f"`from {name} import …`" for name in self.names[fullname])
            raise ImportError(
                f"several tasks files are called {fullname!r}, and each would get the one that came first: write"
                f" {told}, or take the task from the fixture ft_task"
            )


_SHARED = _SharedNames()


def import_files(files: Sequence[Path], root: Path) -> Iterator[tuple[Path, ModuleType]]:
    """Import tasks files, or give what was imported before: a test that imports one gets the same objects.

    Args:
        files: The tasks files.
        root: The project.

    Raises:
        UsageError: If one cannot be imported, or would get a module of another folder.
    """
    _refuse_plain_names(files, root)
    folders = {path.parent for path in files}
    for path in files if len(folders) > 1 else ():
        _refuse_others(path, folders, root)
    for path in files:
        yield path, _import(path, root)


def _refuse_plain_names(files: Sequence[Path], root: Path) -> None:
    """See that the name of several files is nobody's.

    Raises:
        UsageError: If one of them was imported under it before.
    """
    counts = Counter(path.stem for path in files)
    shared = [path for path in files if counts[path.stem] > 1]
    _SHARED.names = {path.stem: [] for path in shared}
    if shared and _SHARED not in sys.meta_path:
        sys.meta_path.insert(0, _SHARED)
    for path in shared:
        if _is_loaded(path.stem, path):
            raise UsageError(
                f"{path} was imported as {path.stem!r}, which several tasks files are called: import it as"
                f" {_dotted(path, root)!r}, with the rootdir on sys.path (pythonpath = . in pytest's ini)"
            )
        if path.parent != root:
            _SHARED.names[path.stem].append(_dotted(path, root))


def _refuse_others(path: Path, folders: set[Path], root: Path) -> None:
    """What a tasks file imports from beside it, by a plain name, must not be what another tasks file has beside it.

    Raises:
        UsageError: If it may be.
    """
    folder, pending, seen = path.parent, [path], {path}
    while pending:
        file = pending.pop()
        for name, line in _plain_imports(file):
            beside = _module(folder, name)
            others = [found for other in folders - {folder} if (found := _module(other, name))]
            if beside and others:
                raise UsageError(
                    f"{file}:{line}: {name!r} may be {beside} or {others[0]}, whichever was imported first: import"
                    f" it as {_dotted(beside, root)!r}"
                )
            if beside and beside not in seen:
                seen.add(beside)
                pending.append(beside)


def _plain_imports(file: Path) -> Iterator[tuple[str, int]]:
    """The top-level modules that a file imports, each with its line; what is no Python is told of later."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0], node.lineno


def _module(folder: Path, name: str) -> Path | None:
    """The file that a name would be imported from, were the folder the first on ``sys.path``."""
    return next((file for file in (folder / f"{name}.py", folder / name / "__init__.py") if file.is_file()), None)


def _dotted(path: Path, root: Path) -> str:
    """The name of a module by its path from the rootdir."""
    parts = path.with_suffix("").relative_to(root).parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(parts if len(parts) > 1 else ("rootdir", *parts))


def _is_loaded(name: str, path: Path) -> bool:
    return Path(getattr(sys.modules.get(name), "__file__", None) or "").resolve() == path.resolve()


def _import(path: Path, root: Path) -> ModuleType:
    shared = path.stem in _SHARED.names
    name = _dotted(path, root) if shared else path.stem
    if _is_loaded(name, path):
        return sys.modules[name]
    if name in sys.modules:
        raise UsageError(f"{path} cannot be loaded as {name!r}: another module has that name. Rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    for folder in (path.parent, *([root] if shared else [])):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        _join(name, module)
    except FinetuneError as error:
        del sys.modules[name]
        raise UsageError(f"{_where(error, path)}: {error}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the user's file may raise anything
        del sys.modules[name]
        raise UsageError(f"{_where(error, path)}: {type(error).__name__}: {error}") from None
    return module


def _join(name: str, module: ModuleType) -> None:
    """Make a module an attribute of its package, as an import does, if its folders are one."""
    package, _, last = name.rpartition(".")
    if package:
        with suppress(ImportError):
            setattr(importlib.import_module(package), last, module)


def _where(error: BaseException, path: Path) -> str:
    """The line of the user's file at which loading it went wrong."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)

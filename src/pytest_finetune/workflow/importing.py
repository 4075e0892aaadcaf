"""Importing tasks files, so that nobody gets those of another folder under a name that both folders have.

Python keeps one module for a name. A file whose name no other tasks file has is loaded under it, with its folder on
``sys.path``. Files that share a name are loaded by their path from the rootdir (``teams.a.finetune_tasks``), with the
rootdir on ``sys.path`` too, and their plain name is refused: it would be that of whichever came first.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import keyword
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
    """Refuses to import what several tasks files are called, and says what to do instead."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:  # noqa: ARG002  # as it is called
        if fullname in self.names:
            raise ImportError(
                f"several tasks files are called {fullname!r}, and each would get the one that came first:"
                f" {self.names[fullname]}"
            )


_SHARED = _SharedNames()


def import_files(files: Sequence[Path], root: Path, known: Sequence[Path]) -> Iterator[tuple[Path, ModuleType]]:
    """Import tasks files, or give what was imported before: a test that imports one gets the same objects.

    Args:
        files: The tasks files.
        root: The project.
        known: All that the project has. What they are called decides how a file is imported; no other is.

    Raises:
        UsageError: If one cannot be imported, or would get a module of another folder.
    """
    _refuse_plain_names(files, root, known)
    folders = {path.parent for path in known}
    for path in files if len(folders) > 1 else ():
        _refuse_others(path, folders, root)
    for path in files:
        yield path, _import(path, root)


def _refuse_plain_names(files: Sequence[Path], root: Path, known: Sequence[Path]) -> None:
    """See that the name of several files is nobody's.

    Raises:
        UsageError: If one that is to be imported was imported under it before.
    """
    counts = Counter(path.stem for path in known)
    shared = [name for name, count in counts.items() if count > 1]
    _SHARED.names = {name: _instead([path for path in known if path.stem == name], root) for name in shared}
    if shared and _SHARED not in sys.meta_path:
        sys.meta_path.insert(0, _SHARED)
    for path in files:
        if path.stem in shared and _is_loaded(path.stem, path):
            told = _instead([path], root)
            raise UsageError(f"{path} was imported as {path.stem!r}, which several tasks files are called: {told}")


def _instead(files: Sequence[Path], root: Path) -> str:
    """What a test is to do that has imported one of these files by its plain name: it alone knows which it meant."""
    names = {path.relative_to(root).as_posix(): _written(path, root) for path in files}
    known = ", ".join(f"{path} is {name!r}" for path, name in names.items() if name)
    told = "take the task from the fixture ft_task"
    if known:
        told += (
            f", or import the file that is meant by its path from the rootdir ({known}), which must be on sys.path"
            " (pythonpath = . in pytest's ini)"
        )
    return told


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
                written = _written(beside, root)
                told = f"import it as {written!r}" if written else f"rename {beside}"
                raise UsageError(
                    f"{file}:{line}: {name!r} may be {beside} or {others[0]}, whichever was imported first: {told}"
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


def _parts(path: Path, root: Path) -> tuple[str, ...]:
    parts = path.with_suffix("").relative_to(root).parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def _dotted(path: Path, root: Path) -> str:
    """The name under which a tasks file is loaded that shares its own."""
    parts = _parts(path, root)
    return ".".join(parts if len(parts) > 1 else ("rootdir", *parts))


def _written(path: Path, root: Path) -> str | None:
    """The same as an import statement can write it: only of what is in a folder, and Python names all the way."""
    parts = _parts(path, root)
    names = all(part.isidentifier() and not keyword.iskeyword(part) for part in parts)
    return ".".join(parts) if len(parts) > 1 and names else None


def _is_loaded(name: str, path: Path) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and Path(file).resolve() == path.resolve()


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
        _join(name, module, path)
    except FinetuneError as error:
        del sys.modules[name]
        raise UsageError(f"{_where(error, path)}: {error}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the user's file may raise anything
        del sys.modules[name]
        raise UsageError(f"{_where(error, path)}: {type(error).__name__}: {error}") from None
    return module


def _join(name: str, module: ModuleType, path: Path) -> None:
    """Make a module an attribute of its package, as an import does, if that package is the folders it is in.

    Another module may have the package's name, and is not run.
    """
    package, _, last = name.rpartition(".")
    if not package:
        return
    folder = path.resolve().parents[package.count(".")]
    with suppress(ImportError, ValueError):  # the latter: a module that has no spec
        spec = importlib.util.find_spec(package.partition(".")[0])
        if spec and any(Path(place).resolve() == folder for place in spec.submodule_search_locations or ()):
            setattr(importlib.import_module(package), last, module)


def _where(error: BaseException, path: Path) -> str:
    """The line of the user's file at which loading it went wrong."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)

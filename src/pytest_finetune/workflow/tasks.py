"""Finding tasks: every `Task` at the top level of a tasks file, under its name or its variable's."""

from __future__ import annotations

import difflib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from pytest_finetune.errors import FinetuneError, UsageError
from pytest_finetune.task import Task


class Tasks(Mapping[str, Task]):
    """The tasks of a project, by name.

    Args:
        tasks: Each with its name set.
        files: The files they were read from, for messages.
    """

    def __init__(self, tasks: Mapping[str, Task], files: Sequence[Path]) -> None:
        self._tasks = dict(tasks)
        self.files = tuple(files)

    def __getitem__(self, name: str) -> Task:
        try:
            return self._tasks[name]
        except KeyError:
            raise UsageError(self._unknown(name)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def _unknown(self, name: str) -> str:
        files = ", ".join(str(path) for path in self.files)
        close = difflib.get_close_matches(name, self._tasks, n=1)
        hint = f": did you mean {close[0]!r}?" if close else f"; there are: {', '.join(self._tasks) or 'none'}"
        return f"there is no task {name!r} in {files}{hint}"


def load_tasks(root: Path, patterns: Sequence[str]) -> Tasks:
    """Import the tasks files and collect their tasks.

    Each file is loaded under its plain module name with its folder on ``sys.path``, so that a test which imports it
    gets the same objects.

    Args:
        root: The project.
        patterns: Globs of files, from the root.

    Raises:
        UsageError: If no file is there, one cannot be imported, or two tasks have one name.
    """
    if any(Path(pattern).is_absolute() for pattern in patterns):
        raise UsageError(f"setting 'tasks': {' '.join(patterns)}: give globs that start at the rootdir {root}")
    files = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    if not files:
        raise UsageError(
            f"there is no tasks file: {', '.join(patterns)} not found in {root}. Write one with a Task in it, or say"
            " where it is: [tool.pytest-finetune] tasks"
        )
    tasks: dict[str, Task] = {}
    owners: dict[str, Path] = {}
    for path in files:
        for name, task in _tasks_of(_import(path)):
            task.bind(name, path.parent)
            if tasks.get(task.id, task) is not task:
                raise UsageError(f"two tasks are called {task.id!r}, in {owners[task.id]} and {path}: rename one")
            tasks[task.id], owners[task.id] = task, path
    return Tasks(tasks, files)


def _tasks_of(module: ModuleType) -> list[tuple[str, Task]]:
    return [(name, value) for name, value in vars(module).items() if isinstance(value, Task)]


def _import(path: Path) -> ModuleType:
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and Path(getattr(loaded, "__file__", "") or "") == path:
        return loaded
    if loaded is not None:
        raise UsageError(f"{path} cannot be loaded as {name!r}: another module has that name. Rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except FinetuneError as error:
        del sys.modules[name]
        raise UsageError(f"{_where(error, path)}: {error}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001  # the user's file may raise anything
        del sys.modules[name]
        raise UsageError(f"{_where(error, path)}: {type(error).__name__}: {error}") from None
    return module


def _where(error: BaseException, path: Path) -> str:
    """The line of the user's file at which loading it went wrong."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)

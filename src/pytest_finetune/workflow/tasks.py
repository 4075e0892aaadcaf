"""Finding tasks: every `Task` at the top level of a tasks file, under its name or its variable's.

What tells a task from all others is its id: its name, behind the folder of its tasks file (``teams/a/tickets``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath
from types import ModuleType

from pytest_finetune.errors import UsageError
from pytest_finetune.task import Task
from pytest_finetune.workflow.importing import import_files


class Tasks(Mapping[str, Task]):
    """The tasks of a project, by id.

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

    def called(self, name: str, folder: PurePath) -> str:
        """The id of a task as a test calls it: that of the nearest folder, from the test's own up to the rootdir.

        Args:
            name: Such as ``tickets``; an id is one everywhere.
            folder: That of the test, from the rootdir.

        Raises:
            UsageError: If none of these folders has such a task. Those of other folders are named, and never taken.
        """
        here = PurePosixPath(folder.as_posix())
        for place in (here, *here.parents):
            if str(place / name) in self._tasks:
                return str(place / name)
        raise UsageError(self._unknown(name))

    def _unknown(self, name: str) -> str:
        files = ", ".join(str(path) for path in self.files)
        elsewhere = [each for each in self._tasks if each.endswith(f"/{name}")]
        close = difflib.get_close_matches(name, self._tasks, n=1)
        hint = f": did you mean {close[0]!r}?" if close else f"; there are: {', '.join(self._tasks) or 'none'}"
        if elsewhere:
            hint = f": name one by its id: {', '.join(elsewhere)}"
        return f"there is no task {name!r} in {files}{hint}"


def tasks_files(root: Path, patterns: Sequence[str]) -> tuple[Path, ...]:
    """The tasks files of a project, which may have none.

    Args:
        root: The project.
        patterns: Globs of files, from the root.

    Raises:
        UsageError: If a pattern begins elsewhere.
    """
    if any(Path(pattern).is_absolute() for pattern in patterns):
        raise UsageError(f"setting 'tasks': {' '.join(patterns)}: give globs that start at the rootdir {root}")
    return tuple(dict.fromkeys(path for pattern in patterns for path in sorted(root.glob(pattern))))


def folder_of(path: Path, root: Path) -> str:
    """Where a tasks file is, from the rootdir; empty: there."""
    folder = path.parent.relative_to(root).as_posix()
    return "" if folder == "." else folder


def load_tasks(root: Path, patterns: Sequence[str], folder: str | None = None) -> Tasks:
    """Import the tasks files and collect their tasks.

    Args:
        root: The project.
        patterns: Globs of files, from the root.
        folder: Import only those of this folder, from the root; where it has none, those of the root itself, since a
            folder may be deployed alone. ``None``: all.

    Raises:
        UsageError: If no file is there, one cannot be imported, two tasks have one name, or one is in two folders.
    """
    known = tasks_files(root, patterns)
    files = known if folder is None else _of_folder(known, root, folder)
    if not files:
        raise UsageError(
            f"there is no tasks file: {', '.join(patterns)} not found in {root / (folder or '')}. Write one with a"
            " Task in it, or say where it is: [tool.pytest-finetune] tasks"
        )
    modules = import_files(files, root, known)
    found = [(path, name, task) for path, module in modules for name, task in _tasks_of(module)]
    _refuse_shared(found)
    tasks: dict[str, Task] = {}
    owners: dict[str, Path] = {}
    for path, name, task in found:
        task.bind(name, root, folder_of(path, root))
        if tasks.get(task.id, task) is not task:
            raise UsageError(f"two tasks are called {task.id!r}, in {owners[task.id]} and {path}: rename one")
        tasks[task.id], owners[task.id] = task, path
    return Tasks(tasks, files)


def _of_folder(files: Sequence[Path], root: Path, folder: str) -> tuple[Path, ...]:
    here = tuple(path for path in files if folder_of(path, root) == folder)
    return here or tuple(path for path in files if not folder_of(path, root))


def _tasks_of(module: ModuleType) -> list[tuple[str, Task]]:
    return [(name, value) for name, value in vars(module).items() if isinstance(value, Task)]


def _refuse_shared(found: Iterable[tuple[Path, str, Task]]) -> None:
    """One object in the files of two folders would be the task of either."""
    first: dict[int, Path] = {}
    for path, name, task in found:
        other = first.setdefault(id(task), path)
        if other.parent != path.parent:
            raise UsageError(
                f"the task {name!r} is in {other} and in {path}: a task is of one folder. Import the module of the"
                " other folder, and not its task"
            )

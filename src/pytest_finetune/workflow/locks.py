"""Where tasks are pinned: each in one lock, which is beside its tasks file unless another one is named."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pytest_finetune.core.shell import typed
from pytest_finetune.errors import LockError
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.file import read_lock, write_lock
from pytest_finetune.lock.model import Lock
from pytest_finetune.lock.signatures import read_trusted
from pytest_finetune.workflow.settings import LOCK, Settings
from pytest_finetune.workflow.tasks import folder_of, tasks_files

CANDIDATE = "candidate.lock"
CANDIDATE_OF = "candidate.of"


@dataclass
class Locks:
    """The locks of a run.

    A task is in the lock that has it. One that is in none goes to a lock that was given and is beside its tasks file;
    else to one that was given and is beside no tasks file; else to ``models.lock`` beside its tasks file.

    Args:
        settings: The locks that were given, and the tasks files.
        building: The run builds models: it also reads the locks that these would go to, and none need be there.
    """

    settings: Settings
    building: bool = False

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """The files: those that were given; else those of the project, of which each need not be there."""
        given, default = self.settings.models, self._root / LOCK
        if given and not self.building:
            return given
        given = tuple(path for path in given if path != self.candidate)  # nothing enters that one
        homes = [self._home(folder) for folder in self._folders]
        also = [default] if default.exists() and not given else []
        return tuple(dict.fromkeys([*given, *homes, *also])) or (default,)

    @property
    def there(self) -> tuple[Path, ...]:
        """Those to look at: what was given; else what the project has, or its first lock, which is missing."""
        found = tuple(path for path in self.paths if path.exists())
        return self.settings.models or found or self.paths[:1]

    @cached_property
    def held(self) -> dict[Path, Lock]:
        """What is in each of those that are there.

        Raises:
            LockError: If one is damaged or not signed as it must be, or a task is in two.
        """
        found = {path: read_trusted(path, self.settings.verify) for path in self.paths if path.exists()}
        owners: dict[str, Path] = {}
        for path, lock in found.items():
            for task in lock.tasks:
                if owners.setdefault(task, path) != path:
                    raise LockError(
                        f"task {task!r} is in two locks, {self.shown(owners[task])} and {self.shown(path)}: name one"
                        " of them, or take its [[model]] blocks out of the other"
                    )
        return found

    @cached_property
    def _owners(self) -> dict[str, Path]:
        """The lock of each task that is in one."""
        return {task: path for path, lock in self.held.items() for task in lock.tasks}

    @property
    def pinned(self) -> Lock:
        """All that they pin."""
        return Lock(model=tuple(entry for lock in self.held.values() for entry in lock.models))

    def check(self) -> None:
        """Refuse locks that must be there and are not.

        Raises:
            LockError: If one that was given is missing; if none was given, and there is none.
        """
        missing = [path for path in self.paths if not path.exists()]
        if missing and (self.settings.models or len(missing) == len(self.paths)):
            raise LockError(
                f"there is no lock at {missing[0]}: build the models and write it with pytest --ft-retrain"
            )

    def check_task(self, task: str) -> None:
        """Refuse a task that is in none of several locks, or in one that was not given.

        Raises:
            LockError: With the locks, or the one that has it.
        """
        if task in self._owners:
            return
        home = self._home(task.rpartition("/")[0])
        if home not in self.paths and home.exists() and task in read_lock(home).tasks:
            raise LockError(
                f"task {task!r} belongs in {self.shown(home)}, which is not given: add"
                f" --finetune-models={typed(home)}"
            )
        if len(self.held) > 1:
            known = ", ".join(map(self.shown, self.held))
            raise LockError(f"none of the locks ({known}) has task {task!r}: pytest --ft-retrain --ft-task {task}")

    def of(self, task: str) -> Path:
        """The lock that a task is in, or would go to."""
        return self._owners.get(task) or self._home(task.rpartition("/")[0])

    def judged(self, task: str) -> Path:
        """The lock that the claims on a task are judged on."""
        return self.candidate if self.building else self.of(task)

    def usual(self, task: str) -> Path:
        """The lock that a task is in where nobody names one."""
        return self._place(task.rpartition("/")[0]) / LOCK

    def artifacts(self, task: str) -> Artifacts:
        """The files beside the lock of a task; those of a candidate are beside the lock that it is to enter."""
        path = self.of(task)
        return Artifacts.beside(self._entered.get(task, path) if path == self.candidate else path)

    def without_claim(self, tasks: Collection[str]) -> list[Path]:
        """The locks that have none of these tasks."""
        return [path for path, lock in self.held.items() if not set(lock.tasks) & set(tasks)]

    def nearest(self, test: Path) -> Path:
        """The lock that a test is likely to be about: that of the nearest folder up from it."""
        return next((path for folder in test.parents for path in self.paths if path.parent == folder), self.paths[0])

    def shown(self, path: Path) -> str:
        """A lock as it is named from the rootdir."""
        return path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else str(path)

    @property
    def command(self) -> str:
        """What gates all of them."""
        return " ".join(["pytest", *(f"--finetune-models={typed(path)}" for path in self.paths)])

    @cached_property
    def _folders(self) -> tuple[str, ...]:
        """Where there are tasks files, from the rootdir."""
        settings = self.settings
        files = tasks_files(settings.root, settings.tasks)
        return tuple(dict.fromkeys(folder_of(path, settings.root) for path in files))

    def _home(self, folder: str) -> Path:
        """Where a new task of a folder goes to."""
        here, taken = self._place(folder), [self._place(each) for each in self._folders]
        beside = [path for path in self.settings.models if path.parent == here]
        free = [path for path in self.settings.models if path.parent not in taken and path != self.candidate]
        return [*beside, *free, here / LOCK][0]

    def _place(self, folder: str) -> Path:
        return (self._root / folder).resolve()

    @cached_property
    def _root(self) -> Path:
        return self.settings.root.resolve()

    # --- the candidate ----------------------------------------------------------------------------------------

    @property
    def candidate(self) -> Path:
        """Where what was built is kept until it holds."""
        return (self.settings.folder / CANDIDATE).resolve()

    def keep_candidate(self, lock: Lock) -> None:
        """Keep what was built, and which lock each task is to enter: the files are beside that one."""
        write_lock(self.candidate, lock)
        entered = {task: self.shown(self.of(task)) for task in lock.tasks}
        (self.settings.folder / CANDIDATE_OF).write_text(json.dumps(entered, indent=1), encoding="utf-8")

    @cached_property
    def _entered(self) -> dict[str, Path]:
        """The lock that each task of the candidate is to enter."""
        told = self.settings.folder / CANDIDATE_OF
        try:
            entered = json.loads(told.read_text(encoding="utf-8")) if told.exists() else {}
            return {task: self._root / path for task, path in entered.items()}
        except (ValueError, AttributeError, TypeError, RecursionError):
            raise LockError(f"{told} is damaged: build the candidate anew with pytest-finetune train") from None

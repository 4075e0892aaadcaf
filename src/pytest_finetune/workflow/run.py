"""One run: its settings, tasks, lock, rows and endpoints, each made when it is first needed."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_finetune.core.claims import LOCKED, Claim, parse
from pytest_finetune.endpoints import SANDBOX
from pytest_finetune.errors import LockError
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.file import read_lock
from pytest_finetune.lock.model import Lock
from pytest_finetune.store import Store
from pytest_finetune.task import Task
from pytest_finetune.workflow.connections import Connections
from pytest_finetune.workflow.gate import Gate
from pytest_finetune.workflow.settings import LOCK, Settings
from pytest_finetune.workflow.stages import Evaluator
from pytest_finetune.workflow.tasks import Tasks, load_tasks

if TYPE_CHECKING:
    import dspy

STORE = "rows.sqlite"
CANDIDATE = "candidate.lock"


class Run:
    """What one process needs to gate or to build models.

    Args:
        settings: The run's settings.
        retrain: The run builds models first, and judges the candidate.
        shared: Where the processes of one run tell each other the address of their one sandbox; ``None``: there is
            one process only.
        joins: The process is a worker: the store was made by another.
    """

    def __init__(
        self, settings: Settings, *, retrain: bool = False, shared: Path | None = None, joins: bool = False
    ) -> None:
        self.settings = settings
        self.retrain = retrain
        self._shared = shared
        self._joins = joins
        self._open = ExitStack()

    @property
    def candidate(self) -> Path:
        """Where what was built is kept until it holds."""
        return self.settings.folder / CANDIDATE

    @cached_property
    def tasks(self) -> Tasks:
        """The tasks of the project."""
        return load_tasks(self.settings.root, self.settings.tasks)

    @cached_property
    def accepted(self) -> Lock:
        """The lock as it is on disk.

        Raises:
            LockError: If it is damaged, or missing where it must be there.
        """
        path = self.settings.lock
        if self.retrain and not path.exists():
            return Lock()
        return read_lock(path)

    @cached_property
    def artifacts(self) -> Artifacts:
        """The files beside the lock; a candidate's are beside the lock that it is to enter."""
        path = self.settings.lock
        return Artifacts.beside(self.settings.root / LOCK if path == self.candidate else path)

    @cached_property
    def store(self) -> Store:
        """Where rows are kept."""
        path = self.settings.folder / STORE
        return self._open.enter_context(Store.open(path) if self._joins else Store.create(path))

    @cached_property
    def connections(self) -> Connections:
        """The endpoints; the sandbox of a run that trains keeps its jobs."""
        state = self.settings.folder / "sandbox" if self.retrain else None
        shared = self._shared if self._joins else None
        address = shared.read_text(encoding="utf-8") if shared and shared.exists() else None
        connections = Connections(state, address=address)
        self._open.callback(connections.close)
        return connections

    @cached_property
    def gate(self) -> Gate:
        """Judges claims: on the candidate if one was built in this run, else on the lock."""
        lock = read_lock(self.candidate) if self.retrain else self.accepted
        return Gate(
            settings=self.settings,
            tasks=self.tasks,
            lock=lock,
            accepted=self.accepted,
            artifacts=self.artifacts,
            evaluator=Evaluator(self.settings, self.store, self.connections, self.artifacts),
            claims=self._claims,
        )

    @cached_property
    def _claims(self) -> list[tuple[str, Claim]]:
        return []

    def check(self) -> None:
        """Refuse a run that cannot work, before anything is collected.

        Raises:
            UsageError: If the tasks cannot be found or loaded.
            LockError: If there is no lock to gate on, or it cannot be read.
        """
        if not self.retrain and not self.settings.lock.exists():
            raise LockError(
                f"there is no lock at {self.settings.lock}: build the models and write it with pytest --ft-retrain"
            )
        self.accepted  # noqa: B018  # read, so that it is refused once, and not for each test
        self.tasks  # noqa: B018  # likewise

    def expect(self, task: str, claim: Claim) -> None:
        """Say that a claim will be judged, and refuse at once what cannot be.

        Raises:
            UsageError: If there is no such task, or it has no such stage.
            LockError: If the lock does not have what is needed.
        """
        parse(str(claim), stages=self.tasks[task].stages)
        if not self.retrain:
            for stage in claim.stages:
                if stage != LOCKED:
                    self.accepted.entry(task, stage)
        self._claims.append((task, claim))

    def lm(self, task: Task, model: str) -> dspy.LM:
        """A model of a task's endpoint, with the task's decoding.

        Raises:
            UsageError: If the task has no endpoint.
            EndpointError: If it cannot be reached.
        """
        endpoint = self.settings.endpoint_named(task.endpoint, task.id)
        return self.connections.live(endpoint).lm(model, **task.decoding())

    def share_sandbox(self, tasks: Iterable[str]) -> None:
        """Start the one sandbox that all processes use, where one of these tasks has rows to ask it for."""
        if self._shared is None or self._shared.exists():
            return
        if any(self._asks_sandbox(name) for name in tasks):
            self._shared.write_text(self.connections.sandbox().address, encoding="utf-8")

    def _asks_sandbox(self, task: str) -> bool:
        pinned = any(entry.endpoint == SANDBOX for entry in self.gate.lock.of_task(task))
        return pinned and self.gate.lacks_rows(task)

    def close(self) -> None:
        """Let go of the store and the endpoints."""
        self._open.close()

"""One run: its settings, tasks, lock, rows and endpoints, each made when it is first needed."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from pytest_finetune.core.claims import LOCKED, Claim, parse
from pytest_finetune.endpoints import SANDBOX
from pytest_finetune.errors import LockError
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.file import read_lock
from pytest_finetune.lock.model import Lock
from pytest_finetune.store import Store
from pytest_finetune.workflow.connections import Connections
from pytest_finetune.workflow.gate import Gate
from pytest_finetune.workflow.settings import Settings
from pytest_finetune.workflow.stages import Evaluator
from pytest_finetune.workflow.tasks import Tasks, load_tasks

STORE = "rows.sqlite"
CANDIDATE = "candidate.lock"


class Run:
    """What one process needs to gate or to build models.

    Args:
        settings: The run's settings.
        retrain: The run builds models first, and judges the candidate.
        joins: The process is a worker: the store was made by another, and so was the sandbox, if there is one.
        sandbox: The address of that sandbox.
    """

    def __init__(
        self, settings: Settings, *, retrain: bool = False, joins: bool = False, sandbox: str | None = None
    ) -> None:
        self.settings = settings
        self.retrain = retrain
        self._joins = joins
        self._sandbox = sandbox
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
        """The files beside the lock."""
        return Artifacts.beside(self.settings.lock)

    @cached_property
    def store(self) -> Store:
        """Where rows are kept."""
        path = self.settings.folder / STORE
        return self._open.enter_context(Store.open(path) if self._joins else Store.create(path))

    @cached_property
    def connections(self) -> Connections:
        """The endpoints; the sandbox of a run that trains keeps its jobs."""
        state = self.settings.folder / "sandbox" if self.retrain else None
        connections = Connections(state, address=self._sandbox)
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
            LockError: If there is no lock to gate on.
        """
        if not self.retrain and not self.settings.lock.exists():
            raise LockError(
                f"there is no lock at {self.settings.lock}: build the models and write it with pytest --ft-retrain"
            )

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

    def shared_sandbox(self) -> str | None:
        """The address of the sandbox that all workers share; ``None`` where no task needs one."""
        needs = self.retrain or any(entry.endpoint == SANDBOX for entry in self.accepted.models)
        return self.connections.sandbox().address if needs else None

    def close(self) -> None:
        """Let go of the store and the endpoints."""
        self._open.close()

"""One run: its settings, tasks, lock, rows and endpoints, each made when it is first needed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from pytest_finetune.core.claims import ScopedClaim, parse
from pytest_finetune.core.diagnosis import Observed
from pytest_finetune.core.records import Scope
from pytest_finetune.endpoints import SANDBOX, Endpoint
from pytest_finetune.errors import UsageError
from pytest_finetune.evaluate import Progress
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.file import read_lock
from pytest_finetune.lock.model import Lock
from pytest_finetune.metrics import Judge
from pytest_finetune.store import Store
from pytest_finetune.task import Task
from pytest_finetune.workflow.connections import Connections
from pytest_finetune.workflow.evaluations import Evaluations, Expected
from pytest_finetune.workflow.evaluator import Evaluator
from pytest_finetune.workflow.gate import Gate
from pytest_finetune.workflow.lines import JUDGE, Lines
from pytest_finetune.workflow.locks import Locks
from pytest_finetune.workflow.pinning import Pinning
from pytest_finetune.workflow.settings import Settings
from pytest_finetune.workflow.tasks import Tasks, load_tasks

if TYPE_CHECKING:
    import dspy

STORE = "rows.sqlite"


class Run:
    """What one process needs to gate or to build models.

    Args:
        settings: The run's settings.
        retrain: The run builds models first, and judges the candidate.
        shared: Where the processes of one run tell each other the address of their one sandbox; ``None``: there is
            one process only.
        joins: The process is a worker: the store was made by another.
        progress: Is told four times a second how far an evaluation is.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        retrain: bool = False,
        shared: Path | None = None,
        joins: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.settings = settings
        self.retrain = retrain
        self._shared = shared
        self._joins = joins
        self._progress = progress
        self._open = ExitStack()
        self.observed: dict[str, Observed] = {}  # of the models that this run has built, by task

    @cached_property
    def locks(self) -> Locks:
        """Where the tasks are pinned."""
        return Locks(self.settings, building=self.retrain)

    @property
    def candidate(self) -> Path:
        """Where what was built is kept until it holds."""
        return self.locks.candidate

    @cached_property
    def tasks(self) -> Tasks:
        """The tasks of the project; the models that their metrics ask are reached through this run."""
        tasks = load_tasks(self.settings.root, self.settings.tasks)
        for task in tasks.values():
            for judge in _judges(task):
                judge.connect(partial(self._judge, task))
        return tasks

    @cached_property
    def accepted(self) -> Lock:
        """What the locks pin, as they are on disk.

        Raises:
            LockError: If one is damaged, or missing where it must be there.
        """
        if not self.retrain:
            self.locks.check()
        return self.locks.pinned

    def artifacts(self, task: str) -> Artifacts:
        """The files beside the lock of a task."""
        return self.locks.artifacts(task)

    @cached_property
    def store(self) -> Store:
        """Where rows are kept."""
        path, settings = self.settings.folder / STORE, self.settings
        if self._joins:
            store = Store.open(path, oldest=settings.oldest_row, text=settings.store_text)
        else:
            store = Store.create(
                path, oldest=settings.oldest_row, text=settings.store_text, limit=settings.store_limit
            )
        return self._open.enter_context(store)

    @cached_property
    def connections(self) -> Connections:
        """The endpoints; the sandbox of a run that trains keeps its jobs."""
        state = self.settings.folder / "sandbox" if self.retrain else None
        shared = self._shared if self._joins else None
        address = shared.read_text(encoding="utf-8") if shared and shared.exists() else None
        connections = Connections(state, address=address, joins=self._joins)
        self._open.callback(connections.close)
        return connections

    @cached_property
    def lines(self) -> Lines:
        """How judges and training call models, and what all calls cost."""
        self.store  # noqa: B018  # it makes the file
        run = self._shared.parent.name if self._shared else uuid4().hex
        lines = Lines(self.settings, self.connections, self.settings.folder / STORE, run)
        self._open.callback(lines.close)
        return lines

    def endpoint(self, task: Task) -> Endpoint:
        """The endpoint of a task, as the settings name it."""
        return self.settings.endpoint_named(task.endpoint, task.id)

    def _judge(self, task: Task, judge: Judge) -> dspy.LM:
        return self.lines.line(self._judged_by(task, judge), JUDGE).lm(judge.model, **judge.decoding())

    def _judged_by(self, task: Task, judge: Judge) -> Endpoint:
        return self.settings.endpoint_named(judge.endpoint or task.endpoint, task.id)

    @cached_property
    def gate(self) -> Gate:
        """Judges claims: on the candidate if one was built in this run, else on the lock."""
        return Gate(self.evaluations, self.accepted, self.locks)

    @cached_property
    def evaluations(self) -> Evaluations:
        """The rows of the stages that are judged: of the candidate if one was built in this run, else of the lock."""
        lock = read_lock(self.candidate) if self.retrain else self.accepted
        return Evaluations(
            self.settings,
            self.tasks,
            Pinning(self.settings, lock, self.locks),
            Evaluator(self.settings, self.store, self.connections, self.lines, self._progress),
            self.expected,
        )

    @cached_property
    def expected(self) -> list[Expected]:
        """The claims that were announced."""
        return []

    def check(self) -> None:
        """Refuse a run that cannot work, before anything is collected.

        Raises:
            UsageError: If the tasks cannot be found or loaded.
            LockError: If there is no lock to gate on, or it cannot be read.
        """
        self.accepted  # noqa: B018  # read, so that it is refused once, and not for each test
        self.tasks  # noqa: B018  # likewise

    def expect(self, claims: Iterable[Expected]) -> None:
        """Say which claims will be judged: what others would need is not asked for."""
        self.expected.extend(claims)

    def check_claim(self, scoped: ScopedClaim) -> None:
        """Refuse a claim that cannot be judged, before anything is asked.

        Raises:
            UsageError: If there is no such task, or it has no such stage, suite or field.
            LockError: If the lock does not have what is needed.
        """
        task, claim = self.tasks[scoped.task], scoped.claim
        parse(str(claim), stages=task.stages)
        _check_scope(task, scoped.scope)
        if not self.retrain:
            self.locks.check_task(task.id)
            entries = [self.accepted.entry(task.id, stage) for stage in claim.stages]
            self.check_prices(task, [tuned.model for entry in entries for tuned in entry.models.values()])

    def check_prices(self, task: Task, models: Sequence[str]) -> None:
        """Refuse a cap where a price is unknown, before anything is asked."""
        if self.settings.max_cost is None:
            return
        for model in models:
            self.lines.budget(self.endpoint(task)).check(model)
        for judge in _judges(task):
            self.lines.budget(self._judged_by(task, judge)).check(judge.model)

    def lm(self, task: Task, model: str) -> dspy.LM:
        """A model of a task's endpoint, with the task's decoding.

        Raises:
            UsageError: If the task has no endpoint.
            NotEvaluated: If the run is offline.
            EndpointError: If it cannot be reached.
        """
        return self.lines.line(self.endpoint(task)).lm(model, **task.decoding())

    def share_sandbox(self, tasks: Iterable[str]) -> None:
        """Start the one sandbox that all processes use, where one of these tasks has rows to ask it for."""
        if self._shared is None or self._shared.exists():
            return
        if any(self._asks_sandbox(name) for name in tasks):
            self._shared.write_text(self.connections.sandbox().address, encoding="utf-8")

    def _asks_sandbox(self, task: str) -> bool:
        pinned = any(entry.endpoint == SANDBOX for entry in self.evaluations.pinning.lock.of_task(task))
        return pinned and self.evaluations.lacks_rows(task)

    def deploy(self, tasks: Iterable[str]) -> None:
        """Deploy the models that have rows to be asked for, for all processes of the run.

        Raises:
            FinetuneError: If the lock does not fit, or a command of the endpoint fails.
        """
        for task in tasks:
            for stage in self.evaluations.lacking(task):
                self.connections.deploy(stage.entry, stage.endpoint)

    def take_down(self) -> list[str]:
        """Take down what this run deployed; give what went wrong."""
        return self.connections.deployments.take_down()

    def close(self) -> None:
        """Let go of the store and the endpoints."""
        self._open.close()


def _judges(task: Task) -> tuple[Judge, ...]:
    return tuple(judge for metric in task.metrics for judge in metric.judges)


def _check_scope(task: Task, scope: Scope) -> None:
    """Refuse slices and suites that do not exist."""
    if scope.suite is None and scope.by is None:
        return  # the rows are read when they are needed
    rows = task.held_out(scope.suite).rows
    if scope.by is not None and any(scope.by not in row.fields for row in rows):
        known = sorted(rows[0].fields) if rows else []
        close = difflib.get_close_matches(scope.by, known, n=1)
        hint = f": did you mean {close[0]!r}?" if close else f"; its rows have: {', '.join(known)}"
        raise UsageError(f"by={scope.by!r}: task {task.id!r} has no such field{hint}")

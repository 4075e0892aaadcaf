"""A stage as the lock pins it, ready to be run; and running stages together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_finetune import programs
from pytest_finetune.core.fingerprint import digest
from pytest_finetune.core.records import Row
from pytest_finetune.dataset import DataRow
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.evaluate import StageRun, evaluate
from pytest_finetune.evaluate.stages import Question
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.model import Entry, Facts
from pytest_finetune.store import Store
from pytest_finetune.task import Task
from pytest_finetune.workflow.connections import Connections
from pytest_finetune.workflow.facts import facts_of
from pytest_finetune.workflow.settings import Settings

if TYPE_CHECKING:
    import dspy


@dataclass(frozen=True)
class PinnedStage:
    """A stage with its program, before it has a live LM.

    Attributes:
        entry: What the lock says of it.
        facts: What the tasks file and the data say of it today.
        program: The task's program with the pinned state.
        program_state: The digest of program and state together.
        adapter: Writes its prompts.
        endpoint: Where its model lives.
    """

    entry: Entry
    facts: Facts
    program: dspy.Module
    program_state: str
    adapter: dspy.Adapter
    endpoint: Endpoint

    @property
    def key(self) -> str:
        """The digest of all that changes its answers, and of nothing else."""
        facts = self.facts
        return digest([self.entry.model, facts.endpoint, self.program_state, facts.adapter, facts.decoding])


def pinned_stage(task: Task, entry: Entry, endpoint: Endpoint, artifacts: Artifacts) -> PinnedStage:
    """Load a stage's program with the state that the lock names.

    Raises:
        LockError: If the artifact is missing or damaged, or does not fit the program.
    """
    program = programs.load_state(task.program(), artifacts.get_json(entry.artifacts.program))
    facts = facts_of(task, entry.stage, program, endpoint)
    state = programs.program_fingerprint(program)
    return PinnedStage(entry, facts, program, state, task.make_adapter(), endpoint)


@dataclass(frozen=True)
class StageRows:
    """What became of a stage.

    Attributes:
        rows: The test rows in salted hash order, those without an answer included.
        reused: How many of them were in the store before.
    """

    rows: tuple[Row, ...]
    reused: int


@dataclass(frozen=True)
class Evaluator:
    """Runs the stages of tasks on their test rows.

    Args:
        settings: Concurrency and time-outs.
        store: Where rows are kept; a row that is there is not asked for.
        connections: The endpoints. One is only reached, and the sandbox only started, for a stage that lacks rows.
        artifacts: The files beside the lock.
    """

    settings: Settings
    store: Store
    connections: Connections
    artifacts: Artifacts

    def evaluate(self, task: Task, stages: Sequence[PinnedStage]) -> dict[str, StageRows]:
        """The test rows of each stage, by its name.

        Raises:
            EndpointError: If an endpoint cannot be reached or refuses; what was answered is kept.
            UsageError: If the metric fails on a row.
        """
        rows = task.dataset.rows("test")
        known = {stage.entry.stage: self._known(stage, rows) for stage in stages}
        runs = [self._run(task, stage, complete=known[stage.entry.stage] == len(rows)) for stage in stages]
        found = evaluate(
            runs,
            rows,
            task.scorer,
            self.store,
            concurrency=self.settings.concurrency,
            timeout=self.settings.row_timeout,
        )
        return {name: StageRows(tuple(found[name]), reused) for name, reused in known.items()}

    def lacks_rows(self, task: Task, stage: PinnedStage) -> bool:
        """Whether the endpoint has to be asked about a test row of a stage."""
        rows = task.dataset.rows("test")
        return self._known(stage, rows) < len(rows)

    def program(self, task: Task, stage: PinnedStage) -> dspy.Module:
        """A stage's program with its live model, under its own adapter.

        Raises:
            EndpointError: If the endpoint cannot be reached.
        """
        return _served(self._live(task, stage), stage.adapter)

    def _known(self, stage: PinnedStage, rows: Sequence[DataRow]) -> int:
        run = StageRun(stage.entry.stage, stage.program, stage.adapter, stage.key, stage.entry.model)
        keys = [Question(run, row, 0).key for row in rows]
        return sum(key in found for found in [self.store.read(keys)] for key in keys)

    def _run(self, task: Task, stage: PinnedStage, *, complete: bool) -> StageRun:
        program = stage.program if complete else self._live(task, stage)
        return StageRun(stage.entry.stage, program, stage.adapter, stage.key, stage.entry.model)

    def _live(self, task: Task, stage: PinnedStage) -> dspy.Module:
        self.connections.serve(stage.entry, self.artifacts)
        lm = self.connections.live(stage.endpoint).lm(stage.entry.model, num_retries=0, **task.decoding())
        return programs.attach(stage.program, lm)


def _served(program: dspy.Module, adapter: dspy.Adapter) -> dspy.Module:
    """The program as a module that always uses its own adapter: DSPy knows adapters only as a setting."""
    import dspy

    class Served(dspy.Module):  # type: ignore[misc]  # dspy ships no types
        def __init__(self) -> None:
            super().__init__()
            self.program = program

        def forward(self, **inputs: Any) -> Any:
            with dspy.context(adapter=adapter):
                return self.program(**inputs)

    return Served()

"""Running pinned stages on their test rows, together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_finetune import programs
from pytest_finetune.core.pricing import Price, price_of
from pytest_finetune.core.records import Row, RowState
from pytest_finetune.dataset import DataRow
from pytest_finetune.evaluate import Progress, StageRun, evaluate
from pytest_finetune.evaluate.stages import Question
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.store import Store
from pytest_finetune.task import Task
from pytest_finetune.workflow.connections import Connections
from pytest_finetune.workflow.lines import Lines
from pytest_finetune.workflow.settings import Settings
from pytest_finetune.workflow.stages import PinnedStage

if TYPE_CHECKING:
    import dspy

_ANSWERED = {RowState.SCORED, RowState.FORMAT_ERROR}


@dataclass(frozen=True)
class StageRows:
    """What became of a stage.

    Attributes:
        rows: The test rows in salted hash order, those without an answer included.
        reused: How many of them were in the store before.
        reused_since: When the oldest of these was asked for (seconds since 1970); None without any.
    """

    rows: tuple[Row, ...]
    reused: int
    reused_since: float | None

    @property
    def cost(self) -> float | None:
        """US dollars of all answers; None where one is unknown."""
        costs = [row.usage.cost if row.usage else None for row in self.rows if row.state in _ANSWERED]
        return None if None in costs else sum(cost for cost in costs if cost is not None)


@dataclass(frozen=True)
class Evaluator:
    """Runs the stages of tasks on their test rows.

    Args:
        settings: Concurrency and time-outs.
        store: Where rows are kept; a row that is there is not asked for.
        connections: The endpoints. One is only reached, and the sandbox only started, for a stage that lacks rows.
        lines: What their models cost.
        artifacts: The files beside the lock.
        progress: Is told four times a second how far it is.
    """

    settings: Settings
    store: Store
    connections: Connections
    lines: Lines
    artifacts: Artifacts
    progress: Callable[[Progress], None] | None = None

    def evaluate(self, task: Task, stages: Sequence[PinnedStage]) -> dict[str, StageRows]:
        """The test rows of each stage, by its name.

        Raises:
            EndpointError: If an endpoint cannot be reached or refuses; what was answered is kept.
            UsageError: If the metric fails on a row.
        """
        rows = self._share(task)
        known = {stage.entry.stage: self._known(task, stage, rows) for stage in stages}
        if self.settings.offline:
            return {stage.entry.stage: self._recorded(task, stage, rows) for stage in stages}
        runs = [self._run(task, stage, complete=len(known[stage.entry.stage]) == len(rows)) for stage in stages]
        found = evaluate(
            runs,
            rows,
            task.scorer,
            self.store,
            concurrency=self.settings.concurrency,
            timeout=self.settings.row_timeout,
            budget=self.lines.budget(stages[0].endpoint),
            progress=self.progress,
        )
        return {
            stage.entry.stage: self._kept(stage, found[stage.entry.stage], known[stage.entry.stage])
            for stage in stages
        }

    def _share(self, task: Task) -> Sequence[DataRow]:
        """The test rows of this run: every Kth of N where it is one of several."""
        rows = task.dataset.rows("test")
        if self.settings.shard is None:
            return rows
        number, of = self.settings.shard
        return rows[number - 1 :: of]

    def _kept(self, stage: PinnedStage, rows: Sequence[Row], known: Mapping[str, float]) -> StageRows:
        """The rows as they are judged and locked; ``known`` says when those were asked for that were there before."""
        price = price_of(stage.entry.model, self.settings.prices(stage.endpoint))
        kept = tuple(self.store.kept(_priced(row, price)) for row in rows)
        return StageRows(kept, len(known), min(known.values(), default=None))

    def _recorded(self, task: Task, stage: PinnedStage, rows: Sequence[DataRow]) -> StageRows:
        """What is recorded of a stage: in the store, else beside the lock; what is in neither was not run."""
        name, ref = stage.entry.stage, stage.entry.artifacts.rows
        known = self._known(task, stage, rows)
        here = [row for row in rows if row.row_id in known]
        run = self._run(task, stage, complete=True)
        found = {row.row_id: row for row in evaluate([run], here, task.scorer, self.store)[name]} if here else {}
        accepted = {row.row_id: row for row in self.artifacts.get_rows(ref, name)} if ref else {}
        recorded = accepted | found
        absent = [Row(row.row_id, name, 0, RowState.NOT_RUN) for row in rows]
        kept = self._kept(stage, [recorded.get(row.row_id, row) for row in absent], known)
        return replace(kept, reused=sum(row.state in _ANSWERED for row in kept.rows))

    def lacks_rows(self, task: Task, stage: PinnedStage) -> bool:
        """Whether the endpoint has to be asked about a test row of a stage."""
        rows = self._share(task)
        return not self.settings.offline and len(self._known(task, stage, rows)) < len(rows)

    def program(self, task: Task, stage: PinnedStage) -> dspy.Module:
        """A stage's program with its live model, under its own adapter.

        Raises:
            EndpointError: If the endpoint cannot be reached.
        """
        return _served(self._live(task, stage), stage.adapter)

    def _known(self, task: Task, stage: PinnedStage, rows: Sequence[DataRow]) -> dict[str, float]:
        """The rows that are in the store, by id, and when they were asked for."""
        run = self._run(task, stage, complete=True)
        wanted: dict[str, set[str]] = {}
        for row in rows:
            wanted.setdefault(Question(run, row, 0).key, set()).add(row.row_id)
        found = self.store.read(wanted, task.scorer.fingerprint())
        return {row_id: asked_at for key, (_, asked_at) in found.items() for row_id in wanted[key]}

    def _run(self, task: Task, stage: PinnedStage, *, complete: bool) -> StageRun:
        program = stage.program if complete else self._live(task, stage)
        return StageRun(stage.entry.stage, program, stage.adapter, stage.key, stage.entry.model, task.id)

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


def _priced(row: Row, price: Price | None) -> Row:
    """The row at today's price, so that stages compare which were asked at different times."""
    if row.usage is None:
        return row
    cost = None if price is None else price.of(row.usage.prompt_tokens, row.usage.completion_tokens)
    return replace(row, usage=replace(row.usage, cost=cost))

"""Running pinned stages on rows, together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_finetune import programs
from pytest_finetune.core.pricing import Price, price_of_all
from pytest_finetune.core.records import Row, RowState
from pytest_finetune.dataset import DataRow
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.evaluate import Progress, StageRun, evaluate
from pytest_finetune.evaluate.stages import Question
from pytest_finetune.metrics import Metric
from pytest_finetune.store import Store
from pytest_finetune.task import HeldOut, Task
from pytest_finetune.workflow.connections import Connections
from pytest_finetune.workflow.lines import Lines
from pytest_finetune.workflow.settings import Settings
from pytest_finetune.workflow.stages import PinnedStage

if TYPE_CHECKING:
    import dspy

_ANSWERED = {RowState.SCORED, RowState.FORMAT_ERROR}


Place = tuple[str, int]
"""A row's id, and which of its repeats."""


@dataclass(frozen=True)
class _Work:
    """What is asked of every stage."""

    task: Task
    metric: Metric
    rows: Sequence[DataRow]
    repeats: int

    @property
    def answers(self) -> int:
        """How many a stage has to give."""
        return len(self.rows) * self.repeats

    @property
    def places(self) -> list[Place]:
        """The rows and repeats, in order."""
        return [(row.row_id, repeat) for row in self.rows for repeat in range(self.repeats)]


@dataclass(frozen=True)
class StageRows:
    """What became of a stage.

    Attributes:
        rows: In salted hash order, each with its repeats, those without an answer included.
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
        progress: Is told four times a second how far it is.
        began: What was asked for before (seconds since 1970) is reused.
    """

    settings: Settings
    store: Store
    connections: Connections
    lines: Lines
    progress: Callable[[Progress], None] | None = None
    began: float = field(default_factory=time.time)

    def evaluate(
        self, task: Task, held: HeldOut, stages: Sequence[PinnedStage], *, repeats: int = 1
    ) -> dict[str, StageRows]:
        """The rows of each stage, by its name.

        Args:
            task: Whose stages they are.
            held: The rows that are asked, and what scores them.
            stages: As they run on these rows (`PinnedStage.on`).
            repeats: How often each row is asked.

        Raises:
            EndpointError: If an endpoint cannot be reached or refuses; what was answered is kept.
            UsageError: If the metric fails on a row.
        """
        work = _Work(task, held.metric, self._share(held.rows), repeats)
        known = {stage.entry.stage: self._known(work, stage) for stage in stages}
        if self.settings.offline:
            return {stage.entry.stage: self._recorded(work, stage, known[stage.entry.stage]) for stage in stages}
        runs = [self._run(task, stage, live=len(known[stage.entry.stage]) < work.answers) for stage in stages]
        found = self._asked(work, runs, stages)
        return {
            stage.entry.stage: self._kept(stage, found[stage.entry.stage], known[stage.entry.stage])
            for stage in stages
        }

    def _asked(
        self, work: _Work, runs: Sequence[StageRun], stages: Sequence[PinnedStage]
    ) -> Mapping[str, tuple[Row, ...]]:
        endpoint = stages[0].endpoint  # the task's, and so that of all
        asked = [tuned for stage in stages for tuned in stage.entry.models.values()]
        return evaluate(
            runs,
            work.rows,
            work.metric,
            self.store,
            concurrency=endpoint.at_once(self.settings.concurrency),
            timeout=endpoint.timeout or self.settings.row_timeout,
            repeats=work.repeats,
            budget=self.lines.budget(endpoint, {tuned.asked_as: tuned.model for tuned in asked}),
            progress=self.progress,
        )

    def _share(self, rows: Sequence[DataRow]) -> Sequence[DataRow]:
        """The rows of this run: every Nth where it is one of N."""
        if self.settings.shard is None:
            return rows
        number, of = self.settings.shard
        return rows[number - 1 :: of]

    def _kept(self, stage: PinnedStage, rows: Sequence[Row], known: Mapping[Place, float]) -> StageRows:
        """The rows as they are judged and locked; ``known`` says when those were asked for that were there."""
        models = [tuned.model for tuned in stage.entry.models.values()]
        price = price_of_all(models, self.settings.prices(stage.endpoint))
        kept = tuple(self.store.kept(_priced(row, price)) for row in rows)
        reused = [asked_at for asked_at in known.values() if asked_at < self.began]
        return StageRows(kept, len(reused), min(reused, default=None))

    def _recorded(self, work: _Work, stage: PinnedStage, known: Mapping[Place, float]) -> StageRows:
        """What is recorded of a stage: in the store, else beside the lock; what is in neither was not run."""
        name = stage.entry.stage
        kept = [row for ref in stage.recorded for row in stage.artifacts.get_rows(ref, name)]
        accepted = {(row.row_id, row.repeat): row for row in kept}
        here = [row for row in work.rows if all((row.row_id, repeat) in known for repeat in range(work.repeats))]
        run = self._run(work.task, stage, live=False)
        found = self._asked(replace(work, rows=here), [run], [stage])[name] if here else ()
        recorded = accepted | {(row.row_id, row.repeat): row for row in found}
        rows = [recorded.get(place) or Row(place[0], name, place[1], RowState.NOT_RUN) for place in work.places]
        return replace(self._kept(stage, rows, known), reused=sum(row.state in _ANSWERED for row in rows))

    def lacks_rows(self, task: Task, held: HeldOut, stage: PinnedStage, *, repeats: int) -> bool:
        """Whether the endpoint has to be asked about a row."""
        work = _Work(task, held.metric, self._share(held.rows), repeats)
        return not self.settings.offline and len(self._known(work, stage)) < work.answers

    def program(self, task: Task, stage: PinnedStage) -> dspy.Module:
        """A stage's program with its live model, under its own adapter.

        Raises:
            NotEvaluated: If the run is offline.
            EndpointError: If the endpoint cannot be reached.
        """
        line = self.lines.line(stage.endpoint)
        self.connections.serve(stage.entry, stage.endpoint, stage.artifacts)
        return programs.served(_attached(task, stage, line), stage.adapter)

    def _known(self, work: _Work, stage: PinnedStage) -> dict[Place, float]:
        """The rows that are in the store, and when they were asked for."""
        run = self._run(work.task, stage, live=False)
        wanted: dict[str, set[Place]] = {}
        for row in work.rows:
            for repeat in range(work.repeats):
                wanted.setdefault(Question(run, row, repeat).key, set()).add((row.row_id, repeat))
        ids = {key: {row_id for row_id, _ in places} for key, places in wanted.items()}
        found = self.store.read(ids, work.metric.fingerprint())
        return {place: asked_at for key, (_, asked_at) in found.items() for place in wanted[key]}

    def _run(self, task: Task, stage: PinnedStage, *, live: bool) -> StageRun:
        program = _attached(task, stage, self._live(stage) if live else _nowhere(stage.endpoint))
        return StageRun(stage.entry.stage, program, stage.adapter, stage.key, stage.entry.asked_as, task.id)

    def _live(self, stage: PinnedStage) -> Endpoint:
        self.connections.serve(stage.entry, stage.endpoint, stage.artifacts)
        return self.connections.live(stage.endpoint)


def _attached(task: Task, stage: PinnedStage, endpoint: Endpoint) -> dspy.Module:
    asked = {name: tuned.asked_as for name, tuned in stage.entry.models.items()}
    settings = {"num_retries": 0, **task.decoding()}
    return programs.attach(stage.program, {name: endpoint.lm(model, **settings) for name, model in asked.items()})


def _nowhere(endpoint: Endpoint) -> Endpoint:
    """For answers that are all there, and may have to be scored anew: it needs no key, and nobody asks it."""
    return Endpoint(endpoint.name, "http://not-asked.invalid/v1")


def _priced(row: Row, price: Price | None) -> Row:
    """The row at today's price, so that stages compare which were asked at different times."""
    if row.usage is None:
        return row
    cost = None if price is None else price.of(row.usage.prompt_tokens, row.usage.completion_tokens)
    return replace(row, usage=replace(row.usage, cost=cost))

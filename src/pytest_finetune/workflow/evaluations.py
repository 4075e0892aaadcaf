"""The rows of stages: each evaluated once, together with all that claims compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_finetune.core import stats
from pytest_finetune.core.claims import LOCKED, Claim, ScopedClaim
from pytest_finetune.core.evidence import MAX_MISSING
from pytest_finetune.core.records import Measure, Policy, Row, RowState
from pytest_finetune.core.results import StageScore
from pytest_finetune.dataset import DataRow
from pytest_finetune.errors import EvidenceError, NotEvaluated
from pytest_finetune.task import HeldOut
from pytest_finetune.workflow.evaluator import Evaluator, StageRows
from pytest_finetune.workflow.lockstep import Lockstep
from pytest_finetune.workflow.pinning import Pinning
from pytest_finetune.workflow.settings import Settings
from pytest_finetune.workflow.stages import PinnedStage
from pytest_finetune.workflow.tasks import Tasks

if TYPE_CHECKING:
    import dspy

Expected = tuple[ScopedClaim, Policy]
"""A claim that will be judged, and how strictly."""


@dataclass(frozen=True)
class Bench:
    """What is evaluated together: the stages of a task on one set of rows.

    Attributes:
        task: The task's name.
        suite: The suite; ``None``: the test split.
    """

    task: str
    suite: str | None = None


@dataclass
class Evaluations:
    """Evaluates each stage once on each set of rows.

    Args:
        settings: The run's settings.
        tasks: The tasks that claims may name.
        pinning: The stages of the lock.
        evaluator: Runs them.
        expected: All claims that will be judged: they say which stages, rows and repeats are wanted.
    """

    settings: Settings
    tasks: Tasks
    pinning: Pinning
    evaluator: Evaluator
    expected: Sequence[Expected] = ()
    _rows: dict[tuple[Bench, str], StageRows] = field(default_factory=dict)
    _seen: dict[ScopedClaim, int] = field(default_factory=dict)

    def rows(self, bench: Bench, stage: str) -> tuple[Row, ...]:
        """The rows of a stage, in salted hash order; asked of its endpoint where the store lacks them.

        Raises:
            FinetuneError: If they cannot be had.
        """
        if (bench, stage) not in self._rows:
            together = {other for scoped, _ in self._on(bench) for other in stages_of(scoped.claim)}
            try:
                self._evaluate(bench, together | {stage})
            except NotEvaluated:  # of another stage, it may be: this one is judged if it has its rows
                self._evaluate(bench, {stage})
        rows = self._rows[bench, stage].rows
        self._check_server(bench, stage, rows)
        absent = sum(row.state is RowState.NOT_RUN for row in rows)
        if absent > MAX_MISSING * len(rows):
            raise NotEvaluated(
                f"not evaluated: {absent} of {len(rows)} rows of stage {stage!r} of task {bench.task!r} are not"
                f" recorded, and --ft-offline asks for none: pytest --finetune-models={self.settings.lock.name}"
            )
        return rows

    def _check_server(self, bench: Bench, stage: str, rows: Sequence[Row]) -> None:
        """An endpoint that does not have the fine-tuned model may answer with its base, and say so."""
        entry = self.stage(bench, stage).entry
        other = [row for row in rows if entry.model != entry.base and row.served_model == entry.base]
        if other:
            raise EvidenceError(
                f"{len(other)} of {len(rows)} rows of stage {stage!r} of task {bench.task!r} were answered by"
                f" {entry.base!r}, not by the pinned {entry.model!r} that is tuned from it, first {other[0].row_id}:"
                " see that the endpoint serves the model, drop these rows (pytest-finetune rows prune --stage"
                f" {stage}), and run again"
            )

    def evaluate(self, scoped: ScopedClaim) -> int:
        """Evaluate this run's share of the rows that a claim looks at.

        Returns:
            How many rows that are, over its stages.

        Raises:
            FinetuneError: If they cannot be had, or if a row got no answer.
        """
        bench = bench_of(scoped)
        rows = [row for stage in stages_of(scoped.claim) for row in self.rows(bench, stage)]
        lost = [row for row in rows if row.state is RowState.ERROR]
        if lost:
            raise EvidenceError(
                f"{len(lost)} of {len(rows)} rows of this share got no answer, first {lost[0].row_id}"
                f" ({lost[0].stage}): {lost[0].error}. Run again, which asks only for the missing rows"
            )
        return len(rows)

    def seen(self, scoped: ScopedClaim) -> int | None:
        """How many rows a claim was decided on, where the run may stop early; ``None`` where it may not."""
        return self._seen.get(scoped)

    def score(self, bench: Bench, stage: str) -> StageScore:
        """How a stage did, by itself."""
        rows = self.rows(bench, stage)
        values = [value for row in rows if (value := row.value(Measure.SCORE)) is not None]
        if not values:
            raise EvidenceError(f"task {bench.task!r}: no row of stage {stage!r} has a score")
        lower, upper = stats.score_interval(values)
        found = self._rows[bench, stage]
        return StageScore(
            stage=stage,
            suite=bench.suite,
            model=self.stage(bench, stage).entry.model,
            mean=sum(values) / len(values),
            lower=lower,
            upper=upper,
            n=len(values),
            format_errors=sum(row.state is RowState.FORMAT_ERROR for row in rows),
            errors=len(rows) - len(values),
            reused=found.reused,
            reused_since=found.reused_since,
            cost=found.cost,
        )

    def stage(self, bench: Bench, name: str) -> PinnedStage:
        """A stage as it runs on these rows.

        Raises:
            LockError: If the lock does not have it, or something else is run than it pins.
        """
        task = self.tasks[bench.task]
        return self.pinning.stage(task, name).on(task.held_out(bench.suite), bench.suite)

    def lacks_rows(self, task: str) -> bool:
        """Whether an endpoint has to be asked about a stage of this task.

        Raises:
            FinetuneError: If the lock does not fit.
        """
        benches = {bench_of(scoped) for scoped, _ in self.expected if scoped.task == task} | {Bench(task)}
        stages = [entry.stage for entry in self.pinning.lock.of_task(task)]
        return any(
            self.evaluator.lacks_rows(self.tasks[task], self._held(bench), self.stage(bench, stage))
            for bench in sorted(benches, key=str)
            for stage in stages
        )

    def program(self, task: str, stage: str) -> dspy.Module:
        """A stage's program as it is gated: with its state, its pinned model and its adapter.

        Raises:
            FinetuneError: If the lock does not fit, or the endpoint cannot be reached.
        """
        return self.evaluator.program(self.tasks[task], self.stage(Bench(task), stage))

    def _on(self, bench: Bench) -> list[Expected]:
        return [(scoped, policy) for scoped, policy in self.expected if bench_of(scoped) == bench]

    def _held(self, bench: Bench) -> HeldOut:
        """The rows that claims look at: all, unless every claim is content with fewer."""
        held = self.tasks[bench.task].held_out(bench.suite)
        wanted = [scoped.scope.max_rows or len(held.rows) for scoped, _ in self._on(bench)]
        return replace(held, rows=held.rows[: max(wanted, default=len(held.rows))])

    def _evaluate(self, bench: Bench, stages: set[str]) -> None:
        held, claims = self._held(bench), self._on(bench)
        repeats = max((scoped.scope.repeats for scoped, _ in claims), default=1)
        lacking = sorted(stage for stage in stages if (bench, stage) not in self._rows)
        if self.settings.stop_early:
            lockstep = Lockstep(claims, held.rows, lacking)
            found = lockstep.run(partial(self._ask, bench, held, repeats))
            self._seen |= lockstep.seen
        else:
            found = self._ask(bench, held, repeats, held.rows, lacking)
        self._rows |= {(bench, stage): rows for stage, rows in found.items()}

    def _ask(
        self, bench: Bench, held: HeldOut, repeats: int, rows: Sequence[DataRow], stages: Sequence[str]
    ) -> dict[str, StageRows]:
        pinned = [self.stage(bench, stage) for stage in stages]
        return self.evaluator.evaluate(self.tasks[bench.task], replace(held, rows=rows), pinned, repeats=repeats)


def bench_of(scoped: ScopedClaim) -> Bench:
    """Where a claim is evaluated."""
    return Bench(scoped.task, scoped.scope.suite)


def stages_of(claim: Claim) -> tuple[str, ...]:
    """The stages of a claim that are evaluated: ``locked`` is read."""
    return tuple(stage for stage in claim.stages if stage != LOCKED)

"""The rows of stages: each evaluated once, together with all that claims compare it with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_finetune.core import stats
from pytest_finetune.core.claims import LOCKED, Claim, ScopedClaim
from pytest_finetune.core.evidence import MAX_MISSING
from pytest_finetune.core.leaks import Leaks
from pytest_finetune.core.records import Measure, Policy, Row, RowState
from pytest_finetune.core.results import StageScore
from pytest_finetune.dataset import DataRow
from pytest_finetune.errors import EvidenceError, NotDeployed, NotEvaluated
from pytest_finetune.task import FINETUNED, HeldOut
from pytest_finetune.workflow.evaluator import Evaluator, StageRows
from pytest_finetune.workflow.leaks import Written, check_leaks, leaks_of
from pytest_finetune.workflow.lockstep import Lockstep
from pytest_finetune.workflow.pinning import Pinning
from pytest_finetune.workflow.served import check_server, remarks_on_server, way_out
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


@dataclass(frozen=True)
class Extent:
    """How much is asked of a stage.

    Attributes:
        rows: The first so many; ``None``: all.
        repeats: Answers to each of them.
    """

    rows: int | None
    repeats: int


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
    _absent: dict[tuple[Bench, str], NotDeployed] = field(default_factory=dict)
    _seen: dict[ScopedClaim, int] = field(default_factory=dict)
    _leaks: dict[tuple[Bench, str], Leaks] = field(default_factory=dict)
    _written: dict[Bench, Written] = field(default_factory=dict)

    def rows(self, bench: Bench, stage: str) -> tuple[Row, ...]:
        """The rows of a stage, in salted hash order; asked of its endpoint where the store lacks them.

        Raises:
            FinetuneError: If they cannot be had.
        """
        if (bench, stage) in self._absent:
            raise self._absent[bench, stage]
        if (bench, stage) not in self._rows:
            together = {other for scoped, _ in self._on(bench) for other in stages_of(scoped.claim)}
            try:
                self._evaluate(bench, together | {stage})
            except (NotEvaluated, NotDeployed):  # another stage, it may be: this one is judged if it has its rows
                self._evaluate_alone(bench, stage)
        rows = self._rows[bench, stage].rows
        check_server(self.stage(bench, stage).entry, rows)
        absent = sum(row.state is RowState.NOT_RUN for row in rows)
        if absent > MAX_MISSING * len(rows):
            raise NotEvaluated(
                f"not evaluated: {absent} of {len(rows)} rows of stage {stage!r} of task {bench.task!r} are not"
                f" recorded, and --ft-offline asks for none: {self.pinning.locks.command}"
            )
        return rows

    def _evaluate_alone(self, bench: Bench, stage: str) -> None:
        try:
            self._evaluate(bench, {stage})
        except NotDeployed as error:
            entry = self.stage(bench, stage).entry
            advised = NotDeployed(f"{error}\nIf it is gone for good, {way_out(entry, entry)}")
            self._absent[bench, stage] = advised
            raise advised from None

    def unexpected_servers(self, bench: Bench, stages: Sequence[str]) -> tuple[str, ...]:
        """A sentence for each stage whose answers are, as the endpoint says, another model's."""
        return tuple(
            remark
            for stage in stages
            for remark in remarks_on_server(self.stage(bench, stage).entry, self.rows(bench, stage))
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

    def near_leaks(self, bench: Bench, stages: Sequence[str]) -> frozenset[str]:
        """The rows that are near to what these stages were built from.

        Raises:
            EvidenceError: If a row is exactly what a stage was built from, or too many are near.
        """
        task = self.tasks[bench.task]
        for name in stages:
            if (bench, name) not in self._leaks:
                pinned, written = self.pinning.stage(task, name), self._written.setdefault(bench, {})
                rows = task.held_out(bench.suite).rows
                self._leaks[bench, name] = leaks_of(rows, pinned, written)
        found = {name: self._leaks[bench, name] for name in stages}
        return check_leaks(task, found, self.settings.max_near_leaks, bench.suite)

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

    def suites(self, task: str, stage: str) -> list[str]:
        """The suites on which claims look at a stage, those included that had nothing to compare it with yet."""
        scoped_claims = [scoped for scoped, _ in self.expected if scoped.task == task]
        found = {scoped.scope.suite for scoped in scoped_claims if stage in scoped.claim.stages}
        return sorted(suite for suite in found if suite is not None)

    def lacks_rows(self, task: str) -> bool:
        """Whether an endpoint has to be asked about a stage of this task.

        Raises:
            FinetuneError: If the lock does not fit.
        """
        return any(True for _ in self.lacking(task))

    def lacking(self, task: str) -> Iterator[PinnedStage]:
        """The stages of a task that an endpoint has to be asked about.

        Raises:
            FinetuneError: If the lock does not fit.
        """
        claims = [scoped for scoped, _ in self.expected if scoped.task == task]
        wanted = dict.fromkeys((bench_of(scoped), stage) for scoped in claims for stage in stages_of(scoped.claim))
        return (self.stage(bench, stage) for bench, stage in wanted if self._lacks_rows(bench, stage))

    def _lacks_rows(self, bench: Bench, stage: str) -> bool:
        task, extent = self.tasks[bench.task], self._extent(bench, stage)
        held = task.held_out(bench.suite)
        held = replace(held, rows=held.rows[: extent.rows])
        return self.evaluator.lacks_rows(task, held, self.stage(bench, stage), repeats=extent.repeats)

    def program(self, task: str, stage: str) -> dspy.Module:
        """A stage's program as it is gated: with its state, its pinned model and its adapter.

        Raises:
            FinetuneError: If the lock does not fit, or the endpoint cannot be reached.
        """
        return self.evaluator.program(self.tasks[task], self.stage(Bench(task), stage))

    def candidate(self, scoped: ScopedClaim) -> tuple[str, str] | None:
        """Which rows judge a claim, and what tells the fine-tuned stage from all others; ``None`` without that stage.

        Raises:
            FinetuneError: If the lock does not fit.
        """
        if FINETUNED not in scoped.claim.stages:
            return None
        held = self.tasks[scoped.task].held_out(scoped.scope.suite)
        return f"{scoped.task} {held.fingerprint}", self.stage(bench_of(scoped), FINETUNED).key

    def _on(self, bench: Bench) -> list[Expected]:
        return [(scoped, policy) for scoped, policy in self.expected if bench_of(scoped) == bench]

    def uses(self, scoped: ScopedClaim) -> int:
        """Which candidate this is of those that these rows have judged: reruns and workers count once."""
        candidate = self.candidate(scoped)
        return 1 if candidate is None else self.evaluator.store.count_candidate(*candidate)

    def spent(self, scoped: ScopedClaim, policy: Policy) -> Policy:
        """The policy with the alpha that is left for this candidate, where the settings spend it."""
        if not self.settings.spend_alpha:
            return policy
        return replace(policy, alpha=stats.spent_alpha(policy.alpha, self.uses(scoped)))

    def _extent(self, bench: Bench, stage: str) -> Extent:
        """What the most demanding claim on a stage wants; all rows, once, of a stage that none is about."""
        scopes = [scoped.scope for scoped, _ in self._on(bench) if stage in scoped.claim.stages]
        rows = [scope.max_rows for scope in scopes if scope.max_rows is not None]
        return Extent(
            rows=max(rows) if rows and len(rows) == len(scopes) else None,
            repeats=max((scope.repeats for scope in scopes), default=1),
        )

    def _evaluate(self, bench: Bench, stages: set[str]) -> None:
        held = self.tasks[bench.task].held_out(bench.suite)
        lacking = sorted(stage for stage in stages if (bench, stage) not in self._rows)
        ask = partial(self._ask, bench, held)
        if self.settings.stop_early:
            claims = [(scoped, self.spent(scoped, policy)) for scoped, policy in self._on(bench)]
            lockstep = Lockstep(claims, held.rows, lacking)
            found = lockstep.run(ask)
            self._seen |= lockstep.seen
        else:
            found = ask(held.rows, lacking)
        self._rows |= {(bench, stage): rows for stage, rows in found.items()}

    def _ask(
        self, bench: Bench, held: HeldOut, rows: Sequence[DataRow], stages: Sequence[str]
    ) -> dict[str, StageRows]:
        """Stages of the same extent are asked together, row by row."""
        task, found = self.tasks[bench.task], dict[str, StageRows]()
        alike: defaultdict[Extent, list[PinnedStage]] = defaultdict(list)
        for stage in stages:
            alike[self._extent(bench, stage)].append(self.stage(bench, stage))
        for extent, pinned in alike.items():
            part = replace(held, rows=rows[: extent.rows])
            found |= self.evaluator.evaluate(task, part, pinned, repeats=extent.repeats)
        return found


def bench_of(scoped: ScopedClaim) -> Bench:
    """Where a claim is evaluated."""
    return Bench(scoped.task, scoped.scope.suite)


def stages_of(claim: Claim) -> tuple[str, ...]:
    """The stages of a claim that are evaluated: ``locked`` is read."""
    return tuple(stage for stage in claim.stages if stage != LOCKED)

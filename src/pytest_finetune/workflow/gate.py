"""Judging claims on the models that a lock pins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_finetune.core import stats
from pytest_finetune.core.claims import LOCKED, Claim, Reading
from pytest_finetune.core.gate import MAX_MISSING, check_evidence, check_metric, judge, pair_rows, settle
from pytest_finetune.core.records import Evidence, Measure, Policy, Row, RowState
from pytest_finetune.core.results import Result, StageScore
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import DriftError, EvidenceError, LockError, NotEvaluated
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.drift import compare, drift_error
from pytest_finetune.lock.model import Entry, Lock
from pytest_finetune.task import FINETUNED, Task
from pytest_finetune.workflow.evaluator import Evaluator, StageRows
from pytest_finetune.workflow.settings import Settings
from pytest_finetune.workflow.stages import PinnedStage, pinned_stage
from pytest_finetune.workflow.tasks import Tasks

if TYPE_CHECKING:
    import dspy


class NothingAccepted(Exception):
    """A claim with ``locked``, where no rows have been accepted yet: the message says so."""


@dataclass
class Gate:
    """Evaluates each stage once, and judges claims on the rows.

    Args:
        settings: The run's settings.
        tasks: The tasks that claims may name.
        lock: What is judged: the lock, or the candidate that is to enter it.
        accepted: What ``locked`` compares with: the lock as it was before this run.
        artifacts: The files of both.
        evaluator: Runs the stages.
        claims: All that will be judged, with their tasks: the stages of a task are evaluated together.
    """

    settings: Settings
    tasks: Tasks
    lock: Lock
    accepted: Lock
    artifacts: Artifacts
    evaluator: Evaluator
    claims: Sequence[tuple[str, Claim]] = ()
    _stages: dict[tuple[str, str], PinnedStage] = field(default_factory=dict)
    _rows: dict[tuple[str, str], StageRows] = field(default_factory=dict)

    def rows(self, task: str, stage: str) -> tuple[Row, ...]:
        """The test rows of a stage, in salted hash order; asked of its endpoint where the store lacks them."""
        if (task, stage) not in self._rows:
            together = {other for name, claim in self.claims if name == task for other in stages_of(claim)}
            try:
                self._evaluate(task, together | {stage})
            except NotEvaluated:  # of another stage, it may be: this one is judged if it has its rows
                self._evaluate(task, {stage})
        rows = self._rows[task, stage].rows
        absent = sum(row.state is RowState.NOT_RUN for row in rows)
        if absent > MAX_MISSING * len(rows):
            raise NotEvaluated(
                f"not evaluated: {absent} of {len(rows)} test rows of stage {stage!r} of task {task!r} are not"
                f" recorded, and --ft-offline asks for none: pytest --finetune-models={self.settings.lock.name}"
            )
        return rows

    def evaluate(self, task: str, claim: Claim) -> int:
        """Evaluate this run's share of the rows that a claim looks at.

        Returns:
            How many rows that are, over its stages.

        Raises:
            FinetuneError: As `evidence` does, and if a row got no answer.
        """
        rows = [row for stage in stages_of(claim) for row in self.rows(task, stage)]
        lost = [row for row in rows if row.state is RowState.ERROR]
        if lost:
            raise EvidenceError(
                f"{len(lost)} of {len(rows)} rows of this share got no answer, first {lost[0].row_id}"
                f" ({lost[0].stage}): {lost[0].error}. Run again, which asks only for the missing rows"
            )
        return len(rows)

    def evidence(self, task: str, claim: Claim) -> Evidence:
        """The paired rows that a claim looks at.

        Raises:
            EvidenceError: If no verdict may rest on them.
            DriftError: If what is run is not what the lock pins.
            NothingAccepted: If the claim compares with ``locked`` and there is nothing.
        """
        left, right = self._side(task, claim, claim.left), self._side(task, claim, claim.right)
        row_ids = [row.row_id for row in self.tasks[task].dataset.rows("test")]
        a, b = self._identity(task, claim, claim.left), self._identity(task, claim, claim.right)
        evidence = pair_rows(
            claim,
            left,
            right,
            row_ids=row_ids,
            groups={row.row_id: row.group for row in self.tasks[task].dataset.rows("test") if row.group is not None},
            same_model=a is not None and b is not None and a[0] == b[0],
            same_program=a is not None and b is not None and a[1] == b[1],
        )
        check_evidence(claim, evidence)
        if len(stages_of(claim)) > 1:
            check_metric([*left, *right])
        return evidence

    def judge(self, task: str, claim: Claim, policy: Policy) -> Result:
        """Judge a claim.

        Args:
            task: The task's name.
            claim: What must hold.
            policy: How strictly.

        Raises:
            FinetuneError: As `evidence` does.
        """
        verdict = judge(claim, self.evidence(task, claim), policy)
        return Result(
            task=task,
            claim=str(claim),
            measure=claim.measure,
            verdict=verdict,
            settlement=settle(verdict, policy.inconclusive),
            inconclusive=policy.inconclusive,
            scores=tuple(self.score(task, stage) for stage in stages_of(claim)),
        )

    def score(self, task: str, stage: str) -> StageScore:
        """How a stage did, by itself."""
        rows = self.rows(task, stage)
        values = [value for row in rows if (value := row.value(Measure.SCORE)) is not None]
        if not values:
            raise EvidenceError(f"task {task!r}: no test row of stage {stage!r} has a score")
        lower, upper = stats.score_interval(values)
        return StageScore(
            stage=stage,
            model=self._stages[task, stage].entry.model,
            mean=sum(values) / len(values),
            lower=lower,
            upper=upper,
            n=len(values),
            format_errors=sum(row.state is RowState.FORMAT_ERROR for row in rows),
            errors=len(rows) - len(values),
            reused=self._rows[task, stage].reused,
            reused_since=self._rows[task, stage].reused_since,
            cost=self._rows[task, stage].cost,
        )

    def lacks_rows(self, task: str) -> bool:
        """Whether an endpoint has to be asked about a stage of this task.

        Raises:
            FinetuneError: As `evidence` does.
        """
        pinned = [self._pinned(self.tasks[task], entry.stage) for entry in self.lock.of_task(task)]
        return any(self.evaluator.lacks_rows(self.tasks[task], stage) for stage in pinned)

    def program(self, task: str, stage: str) -> dspy.Module:
        """A stage's program as it is gated: with its state, its pinned model and its adapter.

        Raises:
            FinetuneError: As `evidence` does.
        """
        return self.evaluator.program(self.tasks[task], self._pinned(self.tasks[task], stage))

    def _side(self, task: str, claim: Claim, side: Reading | float) -> tuple[Row, ...]:
        if not isinstance(side, Reading):
            return ()
        if side.stage != LOCKED:
            return self.rows(task, side.stage)
        stage = next(iter(stages_of(claim)))
        entries = [e for e in self.accepted.models if (e.task, e.stage) == (task, stage) and e.artifacts.rows]
        if not entries:
            raise NothingAccepted(f"nothing has been accepted yet for stage {stage!r} of task {task!r}")
        return self.artifacts.get_rows(entries[0].artifacts.rows or "", stage)

    def _identity(self, task: str, claim: Claim, side: Reading | float) -> tuple[str, str] | None:
        """The model and the program of a side."""
        if not isinstance(side, Reading):
            return None
        if side.stage == LOCKED:
            stage = next(iter(stages_of(claim)))
            entry = self.accepted.entry(task, stage)
            return entry.model, entry.artifacts.program
        entry = self.lock.entry(task, side.stage)
        return entry.model, self._stages[task, side.stage].program_state

    def _evaluate(self, name: str, stages: set[str]) -> None:
        task = self.tasks[name]
        pinned = [self._pinned(task, stage) for stage in sorted(stages) if (name, stage) not in self._rows]
        for stage, rows in self.evaluator.evaluate(task, pinned).items():
            self._rows[name, stage] = rows

    def _pinned(self, task: Task, stage: str) -> PinnedStage:
        """A stage as the lock pins it, once it is sure that this is what will be run."""
        entry = self.lock.entry(task.id, stage)
        endpoint = self._endpoint(task, entry)
        pinned = pinned_stage(task, entry, endpoint, self.artifacts)
        drifts = [drift for drift in compare(entry, pinned.facts) if not drift.comparable]
        if drifts:
            raise drift_error(entry, drifts)
        self._check_model(entry)
        self._check_artifacts(entry)
        self._stages[task.id, stage] = pinned
        return pinned

    def _check_model(self, entry: Entry) -> None:
        """A fine-tuned stage must not be served by its base, and every other stage must be."""
        if (entry.model == entry.base) is not (entry.stage == FINETUNED):
            return
        problem = f"the fine-tuned model is its own base {entry.base!r}: it was never trained"
        if entry.stage != FINETUNED:
            problem = f"the lock pins the model {entry.model!r}, the stage is made of {entry.base!r}"
        raise LockError(
            f"{entry.name}: {problem}. Restore the lock (git checkout -- {self.settings.lock.name}), or"
            f" pytest --ft-retrain --ft-task {entry.task}"
        )

    def _check_artifacts(self, entry: Entry) -> None:
        """What the lock refers to must be there unchanged, also what this run does not read."""
        for ref in (entry.artifacts.rows, entry.artifacts.training):
            if ref is not None:
                self.artifacts.get_bytes(ref)

    def _endpoint(self, task: Task, entry: Entry) -> Endpoint:
        """The endpoint that the lock pins, which must be the one the task asks for."""
        endpoint = self.settings.endpoint_named(task.endpoint, task.id)
        if endpoint.identity != entry.endpoint:
            raise DriftError(
                f"{entry.name}: the lock pins endpoint {entry.endpoint!r}, the task asks for {endpoint.identity!r}:"
                f" name the pinned one, or build the stage there: pytest --ft-retrain --ft-task {task.id}"
            )
        return endpoint


def stages_of(claim: Claim) -> tuple[str, ...]:
    """The stages of a claim that are evaluated: ``locked`` is read."""
    return tuple(stage for stage in claim.stages if stage != LOCKED)

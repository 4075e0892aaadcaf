"""Judging claims on the models that a lock pins."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pytest_finetune.core.claims import LOCKED, Reading, ScopedClaim
from pytest_finetune.core.evidence import check_evidence, check_metric, pair_rows, remarks
from pytest_finetune.core.gate import judge, settle
from pytest_finetune.core.records import Evidence, Policy, Row
from pytest_finetune.core.results import Flip, Result
from pytest_finetune.core.shell import from_here
from pytest_finetune.dataset import DataRow
from pytest_finetune.errors import DriftError
from pytest_finetune.lock.model import Lock
from pytest_finetune.task import Task
from pytest_finetune.workflow.evaluations import Bench, Evaluations, bench_of, stages_of
from pytest_finetune.workflow.locks import Locks
from pytest_finetune.workflow.stages import PinnedStage, accepted_on, changed_since

SHOWN_FLIPS = 10


class NothingAccepted(Exception):
    """A claim with ``locked``, where no rows have been accepted yet: the message says so."""


class Source(Protocol):
    """Where the rows of stages are from."""

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks that claims may name."""

    def rows(self, bench: Bench, stage: str) -> tuple[Row, ...]:
        """The rows of a stage."""

    def stage(self, bench: Bench, name: str) -> PinnedStage:
        """A stage as it runs on these rows."""

    def seen(self, scoped: ScopedClaim) -> int | None:
        """How many rows a claim was decided on, where the run may stop early; ``None`` where it may not."""


@dataclass(frozen=True)
class Pairing:
    """Pairs the rows of a claim's sides.

    Args:
        source: The rows.
        accepted: What ``locked`` compares with.
        locks: Which files it is from, and the artifacts beside them.
    """

    source: Source
    accepted: Lock
    locks: Locks

    def evidence(self, scoped: ScopedClaim) -> Evidence:
        """The paired rows that a claim looks at.

        Raises:
            EvidenceError: If no verdict may rest on them.
            DriftError: If what is run is not what the lock pins.
            NothingAccepted: If the claim compares with ``locked`` and there is nothing.
        """
        claim, scope = scoped.claim, scoped.scope
        left, right = self.side(scoped, claim.left), self.side(scoped, claim.right)
        rows = self.rows(scoped)
        a, b = self._identity(scoped, claim.left), self._identity(scoped, claim.right)
        evidence = pair_rows(
            claim,
            left,
            right,
            row_ids=[row.row_id for row in rows],
            groups={row.row_id: row.group for row in rows if row.group is not None},
            parts={row.row_id: str(row.fields[scope.by]) for row in rows} if scope.by else None,
            same_model=a is not None and b is not None and a[0] == b[0],
            same_program=a is not None and b is not None and a[1] == b[1],
        )
        if self.source.seen(scoped) is not None:
            evidence = replace(evidence, planned=len(self._planned_rows(scoped)))
        check_evidence(claim, evidence)
        if len(stages_of(claim)) > 1 and scope.suite is None:  # on a suite that nobody fails, all is well
            check_metric([*left, *right])
        return evidence

    def _planned_rows(self, scoped: ScopedClaim) -> Sequence[DataRow]:
        task = self.source.tasks[scoped.task]
        return task.held_out(scoped.scope.suite).rows[: scoped.scope.max_rows]

    def rows(self, scoped: ScopedClaim) -> Sequence[DataRow]:
        """The planned rows, or as many of them as there are where the claim was decided before."""
        return self._planned_rows(scoped)[: self.source.seen(scoped)]

    def side(self, scoped: ScopedClaim, side: Reading | float) -> tuple[Row, ...]:
        """The rows of one side; a number has none."""
        if not isinstance(side, Reading):
            return ()
        rows = self._accepted(scoped) if side.stage == LOCKED else self.source.rows(bench_of(scoped), side.stage)
        return tuple(row for row in rows if row.repeat < scoped.scope.repeats)

    def _accepted(self, scoped: ScopedClaim) -> tuple[Row, ...]:
        stage = next(iter(stages_of(scoped.claim)))
        return self.locks.artifacts(scoped.task).get_rows(self.accepted_rows(scoped), stage)

    def accepted_rows(self, scoped: ScopedClaim) -> str:
        """The file of the rows that ``locked`` stands for.

        Raises:
            DriftError: If they cannot be compared with what is judged, though it is the same model.
            NothingAccepted: If there are none, or they cannot be compared.
        """
        stage, suite = next(iter(stages_of(scoped.claim))), scoped.scope.suite
        whose = f"stage {stage!r} of task {scoped.task!r}" + (f" on suite {suite!r}" if suite else "")
        entries = [entry for entry in self.accepted.models if (entry.task, entry.stage) == (scoped.task, stage)]
        accepted = accepted_on(entries[0], suite) if entries else None
        if accepted is None:
            raise NothingAccepted(f"nothing has been accepted yet for {whose}")
        changed = changed_since(accepted, self.source.tasks[scoped.task].held_out(suite))
        if changed:
            said = f"the {' and '.join(changed)} changed since {whose} was accepted, so that there is no comparison"
            if self.source.stage(bench_of(scoped), stage).entry != entries[0]:
                raise NothingAccepted(said)
            retrain = f"pytest --ft-retrain --ft-task {scoped.task}"
            raise DriftError(f"{said}: undo the change, or build and gate again: {retrain}")
        return accepted.rows

    def _identity(self, scoped: ScopedClaim, side: Reading | float) -> tuple[str, str] | None:
        """The model and the program of a side; what was accepted is told by the file of its program's state."""
        if not isinstance(side, Reading):
            return None
        if side.stage == LOCKED:
            entry = self.accepted.entry(scoped.task, next(iter(stages_of(scoped.claim))))
            return entry.identity, entry.artifacts.program
        pinned = self.source.stage(bench_of(scoped), side.stage)
        program = pinned.entry.artifacts.program if scoped.claim.uses_locked else pinned.program_state
        return pinned.entry.identity, program


@dataclass
class Gate:
    """Judges claims on the rows of their stages.

    Args:
        evaluations: The rows.
        accepted: What ``locked`` compares with: the lock as it was before this run.
        locks: Which files it is from, and the artifacts beside them.
    """

    evaluations: Evaluations
    accepted: Lock
    locks: Locks

    @property
    def _pairing(self) -> Pairing:
        return Pairing(self.evaluations, self.accepted, self.locks)

    def evidence(self, scoped: ScopedClaim) -> Evidence:
        """The paired rows that a claim looks at, none of which a stage was built from.

        Raises:
            FinetuneError: As `Pairing.evidence` does, and if a row is what a stage was built from.
            NothingAccepted: If the claim compares with ``locked`` and there is nothing.
        """
        evidence = self._pairing.evidence(scoped)
        self.evaluations.near_leaks(bench_of(scoped), stages_of(scoped.claim))
        return evidence

    def judge(self, scoped: ScopedClaim, policy: Policy) -> Result:
        """Judge a claim.

        Args:
            scoped: What must hold, on which rows.
            policy: How strictly.

        Raises:
            FinetuneError: As `evidence` does.
        """
        spent = self.evaluations.spent(scoped, policy)
        evidence = self.evidence(scoped)
        verdict = judge(scoped.claim, evidence, spent)
        bench = bench_of(scoped)
        return Result(
            task=scoped.task,
            claim=str(scoped),
            measure=scoped.claim.measure,
            verdict=verdict,
            settlement=settle(verdict, policy),
            policy=policy,
            scope=scoped.scope,
            seen=evidence.n_expected,
            scores=tuple(self.evaluations.score(bench, stage) for stage in stages_of(scoped.claim)),
            flips=self.flips(scoped)[:SHOWN_FLIPS],
            flips_options=self._flips_options(scoped),
            remarks=(
                *remarks(scoped.claim, evidence),
                *self.evaluations.unexpected_servers(bench, stages_of(scoped.claim)),
                *self._without_leaks(scoped, evidence, spent),
            ),
            uses=self.evaluations.uses(scoped),
            locked=self._pairing.accepted_rows(scoped) if scoped.claim.uses_locked else None,
        )

    def _without_leaks(self, scoped: ScopedClaim, evidence: Evidence, policy: Policy) -> tuple[str, ...]:
        """What the verdict would be without the rows that are near to what the stages were built from."""
        near = self.evaluations.near_leaks(bench_of(scoped), stages_of(scoped.claim))
        rest = tuple(pair for pair in evidence.pairs if pair.row_id not in near)
        count = len(evidence.pairs) - len(rest)
        if not count or not rest:
            return ()
        other = judge(scoped.claim, replace(evidence, pairs=rest), policy)
        named = ", ".join(sorted(near)[:3])
        sentence = (
            f"{count} rows are near to what a stage was built from ({named}): without them the verdict is"
            f" {other.outcome}, with a difference of {other.estimate:+.3f} on {other.n} rows."
        )
        return (sentence,)

    def flips(self, scoped: ScopedClaim) -> tuple[Flip, ...]:
        """The rows on which the two sides differ: first those that speak against the claim, by how much they do."""
        claim = scoped.claim
        if not isinstance(claim.right, Reading) or not claim.measure.bounded:
            return ()
        sign = 1 if claim.relation == ">=" else -1
        sides = (self._by_row(scoped, claim.left), self._by_row(scoped, claim.right))
        found = []
        for row in self._pairing.rows(scoped):
            after, before = (side.get(row.row_id) for side in sides)
            values = [None if side is None else side.value(claim.measure) for side in (after, before)]
            if after is None or before is None or None in values or values[0] == values[1]:
                continue
            difference = sign * ((values[0] or 0.0) - (values[1] or 0.0))
            found.append(_flip(row, before, after, difference))
        return tuple(sorted(found, key=lambda flip: flip.difference))

    def _flips_options(self, scoped: ScopedClaim) -> tuple[str, ...]:
        """The rows and the lock, where they are not those that the command takes by itself."""
        settings, scope = self.evaluations.settings, scoped.scope
        rows = self.evaluations.seen(scoped) or scope.max_rows
        judged, usual = self.locks.judged(scoped.task), self.locks.usual(scoped.task)
        lock = None if judged == usual else from_here(judged)
        root = from_here(settings.root) if settings.root != Path.cwd() else None
        given = {"--on": scope.suite, "--max-rows": rows, "--lock": lock, "--root": root}
        return tuple(str(word) for option in given.items() if option[1] is not None for word in option)

    def _by_row(self, scoped: ScopedClaim, side: Reading | float) -> Mapping[str, Row]:
        return {row.row_id: row for row in self._pairing.side(scoped, side) if row.repeat == 0}


def _flip(row: DataRow, before: Row, after: Row, difference: float) -> Flip:
    return Flip(
        row_id=row.row_id,
        where=row.where,
        inputs=_shown({name: row.fields[name] for name in row.inputs}),
        expected=_shown({name: value for name, value in row.fields.items() if name not in row.inputs}),
        before=before.output or before.error or "",
        after=after.output or after.error or "",
        difference=difference,
    )


def _shown(fields: Mapping[str, Any]) -> str:
    """The value where there is one field, else all as JSON."""
    if len(fields) == 1:
        return str(next(iter(fields.values())))
    return json.dumps(fields, ensure_ascii=False, default=str)

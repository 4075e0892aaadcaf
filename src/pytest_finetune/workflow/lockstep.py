"""Stopping early: stages are evaluated in lockstep, and a claim goes no further once it is decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pytest_finetune.core import stats
from pytest_finetune.core.claims import Reading, ScopedClaim
from pytest_finetune.core.evidence import MAX_MISSING, MIN_ROWS, pair_rows
from pytest_finetune.core.gate import signed_difference, stopping_test
from pytest_finetune.core.records import Policy, Row
from pytest_finetune.dataset import DataRow
from pytest_finetune.workflow.evaluator import StageRows

LOOKS = 20  # times that a claim's rows are looked at, evenly spread; a look costs nothing but a pause of the pool

Ask = Callable[[Sequence[DataRow], Sequence[str]], Mapping[str, StageRows]]
"""Gives the rows of some stages, by name; what was asked before is not asked again."""


@dataclass
class Lockstep:
    """Evaluates growing parts of the rows, in their order, until every claim is decided or futile.

    Claims that the betting test cannot judge as rows come in (percentiles, cost, slices, clusters, ``locked``), and
    stages that no claim is about, are evaluated to the end.

    Args:
        claims: All claims on these rows, and how strictly they are judged.
        rows: In salted hash order.
        stages: What is wanted; of their claims only those are looked at whose stages are all among them.

    Attributes:
        seen: How many rows each claim was decided on.
    """

    claims: Sequence[tuple[ScopedClaim, Policy]]
    rows: Sequence[DataRow]
    stages: Sequence[str]
    seen: dict[ScopedClaim, int] = field(default_factory=dict)

    def run(self, ask: Ask) -> dict[str, StageRows]:
        """The rows of every stage, as far as they were evaluated."""
        tests = [test for test in map(self._test, self.claims) if test is not None]
        tested = {stage for test in tests for stage in test.scoped.claim.stages}
        to_the_end = [stage for stage in self.stages if stage not in tested or self._is_needed_whole(stage, tests)]
        found = dict(ask(self.rows, to_the_end)) if to_the_end else {}
        for look in sorted({look for test in tests for look in test.looks}):
            due = [test for test in tests if look in test.looks and not test.is_settled]
            wanted = {stage for test in due for stage in test.scoped.claim.stages} - set(to_the_end)
            if wanted:
                found |= ask(self.rows[:look], sorted(wanted))
            for test in due:
                test.take(found, self.rows[:look])
                self.seen[test.scoped] = look
        return found

    def _test(self, expected: tuple[ScopedClaim, Policy]) -> _Test | None:
        scoped, policy = expected
        plain = scoped.scope.by is None and not scoped.claim.uses_locked
        if not plain or not set(scoped.claim.stages) <= set(self.stages) or any(row.group for row in self.rows):
            return None
        horizon = min(scoped.scope.max_rows or len(self.rows), len(self.rows))
        test = stopping_test(scoped.claim, policy, horizon)
        return None if test is None else _Test(scoped, test, horizon)

    def _is_needed_whole(self, stage: str, tests: Sequence[_Test]) -> bool:
        """Whether a claim on this stage cannot stop early."""
        stopping = {test.scoped for test in tests}
        return any(stage in scoped.claim.stages and scoped not in stopping for scoped, _ in self.claims)


@dataclass
class _Test:
    """A claim, followed row by row."""

    scoped: ScopedClaim
    test: stats.Sequential
    horizon: int
    _taken: int = 0
    _missing: int = 0

    @cached_property
    def looks(self) -> tuple[int, ...]:
        """After how many rows it is looked at: whatever the other claims do, its verdict is the same."""
        step = -(-self.horizon // LOOKS)
        return (*(look for look in range(step, self.horizon, step) if look >= MIN_ROWS), self.horizon)

    @property
    def is_settled(self) -> bool:
        """Whether a verdict may rest on the rows so far, and no other would come of the next."""
        return self.test.state is not stats.State.OPEN and self._missing <= MAX_MISSING * self._taken

    def take(self, found: Mapping[str, StageRows], rows: Sequence[DataRow]) -> None:
        """Take the rows that are new."""
        new = [row.row_id for row in rows[self._taken :]]
        self._taken = len(rows)
        claim, scope = self.scoped.claim, self.scoped.scope
        sides = (_rows(side, found, set(new), scope.repeats) for side in (claim.left, claim.right))
        evidence = pair_rows(claim, *sides, row_ids=new)
        self._missing += evidence.n_missing
        for pair in evidence.pairs:
            self.test.update(signed_difference(claim, pair))


def _rows(side: Reading | float, found: Mapping[str, StageRows], new: set[str], repeats: int) -> list[Row]:
    if not isinstance(side, Reading):
        return []
    return [row for row in found[side.stage].rows if row.row_id in new and row.repeat < repeats]

"""Whether the gate was passed: what a version's recorded verdicts say, and whether they are about the pinned rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_finetune.core.claims import Claim, Reading, parse
from pytest_finetune.core.evidence import check_evidence, pair_rows
from pytest_finetune.core.gate import judge
from pytest_finetune.core.records import Evidence, Inconclusive, Measure, Method, Outcome, Policy, Row, Tier, Verdict
from pytest_finetune.dataset import DataRow
from pytest_finetune.errors import ClaimError, EvidenceError, LockError
from pytest_finetune.lock.accepted import SettledClaim
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.model import Entry

_ROUNDED = 1e-5  # the lock keeps six decimals


@dataclass(frozen=True)
class Verdicts:
    """What the gate said of a stage.

    Args:
        entry: The stage.
        together: The entries of its task, which were judged with it.
        artifacts: The files beside the lock.
        rows: The test rows in the order in which they are judged; ``None``: not known.
    """

    entry: Entry
    together: Sequence[Entry]
    artifacts: Artifacts
    rows: Sequence[DataRow] | None = None

    def check(self, *, observed: bool) -> None:
        """Refuse a version that did not pass the gate, or whose verdicts are about other rows than the pinned ones.

        Args:
            observed: What held as observed is enough, where else what blocks must be certified.

        Raises:
            EvidenceError: If it did not pass.
            LockError: If the lock, or a file beside it, was changed since.
        """
        entry = self.entry
        if not entry.gate:
            raise EvidenceError(f"{entry.name}: no claim on {entry.model} was judged: {self._again}")
        for claim in entry.gate:
            if not claim.rows:
                raise EvidenceError(f"{self._of(claim)} was judged before rows were noted: {self._again}")
            if _blocks(claim):
                raise EvidenceError(f"{self._of(claim)} does not hold ({claim.outcome}): {self._again}")
            if not observed and _binding(claim) and claim.outcome is not Outcome.PASS:
                raise EvidenceError(
                    f"{self._of(claim)} held as observed and is not certified (n={claim.n}): judge it on more rows,"
                    " or promote what was only observed with --observed"
                )
            self._check_rows(claim)

    def _check_rows(self, claim: SettledClaim) -> None:
        own, pinned = {*_rows_of(self.entry)}, {ref for entry in self.together for ref in _rows_of(entry)}
        if not {*claim.rows} & own or not {*claim.rows} <= pinned:
            raise LockError(f"{self._of(claim)} was judged on other rows than the pinned ones: {self._again}")
        found = self._anew(claim)
        if found and not any(_same(claim, verdict) for verdict in found):
            said = f"{found[0].outcome} with {found[0].estimate:+.6f} on {found[0].n}"
            raise LockError(
                f"{self._of(claim)} is {claim.outcome} with {claim.estimate:+.6f} on {claim.n} rows, says the lock;"
                f" its rows say {said}: one of them was edited. Take back the committed lock and its folder with git"
                " checkout, or build again with `pytest --ft-retrain`"
            )

    def _anew(self, settled: SettledClaim) -> list[Verdict]:
        """The verdict by the rows: one for each way in which they may have been judged.

        Empty where that cannot be told: of claims on slices or suites, on anything but scores, or with ``locked``.
        """
        try:
            (claim,) = parse(settled.claim)
        except ClaimError:
            return []
        if claim.measure is not Measure.SCORE or claim.uses_locked:
            return []
        sides = [self._rows(settled, stage) for stage in claim.stages]
        repeats = max((row.repeat for side in sides for row in side), default=0) + 1
        plain = claim.margin is None and isinstance(claim.right, Reading)
        policy = Policy(margin=settled.margin if plain else 0.0, alpha=settled.alpha)
        verdicts = list[Verdict]()
        for count in range(1, repeats + 1):
            evidence = self._paired(claim, sides, count)
            if self.rows is None and 0 < settled.n < len(evidence.pairs):
                return []  # on which of them, the dataset would tell
            first = evidence.pairs[: settled.n] if settled.n > 0 else evidence.pairs
            horizons = (None, evidence.n_expected) if settled.method is Method.BETTING else (None,)
            verdicts += (judge(claim, replace(evidence, pairs=first, planned=each), policy) for each in horizons)
        return verdicts

    def _paired(self, claim: Claim, sides: Sequence[Sequence[Row]], repeats: int) -> Evidence:
        """The evidence of so many answers to each row.

        Raises:
            EvidenceError: If no verdict may rest on it.
        """
        answered = set.intersection(*({row.row_id for row in side} for side in sides))
        known = sorted(answered) if self.rows is None else [row.row_id for row in self.rows if row.row_id in answered]
        left, *right = ([row for row in side if row.repeat < repeats] for side in sides)
        a, b = self._stages[claim.stages[0]], self._stages[claim.stages[-1]]
        evidence = pair_rows(
            claim,
            left,
            *right,
            row_ids=known,
            groups={row.row_id: row.group for row in self.rows or () if row.group is not None},
            same_model=a.identity == b.identity,
            same_program=a.artifacts.program == b.artifacts.program,
        )
        check_evidence(claim, evidence)
        return evidence

    @property
    def _stages(self) -> Mapping[str, Entry]:
        return {entry.stage: entry for entry in self.together}

    def _rows(self, claim: SettledClaim, stage: str) -> Sequence[Row]:
        ref = self._stages[stage].artifacts.rows if stage in self._stages else None
        if ref is None or ref not in claim.rows:
            raise LockError(f"{self._of(claim)} was not judged on the pinned rows of {stage!r}: {self._again}")
        return self.artifacts.get_rows(ref, stage)

    def _of(self, claim: SettledClaim) -> str:
        return f"{self.entry.name}: the claim {claim.claim!r}"

    @property
    def _again(self) -> str:
        return (
            f"gate it again with pytest --ft-retrain --ft-task {self.entry.task}, or where a candidate waits with"
            " pytest --ft-accept"
        )


def _rows_of(entry: Entry) -> Iterator[str]:
    if entry.artifacts.rows is not None:
        yield entry.artifacts.rows
    yield from (suite.rows for suite in entry.artifacts.suites.values())


def _binding(claim: SettledClaim) -> bool:
    """Whether it must hold, whatever the statistics leave open."""
    return claim.tier is Tier.CRITICAL and claim.inconclusive is not Inconclusive.WARN


def _blocks(claim: SettledClaim) -> bool:
    """Whether its test failed: see `core.gate.settle`."""
    if claim.outcome is Outcome.FAIL:
        return claim.tier is not Tier.ADVISORY
    return not claim.held and _binding(claim)


def _same(claim: SettledClaim, verdict: Verdict) -> bool:
    """Whether rows give the recorded verdict; one that came early may have had fewer rows to come."""
    if claim.n != verdict.n or not math.isclose(claim.estimate, verdict.estimate, abs_tol=_ROUNDED):
        return False
    early = verdict.planned is not None and verdict.n < verdict.planned
    return early or claim.method is not verdict.method or claim.outcome is verdict.outcome

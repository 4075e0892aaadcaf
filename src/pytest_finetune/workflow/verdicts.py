"""Whether the gate was passed: what a version's recorded verdicts say, and whether they are about what is pinned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_finetune.core.claims import Claim, Reading, ScopedClaim, parse
from pytest_finetune.core.gate import judge, settle
from pytest_finetune.core.records import Evidence, Inconclusive, Measure, Outcome, Policy, Tier, Verdict
from pytest_finetune.errors import ClaimError, EvidenceError, LockError, UsageError
from pytest_finetune.lock.accepted import SettledClaim
from pytest_finetune.lock.model import Entry
from pytest_finetune.workflow.evaluations import stages_of
from pytest_finetune.workflow.stages import accepted_on

_ROUNDED = 1e-5  # the lock keeps six decimals


class Kept(Protocol):
    """What verdicts rest on, as it was kept."""

    def evidence(self, scoped: ScopedClaim, settled: SettledClaim) -> Evidence:
        """The evidence that a claim was settled on.

        Raises:
            FinetuneError: If there is none any more.
        """


@dataclass(frozen=True)
class Verdicts:
    """What the gate said of a stage.

    Args:
        entry: The stage.
        together: The entries of its task, which were judged with it.
        kept: What it was judged on.
        repair: How to take back what was committed.
    """

    entry: Entry
    together: Sequence[Entry]
    kept: Kept
    repair: str

    def check(self, *, observed: bool) -> tuple[str, ...]:
        """Refuse a version that did not pass the gate, or whose verdicts do not follow from what is pinned.

        Args:
            observed: What held as observed is enough, where else what blocks must be certified.

        Returns:
            What the version rests on, in sentences.

        Raises:
            EvidenceError: If it did not pass.
            LockError: If the lock, or a file beside it, was changed since.
        """
        entry = self.entry
        if not entry.gate:
            raise EvidenceError(
                f"{entry.name}: no claim that was judged names it: write one that names {entry.stage!r} with"
                f" @pytest.mark.ft_claim, then {self._again}"
            )
        for claim in entry.gate:
            self._check_held(claim, observed=observed)
            self._check_bound(claim)
            self._check_anew(claim)
        self._check_complete()
        return self._told()

    def _check_held(self, claim: SettledClaim, *, observed: bool) -> None:
        if not (claim.rows and claim.versions and claim.seen and claim.claims):
            raise EvidenceError(f"{self._of(claim)} was judged before all was noted that it rests on: {self._again}")
        if _blocks(claim):
            raise EvidenceError(f"{self._of(claim)} does not hold ({claim.outcome}): {self._again}")
        if not observed and _binding(claim) and claim.outcome is not Outcome.PASS:
            raise EvidenceError(
                f"{self._of(claim)} held as observed and is not certified (n={claim.n}): judge it on more rows,"
                " or promote what was only observed with --observed"
            )

    def _check_bound(self, claim: SettledClaim) -> None:
        """It must be about the stages as they are pinned, and about the rows that were accepted of them."""
        named = stages_of(self._parsed(claim))
        stages = {entry.stage: entry for entry in self.together}
        pinned = [stages[name] for name in named if name in stages]
        if len(pinned) < len(named) or {*claim.versions} != {entry.key for entry in pinned}:
            raise LockError(f"{self._of(claim)} was judged on other versions than the pinned ones: {self._again}")
        accepted = [accepted_on(entry, claim.suite) for entry in pinned]
        if {*claim.rows} != {None if rows is None else rows.rows for rows in accepted}:
            raise LockError(f"{self._of(claim)} was judged on other rows than the pinned ones: {self._again}")

    def _check_anew(self, settled: SettledClaim) -> None:
        """Judge it once more, as the gate does, on the rows beside the lock."""
        claim = self._parsed(settled)
        if claim.measure is Measure.LATENCY:
            return
        evidence = self.kept.evidence(ScopedClaim(self.entry.task, claim, settled.scope), settled)
        policy = self._policy(settled, claim)
        verdict = judge(claim, evidence, policy)
        if not _same(settled, verdict) or settled.held is not settle(verdict, policy).held:
            raise LockError(
                f"{self._of(settled)} is {settled.outcome} with {settled.estimate:+.6f} on {settled.n} rows, says the"
                f" lock; its rows say {verdict.outcome} with {verdict.estimate:+.6f} on {verdict.n}: one of them was"
                f" edited: {self.repair}"
            )

    def _policy(self, settled: SettledClaim, claim: Claim) -> Policy:
        plain = claim.margin is None and isinstance(claim.right, Reading)
        margin = settled.margin if plain else 0.0
        try:
            return Policy(margin, settled.alpha, settled.inconclusive, settled.tier)
        except UsageError as error:
            problem = f"was judged by figures that nobody may set ({error})"
            raise LockError(f"{self._of(settled)} {problem}: {self._again}") from None

    def _check_complete(self) -> None:
        """Every claim that the task was accepted on must be there, in the gate of each stage that it names."""
        claims = {claim: stages_of(self._parsed(claim)) for entry in self.together for claim in entry.gate}
        there = all(
            {*entry.gate} == {claim for claim, stages in claims.items() if entry.stage in stages}
            for entry in self.together
        )
        if not there or {claim.claims for claim in claims} != {len(claims)}:
            raise LockError(
                f"{self.entry.name}: the lock does not have all claims that {self.entry.task} was accepted on:"
                f" {self.repair}"
            )

    def _told(self) -> tuple[str, ...]:
        """What it rests on, and what of that nobody has looked at again."""
        told = [f"{claim.claim} ({claim.outcome}, n={claim.n})" for claim in self.entry.gate]
        believed = [claim.claim for claim in self.entry.gate if self._parsed(claim).measure is Measure.LATENCY]
        sentences = [f"It rests on the claims that it was accepted on: {'; '.join(told)}."]
        if believed:
            sentences.append(f"Believed as recorded, since latency is not kept: {'; '.join(believed)}.")
        return tuple(sentences)

    def _parsed(self, claim: SettledClaim) -> Claim:
        """The claim that a recorded text means.

        Raises:
            LockError: If it means none.
        """
        try:
            (parsed,) = parse(claim.text)
        except (ClaimError, ValueError):  # a chain is several claims
            raise LockError(f"{self._of(claim)} is none that can be judged: {self._again}") from None
        return parsed

    def _of(self, claim: SettledClaim) -> str:
        return f"{self.entry.name}: the claim {claim.claim!r}"

    @property
    def _again(self) -> str:
        return (
            f"gate it again with pytest --ft-retrain --ft-task {self.entry.task}, or where a candidate waits with"
            " pytest --ft-accept"
        )


def _binding(claim: SettledClaim) -> bool:
    """Whether it must hold, whatever the statistics leave open."""
    return claim.tier is Tier.CRITICAL and claim.inconclusive is not Inconclusive.WARN


def _blocks(claim: SettledClaim) -> bool:
    """Whether its test failed: see `core.gate.settle`."""
    if claim.outcome is Outcome.FAIL:
        return claim.tier is not Tier.ADVISORY
    return not claim.held and _binding(claim)


def _same(claim: SettledClaim, verdict: Verdict) -> bool:
    """Whether rows give the recorded verdict."""
    recorded = claim.outcome, claim.method, claim.n
    close = math.isclose(claim.estimate, verdict.estimate, abs_tol=_ROUNDED)
    return recorded == (verdict.outcome, verdict.method, verdict.n) and close

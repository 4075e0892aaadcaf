"""From evidence to a verdict, and from a verdict to what it does to the test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from pytest_finetune.core import stats
from pytest_finetune.core.claims import Claim, Reading
from pytest_finetune.core.records import (
    Evidence,
    Inconclusive,
    Method,
    Outcome,
    Pair,
    Part,
    Policy,
    Settlement,
    Tier,
    Verdict,
)


def judge(claim: Claim, evidence: Evidence, policy: Policy) -> Verdict:
    """Judge a claim on evidence that `check_evidence` lets through.

    The test follows from the kind of data alone: Tango's for paired binary scores, the betting test for
    graded scores and for ratios, the exact binomial or the betting test against a number, clustered t where rows
    come in groups, and Student's t for measures without an upper bound and bounds of order statistics for their
    percentiles (approximate). A run that may stop early is judged by the betting test wherever the others need
    all rows of a bounded measure.

    A margin written in the claim is the margin; else the policy's, for two stages compared by score or format
    errors; else 0. The same program state and model on both sides hold by identity, whatever noise the rows
    show; against ``locked`` only if no row differs.
    """
    case = _Case.of(claim, evidence, policy)
    verdict = case.verdict(*case.decide())
    names = sorted({pair.part for pair in evidence.pairs if pair.part is not None})
    cases = {name: _Case.of(claim, _part(evidence, name), policy) for name in names}
    return _in_parts(verdict, cases) if cases else verdict


def _part(evidence: Evidence, name: str) -> Evidence:
    return replace(evidence, pairs=tuple(pair for pair in evidence.pairs if pair.part == name), missing=())


def _in_parts(whole: Verdict, cases: Mapping[str, _Case]) -> Verdict:
    """Judge each slice: all must hold, so each PASS is at full alpha; any may fail, so FAILs are corrected (Holm)."""
    decided = [case.decide() for case in cases.values()]
    strict = whole.alpha / len(cases)  # what a betting test must aim at to survive Holm
    p_values = [replace(case, alpha=strict).decide()[1].p_below for case in cases.values()]
    failed = stats.holm(p_values, whole.alpha)
    parts = [
        Part(name, case.verdict(method, replace(decision, below=decision.below and fails)))
        for (name, case), (method, decision), fails in zip(cases.items(), decided, failed, strict=True)
    ]
    outcomes = {part.verdict.outcome for part in parts}
    outcome = next(each for each in (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS) if each in outcomes)
    return replace(
        whole,
        outcome=outcome,
        rows_needed=_rows_for_parts(parts, whole.n) if outcome is Outcome.INCONCLUSIVE else None,
        certifiable_margin=None,
        parts=tuple(sorted(parts, key=lambda part: (part.verdict.estimate, part.name))),
    )


def _rows_for_parts(parts: Sequence[Part], n: int) -> int | None:
    """About how many rows would settle every slice, if these grow alike."""
    unsettled = [part.verdict for part in parts if part.verdict.outcome is Outcome.INCONCLUSIVE]
    needed = [math.ceil(part.rows_needed * n / part.n) for part in unsettled if part.rows_needed is not None]
    return max(needed) if len(needed) == len(unsettled) else None


@dataclass(frozen=True, slots=True)
class _Case:
    """A claim turned such that a positive difference favours it."""

    claim: Claim
    pairs: tuple[Pair, ...]
    groups: tuple[str, ...] | None
    differences: tuple[float, ...]
    left: float
    right: float
    margin: float
    alpha: float
    planned: int | None
    identity: bool

    @classmethod
    def of(cls, claim: Claim, evidence: Evidence, policy: Policy) -> _Case:
        a, b = _factors(claim)
        pairs, of = evidence.pairs, _middle(claim)
        return cls(
            claim=claim,
            pairs=pairs,
            groups=evidence.groups,
            differences=tuple(signed_difference(claim, pair) for pair in pairs),
            left=a * of([pair.left for pair in pairs]),
            right=b * of([pair.right for pair in pairs]) if isinstance(claim.right, Reading) else claim.right,
            margin=_margin(claim, policy),
            alpha=policy.alpha,
            planned=evidence.planned,
            identity=evidence.identity,
        )

    @property
    def estimate(self) -> float:
        return _sign(self.claim) * (self.left - self.right) + 0.0  # a tie is 0.0, not -0.0

    def _holds_by_identity(self) -> bool:
        if not self.identity or self.margin < 0 or len(set(_factors(self.claim))) > 1:
            return False
        return not self.claim.uses_locked or not any(self.differences)

    def flips(self) -> tuple[int, int, int]:
        """Rows won, lost, tied; factors aside."""
        sign = _sign(self.claim)
        wins = sum(sign * (pair.left - pair.right) > 0 for pair in self.pairs)
        losses = sum(sign * (pair.left - pair.right) < 0 for pair in self.pairs)
        return wins, losses, len(self.pairs) - wins - losses

    def decide(self) -> tuple[Method, stats.Decision]:
        d0, alpha = -self.margin, self.alpha
        if self._holds_by_identity():
            return Method.IDENTITY, stats.Decision(above=True, below=False, lower=0.0, upper=0.0)
        if self.claim.percentile is not None:
            return Method.QUANTILE, self._of_percentiles(self.claim.percentile / 100)
        if not self.claim.measure.bounded:
            return Method.PAIRED_T, stats.clustered_t(self.differences, self.groups, d0=d0, alpha=alpha)
        low, high = _range(self.claim)
        if self.groups is not None:
            decision = stats.clustered_t(self.differences, self.groups, d0=d0, low=low, high=high, alpha=alpha)
            return Method.CLUSTERED_T, decision
        if self.planned is None and self._binary():
            if not isinstance(self.claim.right, Reading):
                return Method.BINOMIAL, self._against_bar(self.claim.right)
            if _factors(self.claim) == (1, 1):
                wins, losses, _ = self.flips()
                return Method.TANGO, stats.tango(wins, losses, len(self.pairs), d0=d0, alpha=alpha)
        decision = stats.betting(self.differences, d0=d0, horizon=self.planned, low=low, high=high, alpha=alpha)
        return Method.BETTING, decision

    def _binary(self) -> bool:
        sides = [pair.left for pair in self.pairs]
        if isinstance(self.claim.right, Reading):
            sides += [pair.right for pair in self.pairs]
        return set(sides) <= {0.0, 1.0}

    def _of_percentiles(self, share: float) -> stats.Decision:
        """For ``<=`` the difference is turned round, and with it the decision."""
        a, b = _factors(self.claim)
        left, right = [a * pair.left for pair in self.pairs], [pair.right for pair in self.pairs]
        sign = _sign(self.claim)
        d0, groups = -sign * self.margin, self.groups
        found = stats.quantile_difference(left, right, share, groups, factor=b, d0=d0, alpha=self.alpha)
        if sign > 0:
            return found
        return stats.Decision(found.below, found.above, -found.upper, -found.lower, found.p_below, found.p_above)

    def _against_bar(self, bar: float) -> stats.Decision:
        """For ``<=`` count the zeros, whose share must be at least ``1 - bar``."""
        ones = sum(pair.left == 1 for pair in self.pairs)
        good, bar = (ones, bar) if _sign(self.claim) > 0 else (len(self.pairs) - ones, 1 - bar)
        return stats.exact_binomial(good, len(self.pairs), bar=bar, alpha=self.alpha)

    def verdict(self, method: Method, decision: stats.Decision) -> Verdict:
        outcome = Outcome.FAIL if decision.below else Outcome.PASS if decision.above else Outcome.INCONCLUSIVE
        wins, losses, ties = self.flips()
        return Verdict(
            outcome=outcome,
            method=method,
            left=self.left,
            right=self.right,
            estimate=self.estimate,
            lower=decision.lower,
            upper=decision.upper,
            margin=self.margin,
            alpha=self.alpha,
            n=len(self.pairs),
            wins=wins,
            losses=losses,
            ties=ties,
            rows_needed=self._rows_needed(method) if outcome is Outcome.INCONCLUSIVE else None,
            certifiable_margin=self._certifiable_margin(method),
            p_differ=stats.mcnemar_mid_p(wins, losses) if method is Method.TANGO else None,
            ratio=self._ratio(method),
            planned=self.planned,
        )

    def _ratio(self, method: Method) -> tuple[float, float] | None:
        """Bounds of left over right, where the claim speaks of a share of the right side."""
        bounded = self.claim.measure.bounded
        if not isinstance(self.claim.right, Reading) or method in {Method.IDENTITY, Method.QUANTILE}:
            return None
        if bounded and _factors(self.claim) == (1, 1):
            return None
        if method is Method.BETTING and self.planned is not None:  # it takes a horizon, which these bounds know not
            return None
        left, right = [pair.left for pair in self.pairs], [pair.right for pair in self.pairs]
        lower, upper = stats.ratio_interval(left, right, self.groups, bounded=bounded, alpha=self.alpha)
        a, _ = _factors(self.claim)
        return a * lower, a * upper

    def _spread(self) -> tuple[float, float]:
        """Standard deviation of a difference, clusters counted in, and the rows per independent unit."""
        n = len(self.pairs)
        variance, units = stats.cluster_variance(self.differences, self.groups)
        return math.sqrt(variance * n), n / units

    def _rows_needed(self, method: Method) -> int | None:
        if method is Method.QUANTILE:
            return None
        distance = abs(self.estimate + self.margin)
        sd, rows_per_unit = self._spread()
        if distance < 1e-9 or not math.isfinite(sd):
            return None
        needed, units = stats.rows_needed(distance, sd, alpha=self.alpha), 0
        if self.claim.measure.bounded:
            units = stats.min_rows(min(distance, 1.0), alpha=self.alpha)
        if method in {Method.CLUSTERED_T, Method.PAIRED_T}:
            units = max(units, stats.MIN_UNITS)
        needed = max(needed, math.ceil(units * rows_per_unit))
        if method is Method.BETTING:
            needed = stats.betting_rows(needed)
        return max(needed, len(self.pairs) + 1)

    def _certifiable_margin(self, method: Method) -> float | None:
        sd, _ = self._spread()
        if not (self.claim.measure.bounded and isinstance(self.claim.right, Reading) and math.isfinite(sd)):
            return None
        return stats.certifiable_margin(len(self.pairs), sd, alpha=self.alpha, betting=method is Method.BETTING)


# --- stopping early ---


def stopping_test(claim: Claim, policy: Policy, horizon: int) -> stats.Sequential | None:
    """The test that follows a claim row by row; its verdicts are those of `judge` on as many rows.

    Args:
        claim: What is judged.
        policy: How strictly.
        horizon: How many rows are planned.

    Returns:
        None for percentiles and for measures without an upper bound: these are judged on all rows.
    """
    if not claim.measure.bounded:
        return None
    low, high = _range(claim)
    return stats.Sequential(horizon=horizon, d0=-_margin(claim, policy), low=low, high=high, alpha=policy.alpha)


def signed_difference(claim: Claim, pair: Pair) -> float:
    """A row's difference, positive in favour of the claim."""
    a, b = _factors(claim)
    return _sign(claim) * (a * pair.left - b * pair.right)


def _range(claim: Claim) -> tuple[float, float]:
    """The smallest and the largest difference that a row can show."""
    a, b = _factors(claim)
    bar = claim.right
    low, high = (-b, a) if isinstance(bar, Reading) else (-bar, 1 - bar)
    return (low, high) if _sign(claim) > 0 else (-high, -low)


def _sign(claim: Claim) -> int:
    return 1 if claim.relation == ">=" else -1


def _middle(claim: Claim) -> Callable[[Sequence[float]], float]:
    """What stands for a side's values: their mean, or the claim's percentile."""
    percentile = claim.percentile
    if percentile is None:
        return fmean
    return lambda values: stats.quantile(values, percentile / 100).estimate


def _factors(claim: Claim) -> tuple[float, float]:
    return claim.left.factor, claim.right.factor if isinstance(claim.right, Reading) else 1.0


def _margin(claim: Claim, policy: Policy) -> float:
    if claim.margin is not None:
        return claim.margin
    return policy.margin if claim.measure.bounded and isinstance(claim.right, Reading) else 0.0


def settle(verdict: Verdict, policy: Policy) -> Settlement:
    """Say what a verdict does to the test.

    PASS holds and FAIL blocks, always. An INCONCLUSIVE claim is settled by what was observed
    (`Verdict.observed`), blocks in any case (``fail``), or holds as observed and never blocks (``warn``).
    ``certified`` says that the statistics have decided, either way. A supporting claim blocks on FAIL alone, an
    advisory one never.
    """
    if verdict.outcome is not Outcome.INCONCLUSIVE:
        held = verdict.outcome is Outcome.PASS
        return Settlement(held=held, certified=True, blocking=not held and policy.tier is not Tier.ADVISORY)
    held = verdict.observed and policy.inconclusive is not Inconclusive.FAIL
    binding = policy.inconclusive is not Inconclusive.WARN and policy.tier is Tier.CRITICAL
    return Settlement(held=held, certified=False, blocking=not held and binding)

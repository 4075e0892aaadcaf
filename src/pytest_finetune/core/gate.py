"""From rows to evidence, from evidence to a verdict, from a verdict to what it does to the test."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pytest_finetune.core import stats
from pytest_finetune.core.claims import Claim, Reading
from pytest_finetune.core.records import (
    Evidence,
    Inconclusive,
    Measure,
    Method,
    Outcome,
    Pair,
    Policy,
    Row,
    Settlement,
    Verdict,
)
from pytest_finetune.errors import EvidenceError

MAX_MISSING = 0.02  # a larger share of missing pairs, and there is no verdict


# --- evidence ---


def pair_rows(
    claim: Claim,
    left: Iterable[Row],
    right: Iterable[Row] = (),
    *,
    row_ids: Sequence[str],
    groups: Mapping[str, str] | None = None,
    same_model: bool = False,
    same_program: bool = False,
) -> Evidence:
    """Pair the rows of a claim's two sides.

    Args:
        claim: What is to be judged.
        left: Rows of the left side's stage, in any order.
        right: Rows of the right side's stage (for ``locked``: the rows last accepted); none against a number.
        row_ids: Every row of the dataset, in salted hash order.
        groups: Row id -> cluster, where the dataset has a group field.
        same_model: Both sides are served by the same model.
        same_program: Both sides run the same program state.

    Returns:
        The evidence. Repeats are averaged; a row of which any repeat lacks a value counts as missing.
    """
    mine, theirs = _by_row(left), _by_row(right)
    pairs, missing = list[Pair](), list[str]()
    for row_id in row_ids:
        a = _mean_value(mine.get(row_id, ()), claim.measure)
        bar = claim.right
        b = _mean_value(theirs.get(row_id, ()), claim.measure) if isinstance(bar, Reading) else bar
        if a is None or b is None:
            missing.append(row_id)
        else:
            pairs.append(Pair(row_id, a, b, (groups or {}).get(row_id)))
    return Evidence(
        pairs=tuple(pairs),
        missing=tuple(missing),
        same_model=same_model,
        same_program=same_program,
        same_outputs=bool(pairs)
        and all(_same_outputs(mine[pair.row_id], theirs.get(pair.row_id, ())) for pair in pairs),
    )


def _by_row(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.row_id].append(row)
    return found


def _mean_value(repeats: Sequence[Row], measure: Measure) -> float | None:
    values = [value for row in repeats if (value := row.value(measure)) is not None]
    return fmean(values) if values and len(values) == len(repeats) else None


def _same_outputs(left: Iterable[Row], right: Iterable[Row]) -> bool:
    """Whether both gave the same answers, repeat by repeat; answers that were not kept are not the same."""
    a, b = ([row.output for row in sorted(side, key=lambda row: row.repeat)] for side in (left, right))
    return a == b and None not in a


def check_evidence(claim: Claim, evidence: Evidence) -> None:
    """Refuse evidence that no verdict may rest on.

    Raises:
        EvidenceError: No rows; more than `MAX_MISSING` of the pairs missing; a value that is not finite, or
            a score outside [0, 1]; or different models with identical outputs on every row (unless ``locked``).
    """
    if not evidence.n_expected:
        raise EvidenceError(f"'{claim}': there is no row to judge it on. Give the dataset a test split with rows.")
    if evidence.n_missing > MAX_MISSING * evidence.n_expected:
        raise EvidenceError(_missing_message(claim, evidence))
    top = 1.0 if claim.measure.bounded else math.inf
    for pair in evidence.pairs:
        for value in (pair.left, pair.right):
            if not (math.isfinite(value) and 0 <= value <= top):
                raise EvidenceError(
                    f"'{claim}': row {pair.row_id} has the {claim.measure} {value!r}; it must be a finite "
                    f"number {'in [0, 1]: mend the metric' if claim.measure.bounded else 'of at least 0'}."
                )
    if evidence.same_outputs and not evidence.same_model and not claim.uses_locked:
        raise EvidenceError(
            f"'{claim}': two different models gave identical outputs on all {len(evidence.pairs)} rows: one "
            "of them was probably never called. Check the model ids of both stages, and the endpoint's cache."
        )


def _missing_message(claim: Claim, evidence: Evidence) -> str:
    where = "both sides" if isinstance(claim.right, Reading) else "the left side"
    advice = f"The endpoint did not report {claim.measure}, or its price is unknown."
    if claim.measure.bounded:
        advice = "A provider's error is never a score: run again, which asks only for the missing rows."
    return (
        f"'{claim}': {evidence.n_missing} of {evidence.n_expected} rows have no {claim.measure} on {where} (first: "
        f"{', '.join(evidence.missing[:3])}); a verdict allows {MAX_MISSING:.0%}. {advice}"
    )


def check_metric(rows: Iterable[Row]) -> None:
    """Refuse a metric that gives one and the same score to every row of every stage.

    Args:
        rows: All rows of all stages of one task. One stage alone may be perfect: nothing follows from it.

    Raises:
        EvidenceError: The metric is constant over two or more stages.
    """
    scores, stages = set[float](), set[str]()
    for row in rows:
        if (score := row.value(Measure.SCORE)) is not None:
            scores.add(score)
            stages.add(row.stage)
    if len(scores) == 1 and len(stages) > 1:
        raise EvidenceError(
            f"the metric gave {scores.pop():g} to every row of {', '.join(sorted(stages))}: it cannot tell "
            "them apart, so that no comparison means anything. Check the metric, or take a harder test split."
        )


# --- verdict ---


def judge(claim: Claim, evidence: Evidence, policy: Policy) -> Verdict:
    """Judge a claim on evidence that `check_evidence` lets through.

    The test follows from the kind of data alone: Tango's for paired binary scores, the betting test for
    graded scores and for ratios, the exact binomial or the betting test against a number, CR1 t where rows
    come in groups, and Student's t for measures without an upper bound (approximate).

    A margin written in the claim is the margin; else the policy's, for two stages compared by score or format
    errors; else 0. The same program state and model on both sides hold by identity, whatever noise the rows
    show; against ``locked`` only if no row differs.
    """
    case = _Case.of(claim, evidence, policy)
    if case.by_identity(evidence):
        return case.verdict(Method.IDENTITY, stats.Decision(above=True, below=False, lower=0.0, upper=0.0))
    return case.verdict(*case.decide())


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

    @classmethod
    def of(cls, claim: Claim, evidence: Evidence, policy: Policy) -> _Case:
        sign, (a, b) = _sign(claim), _factors(claim)
        pairs = evidence.pairs
        return cls(
            claim=claim,
            pairs=pairs,
            groups=evidence.groups,
            differences=tuple(sign * (a * pair.left - b * pair.right) for pair in pairs),
            left=a * fmean(pair.left for pair in pairs),
            right=b * fmean(pair.right for pair in pairs) if isinstance(claim.right, Reading) else claim.right,
            margin=_margin(claim, policy),
            alpha=policy.alpha,
        )

    @property
    def estimate(self) -> float:
        return _sign(self.claim) * (self.left - self.right)

    def by_identity(self, evidence: Evidence) -> bool:
        if not evidence.identity or self.margin < 0 or len(set(_factors(self.claim))) > 1:
            return False
        return not self.claim.uses_locked or not any(self.differences)

    def flips(self) -> tuple[int, int, int]:
        """Rows won, lost, tied; factors aside."""
        sign = _sign(self.claim)
        wins = sum(sign * (pair.left - pair.right) > 0 for pair in self.pairs)
        losses = sum(sign * (pair.left - pair.right) < 0 for pair in self.pairs)
        return wins, losses, len(self.pairs) - wins - losses

    def decide(self) -> tuple[Method, stats.Decision]:
        d0, alpha, n = -self.margin, self.alpha, len(self.pairs)
        if not self.claim.measure.bounded:
            return Method.PAIRED_T, stats.clustered_t(self.differences, self.groups, d0=d0, alpha=alpha)
        low, high = self._range()
        if self.groups is not None:
            decision = stats.clustered_t(self.differences, self.groups, d0=d0, low=low, high=high, alpha=alpha)
            return Method.CLUSTERED_T, decision
        if self._binary() and not isinstance(self.claim.right, Reading):
            return Method.BINOMIAL, self._against_bar(self.claim.right)
        if self._binary() and _factors(self.claim) == (1, 1):
            wins, losses, _ = self.flips()
            return Method.TANGO, stats.tango(wins, losses, n, d0=d0, alpha=alpha)
        return Method.BETTING, stats.betting(self.differences, d0=d0, low=low, high=high, alpha=alpha)

    def _binary(self) -> bool:
        sides = [pair.left for pair in self.pairs]
        if isinstance(self.claim.right, Reading):
            sides += [pair.right for pair in self.pairs]
        return set(sides) <= {0.0, 1.0}

    def _range(self) -> tuple[float, float]:
        a, b = _factors(self.claim)
        bar = self.claim.right
        low, high = (-b, a) if isinstance(bar, Reading) else (-bar, 1 - bar)
        return (low, high) if _sign(self.claim) > 0 else (-high, -low)

    def _against_bar(self, bar: float) -> stats.Decision:
        """For ``<=`` count the zeros, whose share must be at least ``1 - bar``."""
        ones = sum(pair.left == 1 for pair in self.pairs)
        good, bar = (ones, bar) if _sign(self.claim) > 0 else (len(self.pairs) - ones, 1 - bar)
        return stats.exact_binomial(good, len(self.pairs), bar=bar, alpha=self.alpha)

    def verdict(self, method: Method, decision: stats.Decision) -> Verdict:
        outcome = Outcome.PASS if decision.above else Outcome.FAIL if decision.below else Outcome.INCONCLUSIVE
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
        )

    def _spread(self) -> tuple[float, float]:
        """Standard deviation of a difference, clusters counted in, and the rows per independent unit."""
        n = len(self.pairs)
        variance, units = stats.cluster_variance(self.differences, self.groups)
        return math.sqrt(variance * n), n / units

    def _rows_needed(self, method: Method) -> int | None:
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


def _sign(claim: Claim) -> int:
    return 1 if claim.relation == ">=" else -1


def _factors(claim: Claim) -> tuple[float, float]:
    return claim.left.factor, claim.right.factor if isinstance(claim.right, Reading) else 1.0


def _margin(claim: Claim, policy: Policy) -> float:
    if claim.margin is not None:
        return claim.margin
    return policy.margin if claim.measure.bounded and isinstance(claim.right, Reading) else 0.0


# --- settlement ---


def settle(verdict: Verdict, inconclusive: Inconclusive) -> Settlement:
    """Say what a verdict does to the test.

    PASS holds and FAIL blocks, always. An INCONCLUSIVE claim is settled by what was observed
    (`Verdict.observed`), blocks in any case (``fail``), or holds as observed and never blocks (``warn``).
    ``certified`` says that the statistics have decided, either way.
    """
    if verdict.outcome is not Outcome.INCONCLUSIVE:
        held = verdict.outcome is Outcome.PASS
        return Settlement(held=held, certified=True, blocking=not held)
    held = verdict.observed and inconclusive is not Inconclusive.FAIL
    return Settlement(held=held, certified=False, blocking=not held and inconclusive is not Inconclusive.WARN)

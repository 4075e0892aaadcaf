"""What to do about a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pytest_finetune.core.claims import Reading
from pytest_finetune.core.records import Method, Outcome, Verdict
from pytest_finetune.core.results import Result
from pytest_finetune.reports.figures import amount, bound, claim_of, stopped_early


def next_steps(result: Result) -> Iterator[str]:
    """What to do next, and what else could be done; nothing where a claim holds, certified."""
    verdict = result.verdict
    if verdict.outcome is Outcome.FAIL:
        yield f"Next: {_after_a_failure(result)}"
    if verdict.outcome is Outcome.INCONCLUSIVE:
        yield f"Next: {_what_would_settle(verdict)}"
        margin, bar = _certifiable_margin(verdict), _certifiable_bar(result)
        if margin is not None:
            yield f"Or: margin {margin:g} can be certified with these rows, if both sides are equally good."
        if bar is not None:
            yield f"Or: {bar} is what these rows certify."


def _after_a_failure(result: Result) -> str:
    if claim_of(result).uses_locked:
        return "find what has changed since it was accepted (data, prompt, the endpoint's model); the lock stays."
    return f"find what changed (data, prompt, model), then build anew: pytest --ft-retrain --ft-task {result.task}"


def _what_would_settle(verdict: Verdict) -> str:
    needed, there = verdict.rows_needed, verdict.n
    if needed is None:
        return _nothing_would(verdict)
    if stopped_early(verdict) and verdict.planned is not None:
        there = verdict.planned
        if needed <= there:
            return f"leave out --ft-stop-early: about {needed:,} rows would settle it ({there:,} there are)."
    return f"add about {needed - there:,} rows: {needed:,} test rows in all would settle it ({there:,} there are)."


def _nothing_would(verdict: Verdict) -> str:
    if verdict.parts:
        return "no number of rows settles every slice: allow a margin, or slice less finely."
    if verdict.method is Method.QUANTILE:
        return "add rows: they narrow the interval of a percentile, by how much is not known."
    if math.isinf(verdict.lower):
        return "add rows of other groups: these are too few groups to tell anything."
    return "allow a little more: what was seen is just what is allowed, and no number of rows settles that."


def _certifiable_margin(verdict: Verdict) -> float | None:
    """The margin to the next hundredth, where it is wider than the one that was judged, and not already broken."""
    if verdict.certifiable_margin is None:
        return None
    margin = math.ceil(round(100 * verdict.certifiable_margin, 6)) / 100
    return margin if max(verdict.margin, -verdict.estimate) < margin < 1 else None


def _certifiable_bar(result: Result) -> str | None:
    """The number that the rows do certify, rounded to the safe side; none for two stages."""
    claim, verdict, measure = claim_of(result), result.verdict, result.measure
    if isinstance(claim.right, Reading) or math.isinf(verdict.lower) or verdict.parts:
        return None
    sign = 1 if claim.relation == ">=" else -1
    bar = verdict.right + sign * verdict.lower
    if bar <= 0 or (measure.bounded and bar >= 1):
        return None
    step = 0.01 if measure.bounded else 10.0 ** (math.floor(math.log10(bar)) - 2)
    bar = sign * math.floor(round(sign * bar / step, 6)) * step
    return f"{bound(claim)} {amount(bar, measure)}" if bar > 0 else None

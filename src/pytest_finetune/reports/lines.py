"""Verdicts as lines of text, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from itertools import groupby

from pytest_finetune.core.records import Inconclusive, Measure, Method, Outcome, Verdict
from pytest_finetune.core.results import Result, StageScore

_METHODS = {
    Method.TANGO: "Tango's score test",
    Method.BETTING: "a betting test (STaR-K)",
    Method.BINOMIAL: "the exact binomial test",
    Method.CLUSTERED_T: "a clustered t test",
    Method.PAIRED_T: "a paired t test",
    Method.IDENTITY: "identity",
}


def figures(result: Result) -> str:
    """The figures that decided, short enough for a summary line: ``0.81 < 0.85, n=150``."""
    verdict = result.verdict
    sign = "=" if verdict.left == verdict.right else ("<" if verdict.left < verdict.right else ">")
    left, right = (_amount(value, result.measure) for value in (verdict.left, verdict.right))
    return f"{left} {sign} {right}, n={verdict.n}"


def failure(result: Result) -> Iterator[str]:
    """Why a claim does not hold, figures first."""
    yield f"{figures(result)}: {result.claim!r} of task {result.task!r} {_how(result)}"
    yield from explanation(result)


def explanation(result: Result) -> Iterator[str]:
    """What was seen, why it is this verdict, and what to do next."""
    verdict = result.verdict
    if verdict.identity:
        yield "Both sides are the same program state on the same model: the claim holds by identity."
        return
    level = round(100 * (1 - 2 * verdict.alpha))
    yield (
        f"Seen: a difference of {_signed(verdict.estimate, result.measure)} in favour of the claim"
        f" ({level} % interval {_signed(verdict.lower, result.measure)} to {_signed(verdict.upper, result.measure)}),"
        f" margin {_amount(verdict.margin, result.measure)}."
    )
    counts = f"{verdict.wins} won, {verdict.losses} lost, {verdict.ties} equal"
    yield f"Rows: {counts}; judged by {_METHODS[verdict.method]}."
    yield from _next_step(result)


def _next_step(result: Result) -> Iterator[str]:
    verdict = result.verdict
    if verdict.outcome is Outcome.FAIL:
        yield "Next: find what changed (data, prompt, model), then build the stages anew: pytest --ft-retrain"
    if verdict.outcome is Outcome.INCONCLUSIVE:
        yield f"Next: {_what_would_settle(verdict)}"


def _what_would_settle(verdict: Verdict) -> str:
    parts = []
    if verdict.rows_needed is not None:
        parts.append(f"about {verdict.rows_needed:,} test rows in all would settle it ({verdict.n:,} there are)")
    if verdict.certifiable_margin is not None:
        parts.append(f"these rows can certify a margin of {verdict.certifiable_margin:.2f}")
    return "; ".join(parts) + "." if parts else "no number of rows settles it: the difference sits on the margin."


def _how(result: Result) -> str:
    """The verdict in a few words."""
    verdict, settlement = result.verdict, result.settlement
    if verdict.outcome is Outcome.PASS:
        return "holds, certified"
    if verdict.outcome is Outcome.FAIL:
        return "does not hold: certified worse than the margin allows"
    held = "held" if verdict.observed else "not held"
    if result.policy.inconclusive is Inconclusive.FAIL and settlement.blocking:
        return f"is {held}, not certified, and only what is certified passes here"
    return f"is {held}, not certified"


def summary(results: Sequence[Result], unevaluated: int = 0) -> Iterator[str]:
    """Per task the stages with their scores, then each claim with its verdict, then the count.

    Args:
        results: The claims that were judged.
        unevaluated: How many could not be, for lack of rows or by an error.
    """
    ordered = sorted(results, key=lambda result: (result.task, result.claim))  # however the tests were run
    for task, of_task in groupby(ordered, key=lambda result: result.task):
        claims = list(of_task)
        yield f"{task}"
        yield from _stage_lines(claims)
        yield from (f"  {_mark(result)} {result.claim}: {figures(result)}, {_how(result)}" for result in claims)
    if results or unevaluated:
        yield counted(results, unevaluated)


def counted(results: Sequence[Result], unevaluated: int) -> str:
    """How many claims were certified, and how many are only observed."""
    certified = sum(result.settlement.held and result.settlement.certified for result in results)
    observed = sum(result.settlement.held and not result.settlement.certified for result in results)
    failed = len(results) - certified - observed
    text = f"{certified} certified, {observed} only observed"
    text += f", {failed} not held" if failed else ""
    return text + (f", {unevaluated} NOT EVALUATED" if unevaluated else "")


def _stage_lines(results: Sequence[Result]) -> Iterator[str]:
    scores = {(score.suite, score.stage): score for result in results for score in result.scores}
    width = max((len(_stage(score)) for score in scores.values()), default=0)
    for score in scores.values():
        asked = score.n + score.errors - score.reused
        extra = f", {score.format_errors} unparseable" if score.format_errors else ""
        extra += f", {score.errors} without an answer" if score.errors else ""
        since = "" if score.reused_since is None else f" of {_day(score.reused_since)}"
        cost = "" if score.cost is None else f"  ${score.cost:.4f}"
        yield (
            f"  {_stage(score):{width}}  {score.mean:.3f}"
            f"  ({score.lower:.3f} to {score.upper:.3f}, n={score.n}{extra})"
            f"  reused {score.reused}{since}, asked {asked}{cost}  {score.model}"
        )


def _stage(score: StageScore) -> str:
    return score.stage if score.suite is None else f"{score.stage} on {score.suite}"


def _day(seconds: float) -> str:
    """``20 Nov``: when the oldest of the reused rows was asked for."""
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%d %b}".lstrip("0")


def _mark(result: Result) -> str:
    if result.settlement.blocking:
        return "FAILED"
    return "PASSED" if result.settlement.certified else "PASSED?" if result.settlement.held else "WARNED"


def _amount(value: float, measure: Measure) -> str:
    """A figure in the unit of what it measures: a cost of 0.00008 is not 0."""
    if measure is Measure.COST:
        return f"${_significant(value)}"
    if measure is Measure.LATENCY:
        return f"{_significant(value)} s"
    if abs(value) >= 1 or value == 0:
        return f"{value:.4g}"
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _significant(value: float) -> str:
    """Three significant digits, never with an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def _signed(value: float, measure: Measure) -> str:
    if math.isinf(value):
        return "-∞" if value < 0 else "+∞"
    if measure.bounded:
        return f"{value:+.3f}"
    return f"{'-' if value < 0 else '+'}{_amount(abs(value), measure)}"

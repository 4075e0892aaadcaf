"""Verdicts as lines of text, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from pytest_finetune.core.records import Inconclusive, Method, Outcome, Verdict
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
    return f"{_number(verdict.left)} {sign} {_number(verdict.right)}, n={verdict.n}"


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
        f"Seen: a difference of {_signed(verdict.estimate)} in favour of the claim"
        f" ({level} % interval {_signed(verdict.lower)} to {_signed(verdict.upper)}),"
        f" margin {_number(verdict.margin)}."
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
    if result.inconclusive is Inconclusive.FAIL and settlement.blocking:
        return f"is {held}, not certified, and only what is certified passes here"
    return f"is {held}, not certified"


def summary(results: Sequence[Result]) -> Iterator[str]:
    """Per task the stages with their scores, then each claim with its verdict, then the count."""
    ordered = sorted(results, key=lambda result: (result.task, result.claim))  # however the tests were run
    for task, of_task in groupby(ordered, key=lambda result: result.task):
        claims = list(of_task)
        yield f"{task}"
        yield from _stage_lines(claims)
        yield from (f"  {_mark(result)} {result.claim}: {figures(result)}, {_how(result)}" for result in claims)
    yield counted(results)


def counted(results: Sequence[Result]) -> str:
    """How many claims were certified, and how many are only observed."""
    certified = sum(result.settlement.held and result.settlement.certified for result in results)
    observed = sum(result.settlement.held and not result.settlement.certified for result in results)
    failed = len(results) - certified - observed
    text = f"{certified} certified, {observed} only observed"
    return f"{text}, {failed} not held" if failed else text


def _stage_lines(results: Sequence[Result]) -> Iterator[str]:
    scores: dict[str, StageScore] = {}
    for result in results:
        scores |= {score.stage: score for score in result.scores}
    width = max((len(name) for name in scores), default=0)
    for score in scores.values():
        asked = score.n + score.errors - score.reused
        extra = f", {score.format_errors} unparseable" if score.format_errors else ""
        extra += f", {score.errors} without an answer" if score.errors else ""
        yield (
            f"  {score.stage:{width}}  {score.mean:.3f}  ({score.lower:.3f} to {score.upper:.3f}, n={score.n}{extra})"
            f"  reused {score.reused}, asked {asked}  {score.model}"
        )


def _mark(result: Result) -> str:
    if result.settlement.blocking:
        return "FAILED"
    return "PASSED" if result.settlement.certified else "PASSED?" if result.settlement.held else "WARNED"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 1 or value == 0 else f"{value:.3f}".rstrip("0").rstrip(".")


def _signed(value: float) -> str:
    return ("-∞" if value < 0 else "+∞") if math.isinf(value) else f"{value:+.3f}"

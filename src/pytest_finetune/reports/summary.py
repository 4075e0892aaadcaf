"""What a run says at its end: per task its stages and its claims, and how many of them are certified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from itertools import groupby

from pytest_finetune.core.records import Outcome
from pytest_finetune.core.results import Result, StageScore
from pytest_finetune.reports.figures import (
    figures,
    how,
    part_line,
    printable,
    share_of_parts,
    stopped_early,
    suite_of,
)
from pytest_finetune.reports.lines import SHOWN_PARTS, explanation, reuse
from pytest_finetune.reports.steps import next_steps

_BELOW = " " * 6


def summary(results: Sequence[Result], unevaluated: int = 0, *, explain: bool = False) -> Iterator[str]:
    """Per task the stages with their scores, then each claim with its verdict, then the count.

    Args:
        results: The claims that were judged.
        unevaluated: How many could not be, for lack of rows or by an error.
        explain: Explain the verdicts that do not block, too; a failure is explained where it happens.
    """
    ordered = sorted(results, key=lambda result: (result.task, result.claim))  # however the tests were run
    for task, of_task in groupby(ordered, key=lambda result: result.task):
        yield from map(printable, _of_task(task, list(of_task), explain=explain))
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


def _of_task(task: str, results: Sequence[Result], *, explain: bool) -> Iterator[str]:
    yield task
    yield from _stage_lines(results)
    for result in results:
        yield f"  {_mark(result)} {result.claim}: {figures(result)}, {how(result)}"
        if result.settlement.blocking or not explain:
            yield from (f"{_BELOW}{line}" for line in _in_short(result))
        else:
            yield from (f"{_BELOW}{line}" for line in explanation(result))
    for suite, of_suite in groupby(sorted(results, key=_suite_name), key=suite_of):
        yield from _of_rows(suite, list(of_suite))


def _suite_name(result: Result) -> str:
    return suite_of(result) or ""


# --- stages ---


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


# --- claims ---


def _mark(result: Result) -> str:
    if result.settlement.blocking:
        return "FAILED"
    if not result.settlement.held:
        return "WARNED"
    return "PASSED" if result.settlement.certified else "PASSED?"


def _in_short(result: Result) -> Iterator[str]:
    """The slices, unless all passed; and what to do, where no failure says it."""
    others = [part for part in result.verdict.parts if part.verdict.outcome is not Outcome.PASS]
    yield from (part_line(part, result.measure) for part in others[:SHOWN_PARTS])
    if others:
        more = f"{len(others) - SHOWN_PARTS} more do not; " if len(others) > SHOWN_PARTS else ""
        yield f"{more}{share_of_parts(result.verdict)} slices hold, certified"
    if not result.settlement.blocking:
        yield from next_steps(result)


def _of_rows(suite: str | None, results: Sequence[Result]) -> Iterator[str]:
    """What is to be said of a set of rows once: what stopping early spared, and how often it was used."""
    where = "" if suite is None else f"on {suite}: "
    planned, seen = _rows_seen(results)
    if seen < planned:
        yield f"  {where}stopping early spared {planned - seen:,} of {planned:,} rows"
    most = max(results, key=lambda result: result.uses)
    if most.uses > 1:
        yield f"  {where}{reuse(most)}"


def _rows_seen(results: Sequence[Result]) -> tuple[int, int]:
    """How many rows were planned over all stages, and how many some claim has looked at."""
    seen: dict[str, int] = {}
    planned: dict[str, int] = {}
    for result in results:
        verdict = result.verdict
        of_claim = verdict.planned or verdict.n
        for score in result.scores:
            planned[score.stage] = max(planned.get(score.stage, 0), of_claim)
            looked_at = verdict.n if stopped_early(verdict) else of_claim
            seen[score.stage] = max(seen.get(score.stage, 0), looked_at)
    return sum(planned.values()), sum(seen.values())

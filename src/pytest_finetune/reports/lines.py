"""A verdict as a paragraph: what was claimed, what was seen, why it is this verdict, and what to do next."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator

from pytest_finetune.core.claims import LOCKED, Claim, Reading
from pytest_finetune.core.records import Inconclusive, Measure, Method, Outcome, Tier, Verdict
from pytest_finetune.core.results import Result
from pytest_finetune.reports.figures import (
    amount,
    bound,
    claim_of,
    figures,
    how,
    part_line,
    printable,
    scope_of,
    share_of_parts,
    shift,
    significant,
    span,
    stopped_early,
)
from pytest_finetune.reports.flips import flipped
from pytest_finetune.reports.steps import next_steps

WIDTH = 110
SHOWN_PARTS = 5

_METHODS = {
    Method.TANGO: "Tango's score test",
    Method.BETTING: "a betting test (STaR-K)",
    Method.BINOMIAL: "the exact binomial test",
    Method.CLUSTERED_T: "a t test that takes a group's rows together",
    Method.PAIRED_T: "a paired t test, approximate",
    Method.QUANTILE: "order statistics, approximate",
}
_MEASURES = {
    Measure.SCORE: "mean score",
    Measure.FORMAT_ERRORS: "share of unreadable answers",
    Measure.COST: "mean cost of a row",
    Measure.TOKENS: "mean number of tokens",
    Measure.LATENCY: "mean latency",
}


def failure(result: Result) -> Iterator[str]:
    """Why a claim does not hold: one line with the figures first, whatever its length; then the explanation."""
    yield printable(f"{figures(result)}: {result.claim!r} of task {result.task!r} {how(result)}")
    yield from explanation(result)


def explanation(result: Result) -> Iterator[str]:
    """What was claimed, what was seen, why it is this verdict, and what to do next; then the rows that flipped.

    The same for every verdict, whether it blocks or not; rows are shown unless the claim holds, certified.
    """
    for sentence in _sentences(result):
        yield from textwrap.wrap(printable(sentence), WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    if result.verdict.outcome is not Outcome.PASS:
        yield from flipped(result)


def _sentences(result: Result) -> Iterator[str]:
    yield f"Claimed: {_claimed(result)}"
    yield from _identity(result) if result.verdict.identity else _judged(result)
    yield from next_steps(result)
    yield from (f"Note: {note}" for note in _notes(result))


def _identity(result: Result) -> Iterator[str]:
    yield "Why: both sides are the same program state on the same model: the claim holds by identity."
    if result.verdict.wins or result.verdict.losses:
        yield f"Rows: {_rows(result)} Where they differ, one model gave two answers to one question."


def _judged(result: Result) -> Iterator[str]:
    verdict = result.verdict
    yield f"Seen: {_seen(verdict, result.measure)}"
    yield f"Rows: {_rows(result)}"
    if verdict.ratio is not None:
        yield f"Ratio: {_ratio(claim_of(result), verdict.ratio)}"
    if verdict.parts:
        yield from _parts(result)
    yield f"Why: {_why_of_parts(verdict) if verdict.parts else _why_of_bounds(verdict, result.measure)}."
    consequence = _consequence(result)
    if consequence is not None:
        yield f"So: {consequence}"
    yield f"Test: {_METHODS[verdict.method]} at alpha {verdict.alpha:.3g}{_early(verdict)}."


# --- claimed ---


def _claimed(result: Result) -> str:
    """As in ``finetuned's mean score is at least baseline's, less 0.02``."""
    claim = claim_of(result)
    what = _MEASURES[claim.measure]
    if claim.percentile is not None:
        what = f"{claim.measure} at percentile {claim.percentile}"
    scope = scope_of(result)
    where = f", in every slice{scope}" if result.verdict.parts else f",{scope}" if scope else ""
    return f"{_owner(claim.left)} {what} is {bound(claim)} {_bar(claim, result.verdict.margin)}{where}."


def _owner(reading: Reading) -> str:
    """``0.95 times teacher's``."""
    owner = "the accepted rows'" if reading.stage == LOCKED else f"{reading.stage}'s"
    return owner if reading.factor == 1 else f"{reading.factor:g} times {owner}"


def _bar(claim: Claim, margin: float) -> str:
    if not isinstance(claim.right, Reading):
        return amount(claim.right, claim.measure)
    if margin == 0:
        return _owner(claim.right)
    word = "less" if (claim.relation == ">=") == (margin > 0) else "plus"
    return f"{_owner(claim.right)}, {word} {amount(abs(margin), claim.measure)}"


# --- seen ---


def _seen(verdict: Verdict, measure: Measure) -> str:
    """As in ``0.71 against 0.77 on 500 rows, 0.06 worse (90 % interval: 0.09 to 0.03 worse)``."""
    left, right = amount(verdict.left, measure), amount(verdict.right, measure)
    rows = f"the first {verdict.n:,} of {verdict.planned:,} rows" if stopped_early(verdict) else f"{verdict.n:,} rows"
    interval = f"{100 * (1 - 2 * verdict.alpha):.4g} % interval: {span(verdict.lower, verdict.upper, measure)}"
    return f"{left} against {right} on {rows}, {shift(verdict.estimate, measure)} ({interval})."


def _rows(result: Result) -> str:
    verdict, claim = result.verdict, claim_of(result)
    counts = f"{verdict.wins:,} won, {verdict.losses:,} lost, {verdict.ties:,} equal"
    if claim.left.factor != 1 or (isinstance(claim.right, Reading) and claim.right.factor != 1):
        counts += ", the factor aside"
    if verdict.p_differ is None:
        return f"{counts}."
    p = f"p = {verdict.p_differ:.4f}" if verdict.p_differ >= 0.0001 else "p < 0.0001"
    return f"{counts}; better or worse at all: {p} (McNemar's mid-p)."


def _ratio(claim: Claim, ratio: tuple[float, float]) -> str:
    """As in ``finetuned keeps 0.97 to 1.02 of teacher's score; at least 0.95 is claimed``."""
    assert isinstance(claim.right, Reading)  # noqa: S101  # a number has no ratio
    lower, upper = (significant(bound) for bound in ratio)
    span = f"{lower} or more" if math.isinf(ratio[1]) else f"{lower} to {upper}"
    verb = {Measure.SCORE: "keeps", Measure.FORMAT_ERRORS: "has"}.get(claim.measure, "takes")
    left = claim.left.stage if claim.left.factor == 1 else f"{claim.left.factor:g} times {claim.left.stage}"
    other = _owner(Reading(claim.right.stage))
    return f"{left} {verb} {span} of {other} {claim.measure}; {bound(claim)} {claim.right.factor:g} is claimed."


def _parts(result: Result) -> Iterator[str]:
    """How many slices are certified, and those that are not, the worst first."""
    others = [part for part in result.verdict.parts if part.verdict.outcome is not Outcome.PASS]
    yield f"Slices: {share_of_parts(result.verdict)} hold, certified{'; the others:' if others else '.'}"
    yield from (f"  {part_line(part, result.measure)}" for part in others[:SHOWN_PARTS])
    if len(others) > SHOWN_PARTS:
        yield f"  … and {len(others) - SHOWN_PARTS} more"


# --- why ---


def _why_of_bounds(verdict: Verdict, measure: Measure) -> str:
    room = amount(abs(verdict.margin), measure)
    allowed = f"up to {room} worse is allowed" if verdict.margin > 0 else f"at least {room} better is asked for"
    if verdict.margin == 0:
        allowed = "it must not be worse"
    if verdict.outcome is Outcome.PASS:
        return f"{allowed}, and even the worse end of the interval keeps to that"
    if verdict.outcome is Outcome.FAIL:
        return f"{allowed}, and even the better end of the interval breaks that"
    return f"{allowed}, and the interval leaves that open: these rows cannot tell"


def _why_of_parts(verdict: Verdict) -> str:
    failed = [part.name for part in verdict.parts if part.verdict.outcome is Outcome.FAIL]
    if failed:
        names = failed[0] if len(failed) == 1 else f"{failed[0]} (as {len(failed) - 1} more)"
        return f"every slice must hold, and {names} does not, also with alpha shared out over all slices (Holm)"
    if verdict.outcome is Outcome.PASS:
        return "every slice must hold, and each does"
    return "every slice must hold, and the rows of some cannot tell"


def _early(verdict: Verdict) -> str:
    if not stopped_early(verdict):
        return ""
    if verdict.outcome is Outcome.INCONCLUSIVE:
        return "; stopped early, since the other rows could hardly decide it"
    return f"; decided after {verdict.n:,} of {verdict.planned:,} rows"


def _consequence(result: Result) -> str | None:
    """What the policy makes of a verdict that does not speak for itself."""
    verdict, policy = result.verdict, result.policy
    if verdict.outcome is Outcome.PASS:
        return None
    if policy.tier is Tier.ADVISORY:
        return "an advisory claim never blocks."
    if verdict.outcome is Outcome.FAIL:
        return None
    if policy.tier is Tier.SUPPORTING:
        return "a supporting claim blocks only where it is certified not to hold."
    return {
        Inconclusive.OBSERVED: f"what was seen decides: {'held' if verdict.observed else 'not held'}.",
        Inconclusive.FAIL: "only what is certified passes (inconclusive='fail').",
        Inconclusive.WARN: "it does not block (inconclusive='warn').",
    }[policy.inconclusive]


# --- notes ---


def _notes(result: Result) -> Iterator[str]:
    yield from result.remarks
    if result.uses > 1 or _spent(result):
        yield reuse(result)


def reuse(result: Result) -> str:
    """How many candidates the rows have judged, and what follows."""
    verdict, policy = result.verdict, result.policy
    used = f"these rows have judged {_candidates(result.uses)}"
    if _spent(result):
        return f"{used}: this one at alpha {verdict.alpha:.3g} instead of {policy.alpha:.3g} (spend_alpha)."
    return f"{used}, each with its chance of luck: take fresh ones, or set spend_alpha."


def _spent(result: Result) -> bool:
    return result.verdict.alpha < result.policy.alpha


def _candidates(count: int) -> str:
    return "1 candidate" if count == 1 else f"{count} candidates"

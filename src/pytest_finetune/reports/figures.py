"""The pieces that every report is made of: figures with their unit, and a verdict in a few words."""

from __future__ import annotations

import math
import re

from pytest_finetune.core.claims import Claim, parse
from pytest_finetune.core.evidence import MAX_MISSING
from pytest_finetune.core.records import Inconclusive, Measure, Outcome, Part, Tier, Verdict
from pytest_finetune.core.results import Result
from pytest_finetune.secrets import shown

_SCOPE = re.compile(r" (?:by|on) ")


def printable(text: str) -> str:
    """The text as it may be `shown`, on one line: a model or a data file may have written it."""
    return shown(text).replace("\n", " ")


def claim_of(result: Result) -> Claim:
    """What was claimed, without its slices and its suite."""
    (claim,) = parse(_SCOPE.split(result.claim, maxsplit=1)[0])
    return claim


def scope_of(result: Result) -> str:
    """The slices and the suite, as they follow the claim: ``" by category on safety"``."""
    return result.claim[len(_SCOPE.split(result.claim, maxsplit=1)[0]) :]


def bound(claim: Claim) -> str:
    """The claim's relation in words."""
    return "at least" if claim.relation == ">=" else "at most"


def suite_of(result: Result) -> str | None:
    """The suite that the claim looks at; None: the test split."""
    return result.scores[0].suite if result.scores else None


def stopped_early(verdict: Verdict) -> bool:
    """Whether rows were left out because the claim had been decided; a few may also lack a value."""
    return verdict.planned is not None and verdict.n < (1 - MAX_MISSING) * verdict.planned


def figures(result: Result) -> str:
    """The figures that decided, short enough for a summary line: ``0.81 < 0.85, n=150``.

    In a claim with ``by=`` that does not pass, those of the worst slice that keeps it from passing, which is named.
    """
    verdict = result.verdict
    deciding = next((part for part in verdict.parts if part.verdict.outcome is verdict.outcome), None)
    if deciding is None or verdict.outcome is Outcome.PASS:
        return compared(verdict, result.measure)
    return f"{compared(deciding.verdict, result.measure)} in {deciding.name}"


def compared(verdict: Verdict, measure: Measure) -> str:
    """Both sides and the number of rows: ``0.81 < 0.85, n=150``; as many digits as tell them apart."""
    equal = math.isclose(verdict.left, verdict.right, abs_tol=1e-9)
    left, right = amount(verdict.left, measure), amount(verdict.right, measure)
    if left == right and not equal:
        left, right = f"{verdict.left:.6g}", f"{verdict.right:.6g}"
    sign = "=" if equal else "<" if verdict.left < verdict.right else ">"
    return f"{left} {sign} {right}, n={verdict.n}"


def how(result: Result) -> str:
    """The verdict in a few words."""
    words = outcome_words(result.verdict)
    unsettled = result.verdict.outcome is Outcome.INCONCLUSIVE
    if unsettled and result.policy.inconclusive is Inconclusive.FAIL and result.settlement.blocking:
        words += ", and only what is certified passes here"
    tier = result.policy.tier
    return words if tier is Tier.CRITICAL or result.verdict.outcome is Outcome.PASS else f"{words} ({tier})"


def outcome_words(verdict: Verdict) -> str:
    """What the statistics say, whatever it does to the test."""
    if verdict.outcome is Outcome.PASS:
        return "holds by identity" if verdict.identity else "holds, certified"
    if verdict.outcome is Outcome.FAIL:
        return "does not hold: certified worse than the margin allows"
    return f"is {'held' if verdict.observed else 'not held'}, not certified"


def part_line(part: Part, measure: Measure) -> str:
    """A slice with its figures."""
    return f"{part.name}: {compared(part.verdict, measure)}, {outcome_words(part.verdict)}"


def share_of_parts(verdict: Verdict) -> str:
    """How many slices are certified: ``3 of 5``."""
    certified = sum(part.verdict.outcome is Outcome.PASS for part in verdict.parts)
    return f"{certified} of {len(verdict.parts)}"


def amount(value: float, measure: Measure) -> str:
    """A figure in the unit of what it measures: a cost of 0.00008 is not 0."""
    if measure is Measure.COST:
        return f"${significant(value)}"
    if measure is Measure.LATENCY:
        return f"{significant(value)} s"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 1 or value == 0:
        return f"{value:.4g}"
    return f"{value:.3f}".rstrip("0").rstrip(".")


def significant(value: float) -> str:
    """Three significant digits, never with an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def shift(value: float, measure: Measure) -> str:
    """A difference in favour of the claim, in words: ``0.062 worse``."""
    size = "any amount" if math.isinf(value) else amount(abs(value), measure)
    if math.isclose(value, 0.0, abs_tol=1e-12) or size == amount(0.0, measure):
        return "equal"
    return f"{size} {'better' if value > 0 else 'worse'}"


def span(lower: float, upper: float, measure: Measure) -> str:
    """An interval of such differences: ``0.091 to 0.034 worse``, ``0.012 worse to 0.031 better``."""
    if math.isinf(lower) and math.isinf(upper):
        return "unbounded"
    worse, better = shift(lower, measure), shift(upper, measure)
    side = worse.rpartition(" ")[2]
    if better.endswith(f" {side}"):
        worse = worse.removesuffix(f" {side}")
    return f"{worse} to {better}"

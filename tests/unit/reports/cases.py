"""Results of every kind, judged by the gate on evidence that is made of figures."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.unit.core.cases import (
    ABOVE,
    CHEAPER,
    FASTER,
    FORMAT,
    LATENCIES,
    SHARE,
    claim,
    evidence,
    flips,
    identical,
    sliced,
)

from pytest_finetune.core import stats
from pytest_finetune.core.claims import Claim, Reading, ScopedClaim
from pytest_finetune.core.evidence import remarks
from pytest_finetune.core.gate import judge, settle
from pytest_finetune.core.records import Evidence, Inconclusive, Policy, Scope, Tier
from pytest_finetune.core.results import Flip, Result, StageScore
from pytest_finetune.reports.figures import stopped_early

LADDER = Policy(margin=0.02)
BAR = "finetuned >= 0.85"
SHOWN = 2
WARN = Policy(margin=0.02, inconclusive=Inconclusive.WARN)


def judged(
    text: str, made: Evidence, policy: Policy = LADDER, *, scope: Scope | None = None, nominal: float | None = None
) -> Result:
    """A result as the gate makes it.

    Args:
        text: The claim.
        made: What it is judged on.
        policy: How strictly.
        scope: Its slices and its suite.
        nominal: The alpha that was asked for, where the policy's is what is left of it.
    """
    parsed = claim(text)
    verdict = judge(parsed, made, policy)
    return Result(
        task="tickets",
        claim=str(ScopedClaim("tickets", parsed, scope or Scope())),
        measure=parsed.measure,
        verdict=verdict,
        settlement=settle(verdict, policy),
        policy=policy if nominal is None else replace(policy, alpha=nominal),
        scope=scope or Scope(),
        seen=made.n_expected,
        scores=tuple(score(parsed, made, stage, scope) for stage in parsed.stages),
        flips=flips_of(parsed, made)[:SHOWN],
        flips_options=(
            *(("--on", scope.suite) if scope and scope.suite else ()),
            *(("--max-rows", str(verdict.n)) if stopped_early(verdict) else ()),
        ),
        remarks=remarks(parsed, made),
    )


def score(parsed: Claim, made: Evidence, stage: str, scope: Scope | None) -> StageScore:
    """How a stage did, if the claim is about its score."""
    values = [pair.left if parsed.left.stage == stage else pair.right for pair in made.pairs]
    values = [min(value, 1.0) for value in values]
    lower, upper = stats.score_interval(values)
    mean, suite = sum(values) / len(values), scope.suite if scope else None
    return StageScore(stage, suite, f"model-of-{stage}", mean, lower, upper, len(values), 0, 0, reused=len(values))


def flips_of(parsed: Claim, made: Evidence) -> tuple[Flip, ...]:
    """The rows on which both sides differ, the worst first; none against a number."""
    if not isinstance(parsed.right, Reading) or not parsed.measure.bounded:
        return ()
    sign = 1 if parsed.relation == ">=" else -1
    found = [
        Flip(
            row_id=f"{number:04d}c0ffee",
            where=f"data/tickets.jsonl:{number + 1}",
            inputs="I was charged twice for one month, and nobody answers",
            expected="billing",
            before=json.dumps({"category": "billing" if pair.right > pair.left else "account"}),
            after=json.dumps({"category": "billing" if pair.left > pair.right else "technical"}),
            difference=sign * (pair.left - pair.right),
        )
        for number, pair in enumerate(made.pairs)
        if pair.left != pair.right
    ]
    return tuple(sorted(found, key=lambda flip: flip.difference))


def shuffled(made: Evidence, **changes: Any) -> Evidence:
    """The rows in an order of chance, as a run meets them."""
    pairs = list(made.pairs)
    random.Random(1).shuffle(pairs)
    return replace(made, pairs=tuple(pairs), **changes)


def graded(n: int, ahead: float) -> Evidence:
    """Scores between 0 and 1, of which the left are ahead by so much in the mean."""
    draw = random.Random(2)
    right = [draw.uniform(0.3, 0.6) for _ in range(n)]
    return evidence([score + ahead + draw.uniform(-0.3, 0.3) for score in right], right)


def bar(right: int, n: int) -> Evidence:
    """So many of n right, against 0.85."""
    return evidence([1.0] * right + [0.0] * (n - right), 0.85)


def costs(n: int, share: float) -> Evidence:
    """US dollars a row: the left side costs this share of the right one."""
    draw = random.Random(3)
    right = [draw.uniform(0.001, 0.003) for _ in range(n)]
    return evidence([share * cost * draw.uniform(0.9, 1.1) for cost in right], right)


def grouped(n: int, groups: int) -> Evidence:
    """Rows of conversations, more of them won than lost."""
    made = shuffled(flips(n // 5, n // 20, n))
    return replace(made, pairs=tuple(replace(pair, group=f"g{at % groups}") for at, pair in enumerate(made.pairs)))


BY = Scope(by="category")
SLICES = (flips(60, 0, 200, "account"), flips(0, 20, 40, "billing"), flips(5, 5, 40, "other"))
SMALL = tuple(flips(1, 2, 12, f"tenant {number}") for number in range(8))
SPENT = Policy(margin=0.02, alpha=stats.spent_alpha(0.05, 3))


RESULTS: Mapping[str, Result] = {
    "pass": judged(ABOVE, flips(30, 10, 400)),
    "fail": judged(ABOVE, flips(10, 40, 150)),
    "held as observed": judged(ABOVE, flips(5, 5, 150)),
    "not held as observed": judged(ABOVE, flips(5, 12, 150)),
    "only certified passes": judged(ABOVE, flips(5, 5, 150), replace(LADDER, inconclusive=Inconclusive.FAIL)),
    "warned": judged(ABOVE, flips(5, 12, 150), WARN),
    "supporting": judged(ABOVE, flips(5, 12, 150), replace(LADDER, tier=Tier.SUPPORTING)),
    "advisory, failed": judged(ABOVE, flips(10, 40, 150), replace(LADDER, tier=Tier.ADVISORY)),
    "on the edge": judged(ABOVE, flips(5, 5, 150), Policy()),
    "better is asked for": judged("finetuned >= baseline + 0.05", flips(30, 28, 400)),
    "bar passed": judged(BAR, bar(185, 200)),
    "bar failed": judged(BAR, bar(120, 200)),
    "bar undecided": judged(BAR, bar(166, 200)),
    "graded, passed": judged(ABOVE, graded(300, 0.1)),
    "graded, failed": judged(ABOVE, graded(300, -0.15)),
    "share of the teacher": judged(SHARE, shuffled(flips(20, 18, 500)), Policy()),
    "share of the teacher, failed": judged(SHARE, shuffled(flips(5, 90, 400)), Policy()),
    "unreadable answers": judged(FORMAT, shuffled(evidence([1.0, 1.0] + [0.0] * 198, [0.0] * 199 + [1.0]))),
    "cost, passed": judged(CHEAPER, costs(60, 0.05), Policy()),
    "cost, failed": judged(CHEAPER, costs(60, 0.3), Policy()),
    "tokens of a row": judged("tokens(finetuned) <= 2000", evidence([1800.0 + i % 9 for i in range(50)], 2000.0)),
    "latency at a percentile": judged(FASTER, evidence([0.5 * s for s in LATENCIES], LATENCIES), Policy()),
    "latency, too few rows": judged(FASTER, evidence(LATENCIES[:20], LATENCIES[20:40]), Policy()),
    "groups": judged(ABOVE, grouped(400, 40)),
    "one group": judged(ABOVE, grouped(40, 1)),
    "identity": judged(ABOVE, identical(flips(0, 0, 100))),
    "identity with noise": judged(ABOVE, identical(flips(1, 3, 100))),
    "locked, drifted": judged("finetuned >= locked - 0.01", identical(flips(1, 30, 100)), WARN),
    "a slice failed": judged(ABOVE, sliced(*SLICES), WARN, scope=BY),
    "slices undecided": judged(ABOVE, sliced(*SMALL), WARN, scope=BY),
    "slices passed": judged(ABOVE, sliced(flips(60, 0, 200, "account"), flips(9, 0, 90, "billing")), scope=BY),
    "on a suite": judged(ABOVE, flips(10, 40, 150), scope=Scope(suite="safety")),
    "decided early": judged(ABOVE, shuffled(flips(60, 10, 210), planned=611)),
    "stopped as futile": judged(ABOVE, shuffled(flips(30, 30, 320), planned=611)),
    "to the end": judged(ABOVE, shuffled(flips(60, 10, 300), planned=300)),
    "alpha spent": replace(judged(ABOVE, flips(30, 10, 400), SPENT, nominal=0.05), uses=3),
    "third candidate": replace(judged(ABOVE, flips(30, 10, 400)), uses=3),
    "rows missing": judged(ABOVE, replace(flips(30, 10, 400), missing=("a", "b"))),
}

"""Stopping early: fewer rows, the same verdicts, at the same error rates."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.unit.core.stats.agreement import allowed
from tests.workflow.gating import ALL, Gating, claim

from pytest_finetune.core.evidence import pair_rows
from pytest_finetune.core.gate import judge
from pytest_finetune.core.records import Method, Outcome, Policy, Row, RowState, Verdict
from pytest_finetune.dataset import DataRow
from pytest_finetune.workflow.evaluations import Expected
from pytest_finetune.workflow.evaluator import StageRows
from pytest_finetune.workflow.lockstep import Lockstep

Scores = Sequence[float | None]


def rows_of(count: int, group: str | None = None) -> list[DataRow]:
    return [DataRow(f"{n:04}", f"{n:04}", {}, (), "test", "", n, group) for n in range(count)]


@dataclass
class Endpoint:
    """Gives the scores of each stage; no answer where there is none."""

    scores: Mapping[str, Scores]
    asked: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)

    def __call__(self, rows: Sequence[DataRow], stages: Sequence[str]) -> dict[str, StageRows]:
        self.asked.append((len(rows), tuple(stages)))
        return {
            stage: StageRows(tuple(map(self._row, rows, [stage] * len(rows), self.scores[stage])), 0, None)
            for stage in stages
        }

    @staticmethod
    def _row(row: DataRow, stage: str, score: float | None) -> Row:
        state = RowState.ERROR if score is None else RowState.SCORED
        return Row(row.row_id, stage, 0, state, score)

    @property
    def most(self) -> dict[str, int]:
        """How many rows each stage was asked for in the end."""
        return {stage: rows for rows, stages in sorted(self.asked) for stage in stages}


def followed(claims: Sequence[Expected], scores: Mapping[str, Scores], count: int) -> tuple[Lockstep, Endpoint]:
    lockstep, endpoint = Lockstep(claims, rows_of(count), list(scores)), Endpoint(scores)
    lockstep.run(endpoint)
    return lockstep, endpoint


def verdict(expected: Expected, scores: Mapping[str, Scores], count: int, seen: int) -> Verdict:
    """What the gate says on the rows that were seen."""
    scoped, policy = expected
    left, right = (Endpoint(scores)(rows_of(count)[:seen], [stage])[stage].rows for stage in scoped.claim.stages)
    evidence = pair_rows(scoped.claim, left, right, row_ids=[row.row_id for row in rows_of(seen)])
    return judge(scoped.claim, replace(evidence, planned=count), policy)


def flips(rng: random.Random, count: int, difference: float, differing: float = 0.3) -> dict[str, Scores]:
    """Two stages with right and wrong answers, whose scores differ by so much in the mean."""
    finetuned, baseline = [], []
    for _ in range(count):
        draw = rng.random()
        won, lost = draw < (differing + difference) / 2, draw < differing
        finetuned.append(1.0 if won or not lost else 0.0)
        baseline.append(0.0 if won else 1.0)
    return {"finetuned": finetuned, "baseline": baseline}


BETTER = claim("finetuned >= baseline")


def test_a_clear_difference_takes_few_rows_either_way() -> None:
    won = flips(random.Random(1), 400, 0.25)
    lost = {"finetuned": won["baseline"], "baseline": won["finetuned"]}
    for scores, outcome in ((won, Outcome.PASS), (lost, Outcome.FAIL)):
        lockstep, endpoint = followed([BETTER], scores, 400)
        seen = lockstep.seen[BETTER[0]]
        assert endpoint.most == {"finetuned": seen, "baseline": seen}
        assert seen <= 120
        assert verdict(BETTER, scores, 400, seen).outcome is outcome
        assert verdict(BETTER, scores, 400, 400).outcome is outcome


def test_each_stage_goes_as_far_as_its_claims_need() -> None:
    scores = flips(random.Random(1), 400, 0.25)
    slower = flips(random.Random(2), 400, 0.15)
    scores |= {"prompt_optimized": slower["finetuned"], "teacher": slower["baseline"]}
    close, cost = claim("prompt_optimized >= teacher"), claim("cost(teacher) <= 1")
    lockstep, endpoint = followed([BETTER, close, cost], scores, 400)
    seen = lockstep.seen[BETTER[0]]
    assert seen < lockstep.seen[close[0]] < 400
    assert endpoint.most == {
        "finetuned": seen,
        "baseline": seen,
        "prompt_optimized": lockstep.seen[close[0]],
        "teacher": 400,
    }


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("finetuned >= locked", {}),
        ("finetuned >= baseline", {"by": "department"}),
        ("cost(finetuned) <= cost(baseline)", {}),
        ("latency_p95(finetuned) <= 1", {}),
    ],
)
def test_what_is_no_bounded_mean_of_all_rows_is_evaluated_to_the_end(text: str, scope: dict[str, Any]) -> None:
    lockstep, endpoint = followed([BETTER, claim(text, **scope)], flips(random.Random(1), 400, 0.25), 400)
    assert endpoint.most["finetuned"] == 400
    assert list(lockstep.seen) == [BETTER[0]]


def test_rows_in_groups_are_evaluated_to_the_end() -> None:
    endpoint = Endpoint(flips(random.Random(1), 400, 0.25))
    lockstep = Lockstep([BETTER], rows_of(400, "customer"), ["finetuned", "baseline"])
    lockstep.run(endpoint)
    assert (endpoint.asked, lockstep.seen) == ([(400, ("finetuned", "baseline"))], {})


def test_a_stage_that_no_claim_is_about_is_evaluated_to_the_end() -> None:
    scores = flips(random.Random(1), 400, 0.25)
    assert followed([BETTER], scores | {"teacher": scores["baseline"]}, 400)[1].most["teacher"] == 400


def test_a_claim_that_wants_fewer_rows_has_them_as_its_horizon() -> None:
    few, scores = claim("finetuned >= baseline", max_rows=60), flips(random.Random(3), 400, 0.0)
    lockstep, endpoint = followed([few], scores, 400)
    assert endpoint.most["finetuned"] == lockstep.seen[few[0]] <= 60
    scores |= {"teacher": scores["baseline"]}
    beside, _ = followed([few, claim("teacher >= 0.5")], scores, 400)
    assert beside.seen[few[0]] == lockstep.seen[few[0]]


def test_the_same_claim_under_two_policies_goes_on_until_both_are_decided() -> None:
    strict = (BETTER[0], Policy(margin=0.02, alpha=0.0001))
    scores = flips(random.Random(1), 400, 0.25)
    alone = followed([strict], scores, 400)[0].seen[BETTER[0]]
    assert followed([BETTER], scores, 400)[0].seen[BETTER[0]] < alone
    for claims in ([BETTER, strict], [strict, BETTER]):
        assert followed(claims, scores, 400)[0].seen[BETTER[0]] == alone
    assert verdict(strict, scores, 400, alone).outcome is Outcome.PASS


def test_a_verdict_is_never_reached_on_too_few_rows_or_with_too_many_missing() -> None:
    perfect: dict[str, Scores] = {"finetuned": [1.0] * 100}
    bar = claim("finetuned >= 0.01")
    assert followed([bar], perfect, 100)[0].seen[bar[0]] == 10
    gap: dict[str, Scores] = {"finetuned": [None, *[1.0] * 99]}
    assert followed([bar], gap, 100)[0].seen[bar[0]] == 50


def test_error_rates_hold_and_rows_are_saved() -> None:
    """At the margin itself, where a PASS as well as a FAIL is an error, and far from it."""
    rng, runs, count = random.Random(5), 200, 200
    outcomes = {difference: list[Outcome]() for difference in (-0.02, 0.25)}
    asked = dict.fromkeys(outcomes, 0)
    for difference, found in outcomes.items():
        for _ in range(runs):
            scores = flips(rng, count, difference)
            seen = followed([BETTER], scores, count)[0].seen[BETTER[0]]
            found.append(verdict(BETTER, scores, count, seen).outcome)
            asked[difference] += seen
    assert outcomes[-0.02].count(Outcome.PASS) / runs <= allowed(runs)
    assert outcomes[-0.02].count(Outcome.FAIL) / runs <= allowed(runs)
    assert outcomes[0.25].count(Outcome.PASS) / runs > 0.97
    assert asked[0.25] / (runs * count) < 0.5
    assert asked[-0.02] / (runs * count) < 0.95


# --- in a run -------------------------------------------------------------------------------------------------


def test_a_run_asks_less_says_the_same_and_asks_nothing_the_second_time(gating: Gating) -> None:
    claims = (
        claim("finetuned >= baseline"),
        claim("finetuned >= 0.45"),
        claim("tokens(teacher) <= 9999", max_rows=30),
    )
    whole = gating.judge(*claims)
    gating.forget_rows()
    first = gating.judge(*claims, stop_early=True)
    asked = gating.asked
    assert asked["sandbox-small"] < asked["tuned"] < ALL / 2
    assert asked["sandbox-large"] == 30
    assert [result.verdict.outcome for result in first] == [result.verdict.outcome for result in whole]
    better, bar, tokens = (result.verdict for result in first)
    assert (better.method, better.n, better.planned) == (Method.BETTING, asked["sandbox-small"], ALL)
    assert (bar.n, bar.planned) == (asked["tuned"], ALL)
    assert (tokens.n, tokens.planned) == (30, None)
    assert [(score.stage, score.n, score.reused) for result in first for score in result.scores] == [
        ("finetuned", asked["tuned"], 0),
        ("baseline", asked["sandbox-small"], 0),
        ("finetuned", asked["tuned"], 0),
        ("teacher", 30, 0),
    ]
    second = gating.judge(*claims, stop_early=True)
    assert gating.asked == {}
    assert [result.verdict for result in second] == [result.verdict for result in first]
    assert {score.reused == score.n for result in second for score in result.scores} == {True}


def test_slices_and_locked_are_judged_as_in_a_whole_run(gating: Gating) -> None:
    claims = (claim("finetuned >= baseline", by="department"), claim("finetuned >= locked"))
    assert [result.verdict for result in gating.judge(*claims, stop_early=True)] == [
        result.verdict for result in gating.judge(*claims)
    ]


def test_alpha_is_spent_before_a_claim_is_stopped(gating: Gating) -> None:
    better = claim("finetuned >= baseline")
    gating.sql("DELETE FROM candidate")
    gating.judge_others(better, 29)
    (usual,) = gating.judge(better, stop_early=True)
    (spent,) = gating.judge(better, stop_early=True, spend_alpha=True)
    assert (usual.uses, spent.uses) == (30, 30)
    assert usual.verdict.n < spent.verdict.n < ALL
    assert (usual.verdict.outcome, spent.verdict.outcome) == (Outcome.PASS, Outcome.PASS)

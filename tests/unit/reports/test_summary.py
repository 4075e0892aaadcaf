from __future__ import annotations

from dataclasses import replace

import pytest
from syrupy.assertion import SnapshotAssertion
from tests.unit.core.cases import ABOVE, flips
from tests.unit.reports.cases import LADDER, RESULTS, judged, shuffled

from pytest_finetune.core.records import Policy, Scope, Tier
from pytest_finetune.core.results import Result
from pytest_finetune.reports.summary import counted, summary

SHOWN = (
    "fail",
    "held as observed",
    "bar passed",
    "share of the teacher",
    "a slice failed",
    "slices undecided",
    "slices passed",
    "on a suite",
    "identity",
)


def told(*results: Result, explain: bool = False) -> list[str]:
    return list(summary(results, explain=explain))


def test_a_task_is_told_from_its_stages_to_its_claims(snapshot: SnapshotAssertion) -> None:
    results = [RESULTS[name] for name in SHOWN]
    other = replace(RESULTS["bar passed"], task="replies")
    assert list(summary([*results, other], unevaluated=2)) == snapshot


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        ("pass", "PASSED"),
        ("identity", "PASSED"),
        ("held as observed", "PASSED?"),
        ("not held as observed", "FAILED"),
        ("fail", "FAILED"),
        ("only certified passes", "FAILED"),
        ("warned", "WARNED"),
        ("supporting", "WARNED"),
        ("advisory, failed", "WARNED"),
    ],
)
def test_the_mark_is_what_the_claim_does_to_its_test(name: str, mark: str) -> None:
    (line,) = (line for line in told(RESULTS[name]) if line.startswith(f"  {mark} "))
    assert line.startswith(f"  {mark} finetuned >= baseline: ")


def test_the_last_line_counts() -> None:
    results = [RESULTS[name] for name in ("pass", "held as observed", "fail", "warned", "advisory, failed")]
    assert counted(results, 0) == "1 certified, 1 only observed, 3 not held"
    assert counted(results[:1], 2) == "1 certified, 0 only observed, 2 NOT EVALUATED"
    assert list(summary([], 2)) == ["0 certified, 0 only observed, 2 NOT EVALUATED"]
    assert list(summary([])) == []


def test_what_does_not_block_says_what_to_do_and_what_blocks_has_said_it() -> None:
    assert "      Next: add about 888 rows: 1,038 test rows in all would settle it (150 there are)." in told(
        RESULTS["held as observed"]
    )
    assert [line for line in told(RESULTS["not held as observed"]) if "Next" in line] == []


def test_explained_is_what_no_failure_explains() -> None:
    explained = told(RESULTS["pass"], RESULTS["fail"], explain=True)
    assert [line for line in explained if "Claimed:" in line] == [
        "      Claimed: finetuned's mean score is at least baseline's, less 0.02."
    ]
    assert [line for line in told(RESULTS["pass"]) if "Claimed:" in line] == []


def test_slices_are_listed_unless_all_passed() -> None:
    assert told(RESULTS["a slice failed"])[-4:-1] == [
        "      billing: 0.5 < 1, n=40, does not hold: certified worse than the margin allows",
        "      other: 0.875 = 0.875, n=40, is held, not certified",
        "      1 of 3 slices hold, certified",
    ]
    undecided = told(RESULTS["slices undecided"])
    assert sum(line.startswith("      tenant") for line in undecided) == 5
    assert "      3 more do not; 0 of 8 slices hold, certified" in undecided
    assert [line for line in told(RESULTS["slices passed"]) if "slices" in line] == []


def test_what_stopping_early_spared_is_counted_once_for_each_stage() -> None:
    first = judged("finetuned >= baseline", shuffled(flips(60, 10, 210), planned=611))
    longer = judged("finetuned >= prompt_optimized", shuffled(flips(60, 10, 300), planned=611))
    assert told(first)[-2] == "  stopping early spared 802 of 1,222 rows"
    assert told(first, longer)[-2] == "  stopping early spared 1,023 of 1,833 rows"  # 311, 401 and 311
    whole = judged("finetuned >= prompt_optimized", shuffled(flips(60, 10, 605), planned=611))  # six lack a value
    assert told(whole)[-2].startswith("  PASSED")


def test_rows_that_judged_several_candidates_are_told_of_once() -> None:
    third = RESULTS["third candidate"]
    again = replace(third, claim="finetuned >= prompt_optimized", uses=2)
    elsewhere = replace(judged(ABOVE, flips(30, 10, 400), scope=Scope("safety")), uses=4)
    lines = [line for line in told(third, again, elsewhere) if "judged" in line]
    advice = "each with its chance of luck: take fresh ones, or set spend_alpha."
    assert lines == [
        f"  these rows have judged 3 candidates, {advice}",
        f"  on safety: these rows have judged 4 candidates, {advice}",
    ]
    assert [line for line in told(RESULTS["pass"]) if "judged" in line] == []


def test_a_stage_says_how_its_rows_ended() -> None:
    result = RESULTS["pass"]
    score = replace(
        result.scores[0], format_errors=3, errors=2, reused=390, reused_since=1_763_640_000.0, cost=0.0123
    )
    (line,) = (
        line
        for line in told(replace(result, scores=(replace(score, model="ft:\x1b[31m"),)))
        if line.startswith("  finetuned")
    )
    assert line == (
        "  finetuned  0.975  (0.955 to 0.986, n=400, 3 unparseable, 2 without an answer)"
        "  reused 390 of 20 Nov, asked 12  $0.0123  ft: [31m"
    )


def test_the_tier_is_named_where_it_matters() -> None:
    supporting = Policy(margin=0.02, tier=Tier.SUPPORTING)
    assert "(supporting)" not in "".join(told(judged(ABOVE, flips(30, 10, 400), supporting)))
    assert "not certified (supporting)" in "".join(told(judged(ABOVE, flips(5, 12, 150), supporting)))
    assert "(critical)" not in "".join(told(judged(ABOVE, flips(5, 12, 150), LADDER)))

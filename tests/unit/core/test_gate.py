from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_finetune.core.claims import Claim, parse
from pytest_finetune.core.gate import check_evidence, check_metric, judge, pair_rows, settle
from pytest_finetune.core.records import (
    Evidence,
    Inconclusive,
    Method,
    Outcome,
    Pair,
    Policy,
    Row,
    RowState,
    Usage,
    Verdict,
)
from pytest_finetune.errors import EvidenceError, UsageError

ABOVE = "finetuned >= baseline"


def claim(text: str) -> Claim:
    (parsed,) = parse(text)
    return parsed


def evidence(left: Sequence[float], right: Sequence[float] | float, groups: Sequence[str] | None = None) -> Evidence:
    others = [right] * len(left) if isinstance(right, float) else right
    names: Sequence[str | None] = groups or [None] * len(left)
    values = enumerate(zip(left, others, names, strict=True))
    return Evidence(tuple(Pair(f"row {i}", a, b, group) for i, (a, b, group) in values))


def flips(wins: int, losses: int, n: int) -> Evidence:
    same = n - wins - losses
    return evidence([1.0] * wins + [0.0] * losses + [1.0] * same, [0.0] * wins + [1.0] * losses + [1.0] * same)


def row(row_id: str, score: float | None = 1.0, **changes: object) -> Row:
    made = Row(row_id, "finetuned", 0, RowState.SCORED, score, output=f"answer {score}")
    return replace(made, **changes)  # type: ignore[arg-type]  # each caller names fields of Row


# --- pairing ---


def test_rows_are_paired_in_the_given_order_and_repeats_averaged() -> None:
    left = [row("b", 1.0), row("a", 1.0), row("a", 0.0, repeat=1)]
    right = [row("a", 1.0), row("b", 0.0)]
    paired = pair_rows(claim(ABOVE), left, right, row_ids=["b", "a"], groups={"a": "g"})
    assert paired.pairs == (Pair("b", 1.0, 0.0), Pair("a", 0.5, 1.0, "g"))


def test_an_error_is_a_missing_pair_and_a_format_error_a_zero() -> None:
    left = [
        row("a", None, state=RowState.ERROR, error="503"),
        row("b", None, state=RowState.FORMAT_ERROR, output="not json"),
        row("c", None, state=RowState.NOT_RUN),
        row("d", 1.0),
        row("d", None, repeat=1, state=RowState.ERROR),
    ]
    paired = pair_rows(claim("finetuned >= 0.85"), left, row_ids=["a", "b", "c", "d", "e"])
    assert (paired.pairs, paired.missing) == ((Pair("b", 0.0, 0.85),), ("a", "c", "d", "e"))
    assert (paired.n_missing, paired.n_expected) == (4, 5)


@pytest.mark.parametrize(
    ("measure", "value"), [("cost", 0.25), ("tokens", 30.0), ("latency", 1.5), ("format_errors", 0.0), ("score", 0.5)]
)
def test_each_measure_reads_its_figure(measure: str, value: float) -> None:
    made = row("a", 0.5, usage=Usage(10, 20, 0.25), latency=1.5)
    paired = pair_rows(claim(f"{measure}(finetuned) <= 1"), [made], row_ids=["a"])
    assert paired.pairs == (Pair("a", value, 1.0),)


def test_an_unknown_cost_is_missing_not_zero() -> None:
    made = [row("a", usage=Usage(10, 20)), row("b")]
    assert pair_rows(claim("cost(finetuned) <= 1"), made, row_ids=["a", "b"]).missing == ("a", "b")


def test_identical_outputs_are_noticed() -> None:
    left, right = [row("a"), row("b")], [row("b"), row("a")]
    assert pair_rows(claim(ABOVE), left, right, row_ids=["a", "b"]).same_outputs
    changed = [row("a"), row("b", output="other")]
    assert not pair_rows(claim(ABOVE), left, changed, row_ids=["a", "b"]).same_outputs
    assert not pair_rows(claim("finetuned >= 0.5"), left, row_ids=["a", "b"]).same_outputs
    unkept = [row("a", output=None), row("b", output=None)]
    assert not pair_rows(claim(ABOVE), unkept, unkept, row_ids=["a", "b"]).same_outputs


# --- evidence that no verdict may rest on ---


def test_no_rows_is_an_error() -> None:
    with pytest.raises(EvidenceError, match="there is no row to judge it on"):
        check_evidence(claim(ABOVE), Evidence(()))


def test_more_than_two_percent_missing_is_an_error_that_names_rows() -> None:
    full = flips(10, 5, 98)
    check_evidence(claim(ABOVE), replace(full, missing=("x", "y")))
    with pytest.raises(EvidenceError, match=r"3 of 101 rows have no score on both sides \(first: x, y, z\)"):
        check_evidence(claim(ABOVE), replace(full, missing=("x", "y", "z")))
    with pytest.raises(EvidenceError, match="its price is unknown"):
        check_evidence(claim("cost(finetuned) <= 1"), Evidence((), missing=("x",)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1.5, -0.1])
def test_a_score_out_of_range_is_an_error_that_names_the_row(bad: float) -> None:
    with pytest.raises(EvidenceError, match="row 1 has the score"):
        check_evidence(claim(ABOVE), evidence([1.0, bad], [1.0, 1.0]))


def test_a_cost_may_exceed_one_but_must_be_finite() -> None:
    check_evidence(claim("cost(finetuned) <= 9"), evidence([7.5], 9.0))
    with pytest.raises(EvidenceError, match="of at least 0"):
        check_evidence(claim("cost(finetuned) <= 9"), evidence([math.inf], 9.0))


def test_different_models_with_identical_outputs_are_an_error_except_against_locked() -> None:
    same = replace(flips(0, 0, 40), same_outputs=True)
    with pytest.raises(EvidenceError, match="identical outputs on all 40 rows"):
        check_evidence(claim(ABOVE), same)
    check_evidence(claim(ABOVE), replace(same, same_model=True))
    check_evidence(claim("finetuned >= locked"), same)


def test_a_metric_constant_over_stages_is_an_error() -> None:
    rows = [row("a"), row("b"), row("a", stage="baseline")]
    with pytest.raises(EvidenceError, match="the metric gave 1 to every row of baseline, finetuned"):
        check_metric(rows)
    check_metric(rows[:2])
    check_metric([*rows, row("b", 0.0, stage="baseline")])


# --- verdicts ---


@pytest.mark.parametrize(
    ("text", "made", "method"),
    [
        (ABOVE, flips(20, 10, 200), Method.TANGO),
        ("finetuned >= 0.95 * teacher", flips(20, 10, 200), Method.BETTING),
        (ABOVE, evidence([0.5, 1.0], [1.0, 0.0]), Method.BETTING),
        ("finetuned >= 0.85", evidence([1.0, 0.0], 0.85), Method.BINOMIAL),
        ("finetuned >= 0.85", evidence([0.5, 0.9], 0.85), Method.BETTING),
        (ABOVE, evidence([1.0, 0.0], [1.0, 1.0], ["g", "g"]), Method.CLUSTERED_T),
        (ABOVE, evidence([1.0, 0.0], [1.0, 1.0], ["g", "h"]), Method.TANGO),
        ("cost(finetuned) <= 0.1 * cost(teacher)", evidence([1.0, 0.0], [1.0, 1.0]), Method.PAIRED_T),
        ("format_errors(finetuned) <= format_errors(baseline)", flips(1, 2, 50), Method.TANGO),
    ],
)
def test_the_test_follows_from_the_kind_of_data(text: str, made: Evidence, method: Method) -> None:
    assert judge(claim(text), made, Policy()).method is method


def test_a_binary_verdict_in_full() -> None:
    verdict = judge(claim(ABOVE), flips(30, 10, 400), Policy(margin=0.02))
    bounds = {name: round(getattr(verdict, name), 4) for name in ("lower", "upper", "certifiable_margin")}
    assert replace(verdict, **bounds) == Verdict(
        outcome=Outcome.PASS,
        method=Method.TANGO,
        left=0.975,
        right=0.925,
        estimate=0.975 - 0.925,
        lower=0.0249,
        upper=0.0774,
        margin=0.02,
        alpha=0.05,
        n=400,
        wins=30,
        losses=10,
        ties=360,
        rows_needed=None,
        certifiable_margin=0.0389,
    )


@pytest.mark.parametrize(
    ("wins", "losses", "outcome"),
    [(5, 5, Outcome.INCONCLUSIVE), (40, 10, Outcome.PASS), (10, 40, Outcome.FAIL)],
)
def test_three_verdicts(wins: int, losses: int, outcome: Outcome) -> None:
    verdict = judge(claim(ABOVE), flips(wins, losses, 150), Policy(margin=0.02))
    assert verdict.outcome is outcome
    assert (verdict.rows_needed is None) == (outcome is not Outcome.INCONCLUSIVE)


def test_rows_needed_settle_the_claim() -> None:
    verdict = judge(claim(ABOVE), flips(5, 5, 150), Policy(margin=0.02))
    assert verdict.rows_needed == 1038  # (2.486 * sqrt(10 / 149) / 0.02)²
    larger = judge(claim(ABOVE), flips(35, 35, 1050), Policy(margin=0.02))
    assert larger.outcome is Outcome.PASS


def test_no_number_of_rows_settles_equality_without_a_margin() -> None:
    verdict = judge(claim(ABOVE), flips(5, 5, 150), Policy())
    assert (verdict.outcome, verdict.rows_needed) == (Outcome.INCONCLUSIVE, None)


def test_without_flips_the_rows_needed_are_those_that_tango_needs() -> None:
    assert judge(claim(ABOVE), flips(0, 0, 20), Policy(margin=0.05)).rows_needed == 52


def test_a_single_row_tells_nothing() -> None:
    verdict = judge(claim(ABOVE), flips(1, 0, 1), Policy())
    assert (verdict.outcome, verdict.rows_needed, verdict.certifiable_margin) == (Outcome.INCONCLUSIVE, None, None)


@pytest.mark.parametrize(
    ("text", "margin"),
    [
        (ABOVE, 0.02),
        ("finetuned >= baseline - 0.01", 0.01),
        ("finetuned >= baseline - 0", 0.0),
        ("finetuned >= baseline + 0.05", -0.05),
        ("finetuned >= 0.85", 0.0),
        ("format_errors(finetuned) <= format_errors(baseline)", 0.02),
        ("cost(finetuned) <= cost(baseline)", 0.0),
        ("cost(finetuned) <= cost(baseline) + 3", 3.0),
    ],
)
def test_a_written_margin_takes_the_place_of_the_policys(text: str, margin: float) -> None:
    assert judge(claim(text), flips(20, 20, 100), Policy(margin=0.02)).margin == margin


@pytest.mark.parametrize(
    ("right_answers", "outcome"), [(121, Outcome.INCONCLUSIVE), (135, Outcome.PASS), (110, Outcome.FAIL)]
)
def test_a_bar_is_judged_by_the_exact_binomial(right_answers: int, outcome: Outcome) -> None:
    scores = [1.0] * right_answers + [0.0] * (150 - right_answers)
    verdict = judge(claim("finetuned >= 0.83"), evidence(scores, 0.83), Policy())
    assert (verdict.outcome, verdict.wins, verdict.certifiable_margin) == (outcome, right_answers, None)
    assert (verdict.left, verdict.right) == (right_answers / 150, 0.83)


def test_an_upper_bar_mirrors_a_lower_one() -> None:
    errors = [1.0] * 2 + [0.0] * 398
    upper = judge(claim("format_errors(finetuned) <= 0.02"), evidence(errors, 0.02), Policy())
    lower = judge(claim("finetuned >= 0.98"), evidence([1 - error for error in errors], 0.98), Policy())
    assert upper.outcome is Outcome.PASS
    assert (upper.lower, upper.upper) == pytest.approx((lower.lower, lower.upper))
    graded = [0.1 + 0.02 * (i % 7) for i in range(100)]
    upper = judge(claim("finetuned <= 0.25"), evidence(graded, 0.25), Policy())
    lower = judge(claim("finetuned >= 0.75"), evidence([1 - score for score in graded], 0.75), Policy())
    assert upper.outcome is Outcome.PASS
    assert (upper.lower, upper.upper) == pytest.approx((lower.lower, lower.upper))


def test_a_perfect_bar_is_never_certified_nor_refuted_by_perfect_rows() -> None:
    verdict = judge(claim("finetuned >= 1"), evidence([1.0] * 500, 1.0), Policy())
    assert (verdict.outcome, verdict.observed) == (Outcome.INCONCLUSIVE, True)


def test_cost_is_judged_per_row_against_its_share() -> None:
    student = [0.001 + 0.0001 * (i % 5) for i in range(60)]
    teacher = [0.02 + 0.001 * (i % 7) for i in range(60)]
    text = "cost(finetuned) <= 0.1 * cost(teacher)"
    assert judge(claim(text), evidence(student, teacher), Policy()).outcome is Outcome.PASS
    assert judge(claim(text), evidence(teacher, student), Policy()).outcome is Outcome.FAIL
    few = judge(claim(text), evidence(student[:10], teacher[:10]), Policy())
    assert (few.outcome, few.rows_needed) == (Outcome.INCONCLUSIVE, 20)


def test_clusters_widen_the_bounds() -> None:
    left, right = [1.0, 1.0, 1.0, 0.0] * 100, [0.0, 0.0, 0.0, 1.0] * 100
    left[:], right[:] = sorted(left), sorted(right, reverse=True)
    alone = judge(claim(ABOVE), evidence(left, right), Policy())
    grouped = judge(claim(ABOVE), evidence(left, right, [f"g{i // 5}" for i in range(400)]), Policy())
    assert grouped.upper - grouped.lower > 2 * (alone.upper - alone.lower)


def test_the_same_program_and_model_hold_by_identity() -> None:
    noisy = replace(flips(1, 30, 100), same_model=True, same_program=True)
    verdict = judge(claim(ABOVE), noisy, Policy())
    assert (verdict.outcome, verdict.identity, verdict.losses) == (Outcome.PASS, True, 30)
    assert judge(claim("finetuned >= baseline + 0.01"), noisy, Policy()).outcome is Outcome.FAIL
    assert not judge(claim(ABOVE), replace(noisy, same_program=False), Policy()).identity


def test_locked_holds_by_identity_only_if_no_row_differs() -> None:
    same = replace(flips(0, 0, 100), same_model=True, same_program=True)
    assert judge(claim("finetuned >= locked"), same, Policy()).identity
    drifted = replace(flips(1, 30, 100), same_model=True, same_program=True)
    assert judge(claim("finetuned >= locked"), drifted, Policy()).outcome is Outcome.FAIL


@pytest.mark.parametrize("policy", [{"margin": -0.1}, {"margin": 1.0}, {"alpha": 0.0}, {"alpha": 0.5}])
def test_a_policy_out_of_range_is_a_usage_error(policy: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="must be in"):
        Policy(margin=policy.get("margin", 0.0), alpha=policy.get("alpha", 0.05))


# --- properties ---

BINARY = st.sampled_from([0.0, 1.0])
GRADED = st.floats(min_value=0, max_value=1)
CLAIMS = st.sampled_from([ABOVE, "finetuned >= baseline - 0.05", "finetuned >= 0.9 * baseline", "finetuned >= 0.7"])
MARGINS = st.sampled_from([0.0, 0.02, 0.3])


def rows(scores: st.SearchStrategy[float]) -> st.SearchStrategy[list[tuple[float, float]]]:
    return st.lists(st.tuples(scores, scores), min_size=1, max_size=60)


def paired(values: Sequence[tuple[float, float]]) -> Evidence:
    return evidence([a for a, _ in values], [b for _, b in values])


@settings(max_examples=60)
@given(rows(BINARY) | rows(GRADED), CLAIMS, MARGINS)
def test_a_verdict_never_contradicts_its_bounds(values: list[tuple[float, float]], text: str, margin: float) -> None:
    parsed = claim(text)
    made = paired(values) if parsed.margin or len(parsed.stages) > 1 else evidence([a for a, _ in values], 0.7)
    verdict = judge(parsed, made, Policy(margin=margin))
    assert verdict.lower - 1e-9 <= verdict.estimate <= verdict.upper + 1e-9
    assert verdict.wins + verdict.losses + verdict.ties == verdict.n == len(values)
    if verdict.outcome is Outcome.PASS:
        assert verdict.lower >= -verdict.margin
    elif verdict.outcome is Outcome.FAIL:
        assert verdict.upper <= -verdict.margin
    else:
        assert verdict.lower <= -verdict.margin <= verdict.upper


MIRROR = {Outcome.PASS: Outcome.FAIL, Outcome.FAIL: Outcome.PASS, Outcome.INCONCLUSIVE: Outcome.INCONCLUSIVE}


@settings(max_examples=60)
@given(rows(BINARY) | rows(GRADED))
def test_swapping_the_sides_mirrors_the_verdict(values: list[tuple[float, float]]) -> None:
    verdict = judge(claim("a >= b - 0.05"), paired(values), Policy())
    swapped = judge(claim("a >= b + 0.05"), paired([(b, a) for a, b in values]), Policy())
    assert swapped.outcome is MIRROR[verdict.outcome]
    assert (swapped.lower, swapped.upper) == pytest.approx((-verdict.upper, -verdict.lower), abs=1e-9)


@settings(max_examples=60)
@given(rows(BINARY) | rows(GRADED))
def test_a_claim_says_the_same_from_left_and_from_right(values: list[tuple[float, float]]) -> None:
    forward = judge(claim("a >= b - 0.05"), paired(values), Policy())
    backward = judge(claim("b <= a + 0.05"), paired([(b, a) for a, b in values]), Policy())
    assert (backward.outcome, backward.lower, backward.wins) == (forward.outcome, forward.lower, forward.wins)


@given(st.data(), rows(BINARY))
def test_the_order_of_binary_rows_does_not_matter(data: st.DataObject, values: list[tuple[float, float]]) -> None:
    shuffled = data.draw(st.permutations(values))
    policy = Policy(margin=0.02)
    assert judge(claim(ABOVE), paired(shuffled), policy) == judge(claim(ABOVE), paired(values), policy)


# --- settlement ---


def settled(wins: int, losses: int, inconclusive: Inconclusive) -> tuple[bool, bool, bool]:
    settlement = settle(judge(claim(ABOVE), flips(wins, losses, 150), Policy(margin=0.02)), inconclusive)
    return settlement.held, settlement.certified, settlement.blocking


@pytest.mark.parametrize("inconclusive", Inconclusive)
def test_what_is_certified_holds_or_blocks_whatever_the_setting(inconclusive: Inconclusive) -> None:
    assert settled(40, 10, inconclusive) == (True, True, False)
    assert settled(10, 40, inconclusive) == (False, True, True)


@pytest.mark.parametrize(
    ("inconclusive", "losses", "expected"),
    [
        (Inconclusive.OBSERVED, 8, (True, False, False)),  # 5 - 8 of 150 is exactly the margin of -0.02
        (Inconclusive.OBSERVED, 9, (False, False, True)),
        (Inconclusive.FAIL, 8, (False, False, True)),
        (Inconclusive.WARN, 8, (True, False, False)),
        (Inconclusive.WARN, 9, (False, False, False)),
    ],
)
def test_what_is_only_observed_follows_the_setting(
    inconclusive: Inconclusive, losses: int, expected: tuple[bool, bool, bool]
) -> None:
    assert settled(5, losses, inconclusive) == expected

from __future__ import annotations

import math
from dataclasses import replace
from statistics import stdev

import pytest
from scipy.stats import binom
from statsmodels.stats.contingency_tables import mcnemar
from tests.unit.core.cases import (
    ABOVE,
    CHEAPER,
    FASTER,
    FORMAT,
    LATENCIES,
    SHARE,
    evidence,
    flips,
    identical,
    verdict_on,
)

from pytest_finetune.core import stats
from pytest_finetune.core.gate import settle
from pytest_finetune.core.records import Evidence, Inconclusive, Method, Outcome, Policy, Settlement, Tier, Verdict

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


def figures_of(verdict: Verdict) -> tuple[float, ...]:
    return verdict.left, verdict.right, verdict.estimate, verdict.lower, verdict.upper


# --- which test ---


@pytest.mark.parametrize(
    ("text", "made", "method", "early"),
    [
        (ABOVE, flips(20, 10, 200), Method.TANGO, Method.BETTING),
        (SHARE, flips(20, 10, 200), Method.BETTING, Method.BETTING),
        (ABOVE, evidence([0.5, 1.0], [1.0, 0.0]), Method.BETTING, Method.BETTING),
        ("finetuned >= 0.85", evidence([1.0, 0.0], 0.85), Method.BINOMIAL, Method.BETTING),
        ("finetuned >= 0.85", evidence([0.5, 0.9], 0.85), Method.BETTING, Method.BETTING),
        (ABOVE, evidence([1.0, 0.0], [1.0, 1.0], ["g", "g"]), Method.CLUSTERED_T, Method.CLUSTERED_T),
        (ABOVE, evidence([1.0, 0.0], [1.0, 1.0], ["g", "h"]), Method.TANGO, Method.BETTING),
        (CHEAPER, evidence([1.0, 0.0], [1.0, 1.0]), Method.PAIRED_T, Method.PAIRED_T),
        (CHEAPER, evidence([1.0, 0.0], [1.0, 1.0], ["g", "g"]), Method.PAIRED_T, Method.PAIRED_T),
        (FASTER, evidence([1.0, 0.0], [1.0, 1.0]), Method.QUANTILE, Method.QUANTILE),
        (FORMAT, flips(1, 2, 50), Method.TANGO, Method.BETTING),
        (ABOVE, identical(flips(1, 9, 50)), Method.IDENTITY, Method.IDENTITY),
    ],
)
def test_the_test_follows_from_the_data_and_from_whether_the_run_may_stop_early(
    text: str, made: Evidence, method: Method, early: Method
) -> None:
    n = len(made.pairs)
    whole, stopping = verdict_on(text, made), verdict_on(text, replace(made, planned=n))
    assert (whole.method, stopping.method, whole.planned, stopping.planned) == (method, early, None, n)
    if method is early and whole.ratio == stopping.ratio:
        assert replace(stopping, planned=None) == whole


# --- two stages ---


def test_a_binary_verdict_in_full() -> None:
    verdict = verdict_on(ABOVE, flips(30, 10, 400), 0.02)
    exact = {name: round(getattr(verdict, name), 4) for name in ("lower", "upper", "certifiable_margin", "p_differ")}
    assert replace(verdict, **exact) == Verdict(
        outcome=PASS,
        method=Method.TANGO,
        left=0.975,
        right=0.925,
        estimate=0.975 - 0.925,
        lower=0.0244,
        upper=0.0773,
        margin=0.02,
        alpha=0.05,
        n=400,
        wins=30,
        losses=10,
        ties=360,
        rows_needed=None,
        certifiable_margin=0.0389,
        p_differ=0.0015,
    )
    assert stats.tango_p(30, 10, 400, verdict.lower) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize(("wins", "losses", "outcome"), [(5, 5, INCONCLUSIVE), (40, 10, PASS), (10, 40, FAIL)])
def test_three_verdicts(wins: int, losses: int, outcome: Outcome) -> None:
    verdict = verdict_on(ABOVE, flips(wins, losses, 150), 0.02)
    assert verdict.outcome is outcome
    assert (verdict.rows_needed is None) == (outcome is not INCONCLUSIVE)


def test_rows_needed_settle_the_claim() -> None:
    assert verdict_on(ABOVE, flips(5, 5, 150), 0.02).rows_needed == 1038  # (2.486 * sqrt(10 / 149) / 0.02)²
    assert verdict_on(ABOVE, flips(35, 35, 1050), 0.02).outcome is PASS


def test_no_number_of_rows_settles_equality_without_a_margin() -> None:
    verdict = verdict_on(ABOVE, flips(5, 5, 150))
    assert (verdict.outcome, verdict.rows_needed, str(verdict.estimate)) == (INCONCLUSIVE, None, "0.0")
    assert str(verdict_on("baseline <= finetuned", flips(5, 5, 150)).estimate) == "0.0"


def test_without_flips_the_rows_needed_are_those_that_tango_needs() -> None:
    assert verdict_on(ABOVE, flips(0, 0, 20), 0.05).rows_needed == stats.min_rows(0.05) == 59
    assert [verdict_on(ABOVE, flips(0, 0, n), 0.05).outcome for n in (58, 59)] == [INCONCLUSIVE, PASS]


def test_graded_scores_are_planned_for_betting() -> None:
    differences = [0.5, -0.4, 0.3, -0.3] * 20
    verdict = verdict_on(ABOVE, evidence([0.5 + d / 2 for d in differences], [0.5 - d / 2 for d in differences]))
    sd = stdev(differences)
    assert (verdict.outcome, verdict.method) == (INCONCLUSIVE, Method.BETTING)
    assert verdict.rows_needed == stats.betting_rows(stats.rows_needed(0.025, sd)) == 1693
    assert verdict.certifiable_margin == pytest.approx(stats.certifiable_margin(80, sd, betting=True))


def test_a_single_row_tells_nothing() -> None:
    verdict = verdict_on(ABOVE, flips(1, 0, 1))
    assert (verdict.outcome, verdict.rows_needed, verdict.certifiable_margin) == (INCONCLUSIVE, None, None)


@pytest.mark.parametrize(
    ("text", "margin"),
    [
        (ABOVE, 0.02),
        (SHARE, 0.02),
        ("finetuned >= baseline - 0.01", 0.01),
        ("finetuned >= baseline - 0", 0.0),
        ("finetuned >= baseline + 0.05", -0.05),
        ("finetuned >= 0.85", 0.0),
        (FORMAT, 0.02),
        ("cost(finetuned) <= cost(baseline)", 0.0),
        ("cost(finetuned) <= cost(baseline) + 3", 3.0),
        (FASTER, 0.0),
        ("latency_p50(finetuned) <= latency_p50(baseline) + 3", 3.0),
    ],
)
def test_a_written_margin_takes_the_place_of_the_policys(text: str, margin: float) -> None:
    assert verdict_on(text, flips(20, 20, 100), 0.02).margin == margin


def test_clusters_widen_the_bounds() -> None:
    left, right = [1.0] * 300 + [0.0] * 100, [0.0] * 300 + [1.0] * 100
    alone = verdict_on(ABOVE, evidence(left, right))
    grouped = verdict_on(ABOVE, evidence(left, right, [f"g{i // 5}" for i in range(400)]))
    assert grouped.upper - grouped.lower > 2 * (alone.upper - alone.lower)


@pytest.mark.parametrize(("wins", "losses"), [(30, 12), (1, 7), (4, 4), (0, 9)])
def test_better_or_worse_at_all_is_mcnemars_exact_test_less_half_of_the_observed_point(
    wins: int, losses: int
) -> None:
    exact = mcnemar([[0, wins], [losses, 0]], exact=True).pvalue  # two-sided: half of the point on either side
    point = binom.pmf(min(wins, losses), wins + losses, 0.5)
    expected = exact - (point if wins != losses else point / 2)
    assert verdict_on(ABOVE, flips(wins, losses, 60)).p_differ == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        (ABOVE, evidence([0.5, 1.0], [1.0, 0.0])),
        (SHARE, flips(20, 10, 60)),
        ("finetuned >= 0.85", evidence([1.0, 0.0], 0.85)),
        (ABOVE, evidence([1.0, 0.0], [1.0, 1.0], ["g", "g"])),
        (ABOVE, replace(flips(20, 10, 60), planned=200)),
        (ABOVE, identical(flips(20, 10, 60))),
    ],
)
def test_mcnemars_test_is_for_independent_binary_pairs_whose_number_was_fixed(text: str, made: Evidence) -> None:
    assert verdict_on(text, made).p_differ is None


# --- a number ---


@pytest.mark.parametrize(("right_answers", "outcome"), [(121, INCONCLUSIVE), (135, PASS), (110, FAIL)])
def test_a_bar_is_judged_by_the_exact_binomial(right_answers: int, outcome: Outcome) -> None:
    scores = [1.0] * right_answers + [0.0] * (150 - right_answers)
    verdict = verdict_on("finetuned >= 0.83", evidence(scores, 0.83), 0.02)
    assert (verdict.outcome, verdict.wins, verdict.certifiable_margin) == (outcome, right_answers, None)
    assert (verdict.left, verdict.right, verdict.margin, verdict.ratio) == (right_answers / 150, 0.83, 0.0, None)


def test_an_upper_bar_mirrors_a_lower_one() -> None:
    errors = [1.0] * 2 + [0.0] * 398
    upper = verdict_on("format_errors(finetuned) <= 0.02", evidence(errors, 0.02))
    lower = verdict_on("finetuned >= 0.98", evidence([1 - error for error in errors], 0.98))
    assert upper.outcome is PASS
    assert (upper.lower, upper.upper) == pytest.approx((lower.lower, lower.upper))
    graded = [0.1 + 0.02 * (i % 7) for i in range(100)]
    upper = verdict_on("finetuned <= 0.25", evidence(graded, 0.25))
    lower = verdict_on("finetuned >= 0.75", evidence([1 - score for score in graded], 0.75))
    assert upper.outcome is PASS
    assert (upper.lower, upper.upper) == pytest.approx((lower.lower, lower.upper))


def test_a_perfect_bar_is_never_certified_nor_refuted_by_perfect_rows() -> None:
    verdict = verdict_on("finetuned >= 1", evidence([1.0] * 500, 1.0))
    assert (verdict.outcome, verdict.observed) == (INCONCLUSIVE, True)


# --- a share of the other side ---

COSTS = [0.001 + 0.0001 * (i % 5) for i in range(60)], [0.02 + 0.001 * (i % 7) for i in range(60)]


def test_cost_is_judged_per_row_against_its_share() -> None:
    student, teacher = COSTS
    cheap = verdict_on(CHEAPER, evidence(student, teacher), 0.02)
    assert (cheap.outcome, cheap.wins, cheap.margin, cheap.certifiable_margin) == (PASS, 60, 0.0, None)
    assert (cheap.left, cheap.right, cheap.estimate) == pytest.approx((0.0012, 0.00229, 0.00109))
    assert cheap.ratio == pytest.approx((0.05074, 0.05409), abs=1e-5)  # 0.0012 / 0.0229 is 0.0524
    dear = verdict_on(CHEAPER, evidence(teacher, student))
    assert (dear.outcome, dear.losses) == (FAIL, 60)
    assert dear.estimate == pytest.approx(0.00012 - 0.0229)


def test_fewer_than_twenty_rows_say_nothing_about_cost() -> None:
    student, teacher = COSTS
    few = verdict_on(CHEAPER, evidence(student[:19], teacher[:19]))
    assert (few.outcome, few.rows_needed, few.ratio) == (INCONCLUSIVE, 20, (0.0, math.inf))
    assert verdict_on(CHEAPER, evidence(student[:20], teacher[:20])).outcome is PASS


def test_costs_in_groups_are_judged_by_group() -> None:
    student, teacher = COSTS
    groups = [f"g{i // 4}" for i in range(60)]
    verdict = verdict_on(CHEAPER, evidence(student, teacher, groups))
    assert (verdict.outcome, verdict.rows_needed) == (INCONCLUSIVE, 80)  # 20 groups of 4 rows


def test_a_ratio_is_given_where_a_claim_speaks_of_a_share_and_its_test_was_not_stopped() -> None:
    made = flips(10, 6, 200)
    assert verdict_on(ABOVE, made).ratio is None
    assert verdict_on("finetuned >= 0.5", evidence([0.25, 0.75], 0.5)).ratio is None
    assert verdict_on(SHARE, replace(made, planned=200)).ratio is None
    assert verdict_on(FASTER, made).ratio is None
    lower, upper = verdict_on("cost(finetuned) <= cost(baseline)", evidence(*COSTS)).ratio or (0.0, 0.0)
    assert lower < 0.0012 / 0.0229 < upper


def test_a_factor_on_the_left_multiplies_its_ratio() -> None:
    left, right = [1.0] + [0.5] * 9, [0.0] + [1.0] * 9
    doubled = verdict_on("2 * finetuned >= baseline", evidence(left, right))
    single = verdict_on("finetuned >= 0.5 * baseline", evidence(left, right))
    assert doubled.ratio == pytest.approx(tuple(2 * bound for bound in single.ratio or ()))
    assert doubled.estimate == pytest.approx(2 * single.estimate)


# --- percentiles ---


@pytest.mark.parametrize(
    ("text", "right", "outcome", "figures"),
    [
        ("latency_p95(a) <= 3", 3.0, PASS, (2.88, 3.0, 0.12, 0.06, 0.16)),
        ("latency_p95(a) <= 2.9", 2.9, INCONCLUSIVE, (2.88, 2.9, 0.02, -0.04, 0.06)),
        ("latency_p95(a) <= 2.8", 2.8, FAIL, (2.88, 2.8, -0.08, -0.14, -0.04)),
        ("latency_p95(a) >= 2.8", 2.8, PASS, (2.88, 2.8, 0.08, 0.04, 0.14)),
        ("latency_p50(a) <= 2.9", 2.9, PASS, (1.98, 2.9, 0.92, 0.78, 1.04)),
    ],
)
def test_a_percentile_against_a_number_is_judged_by_order_statistics(
    text: str, right: float, outcome: Outcome, figures: tuple[float, ...]
) -> None:
    verdict = verdict_on(text, evidence(LATENCIES, right))
    assert (verdict.outcome, verdict.method, verdict.rows_needed) == (outcome, Method.QUANTILE, None)
    assert figures_of(verdict) == pytest.approx(figures)


@pytest.mark.parametrize(
    ("text", "outcome", "figures"),
    [
        (FASTER, PASS, (2.88, 1.2 * 2.88, 0.576, 0.4972, 0.6602)),
        ("latency_p95(a) <= latency_p95(b)", INCONCLUSIVE, (2.88, 2.88, 0.0, -0.0738, 0.0738)),
        ("latency_p95(a) <= 0.8 * latency_p95(b)", FAIL, (2.88, 0.8 * 2.88, -0.576, -0.6455, -0.5119)),
        ("0.5 * latency_p95(a) <= latency_p95(b) - 1", PASS, (1.44, 2.88, 1.44, 1.3888, 1.5042)),
        ("latency_p50(a) <= latency_p50(b) + 0.5", PASS, (1.98, 1.98, 0.0, -0.1807, 0.1807)),
    ],
)
def test_percentiles_of_two_stages_are_compared(text: str, outcome: Outcome, figures: tuple[float, ...]) -> None:
    others = [1 + ((i * 61) % 100) / 50 for i in range(200)]
    verdict = verdict_on(text, evidence(LATENCIES, others))
    assert (verdict.outcome, verdict.ratio, verdict.certifiable_margin) == (outcome, None, None)
    assert figures_of(verdict) == pytest.approx(figures, abs=1e-4)


def test_a_percentile_sees_the_slow_rows_that_the_mean_forgives() -> None:
    slow, steady = [1.0] * 80 + [9.0] * 20, [4.0] * 100
    made = evidence(slow, steady)
    assert verdict_on("latency(a) <= latency(b)", made).outcome is PASS
    assert verdict_on("latency_p90(a) <= latency_p90(b)", made).outcome is FAIL


# --- the same program and model ---


def test_the_same_program_and_model_hold_by_identity() -> None:
    noisy = identical(flips(1, 30, 100))
    verdict = verdict_on(ABOVE, noisy)
    assert (verdict.outcome, verdict.identity, verdict.losses) == (PASS, True, 30)
    assert (verdict.lower, verdict.upper) == (0.0, 0.0)
    assert verdict_on("latency_p95(a) <= latency_p95(b)", noisy).identity
    assert verdict_on("finetuned >= baseline + 0.01", noisy).outcome is FAIL
    assert not verdict_on(ABOVE, replace(noisy, same_program=False)).identity
    assert not verdict_on(SHARE, noisy).identity


def test_locked_holds_by_identity_only_if_no_row_differs() -> None:
    assert verdict_on("finetuned >= locked", identical(flips(0, 0, 100))).identity
    assert verdict_on("finetuned >= locked", identical(flips(1, 30, 100))).outcome is FAIL


# --- what a verdict does to the test ---

VERDICTS = {
    "PASS": flips(40, 10, 150),
    "FAIL": flips(10, 40, 150),
    "observed": flips(5, 8, 150),  # 5 - 8 of 150 is exactly the margin of -0.02
    "not observed": flips(5, 9, 150),
}


@pytest.mark.parametrize(
    ("said", "inconclusive", "held", "certified", "blocking"),  # blocking: critical, supporting, advisory
    [
        ("PASS", Inconclusive.OBSERVED, True, True, (False, False, False)),
        ("PASS", Inconclusive.FAIL, True, True, (False, False, False)),
        ("PASS", Inconclusive.WARN, True, True, (False, False, False)),
        ("FAIL", Inconclusive.OBSERVED, False, True, (True, True, False)),
        ("FAIL", Inconclusive.FAIL, False, True, (True, True, False)),
        ("FAIL", Inconclusive.WARN, False, True, (True, True, False)),
        ("observed", Inconclusive.OBSERVED, True, False, (False, False, False)),
        ("observed", Inconclusive.FAIL, False, False, (True, False, False)),
        ("observed", Inconclusive.WARN, True, False, (False, False, False)),
        ("not observed", Inconclusive.OBSERVED, False, False, (True, False, False)),
        ("not observed", Inconclusive.FAIL, False, False, (True, False, False)),
        ("not observed", Inconclusive.WARN, False, False, (False, False, False)),
    ],
)
@pytest.mark.parametrize("tier", Tier)
def test_what_a_verdict_does_to_the_test(
    said: str, inconclusive: Inconclusive, held: bool, certified: bool, blocking: tuple[bool, ...], tier: Tier
) -> None:
    verdict = verdict_on(ABOVE, VERDICTS[said], 0.02)
    settlement = settle(verdict, Policy(margin=0.02, inconclusive=inconclusive, tier=tier))
    assert settlement == Settlement(held=held, certified=certified, blocking=blocking[list(Tier).index(tier)])

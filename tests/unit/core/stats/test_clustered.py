from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle
from statsmodels.regression.linear_model import OLS
from tests.unit.core.stats.agreement import allowed, assert_agrees, assert_mirrored, sample

from pytest_finetune.core.stats import cluster_variance, clustered_t


def test_the_variance_of_clusters_of_one_size_is_statsmodels_cr1() -> None:
    values, groups = sample(120, seed=3)
    codes = [int(group.split()[1]) for group in groups]
    fit = OLS(values, [1.0] * 120).fit(cov_type="cluster", cov_kwds={"groups": codes, "use_correction": False})
    variance, units = cluster_variance(values, groups)
    assert units == 30
    assert math.sqrt(variance) == pytest.approx(float(fit.bse[0]) * math.sqrt(30 / 29))


def test_unequal_clusters_count_by_their_weight() -> None:
    values, groups = [1.0, 1.0, 1.0, 0.0, -1.0, 0.0], ["a", "a", "a", "b", "c", "d"]
    variance, units = cluster_variance(values, groups)
    assert units == pytest.approx(36 / 12)
    mean = 2 / 6  # residual sums 2, -1/3, -4/3, -1/3 at shares 1/2, 1/6, 1/6, 1/6
    sums = (3 - 3 * mean) ** 2 / (1 / 2) + (mean**2 + (1 + mean) ** 2 + mean**2) / (5 / 6)
    assert variance == pytest.approx(sums / 36)


def test_without_clusters_and_skewness_it_is_the_paired_t_test() -> None:
    half, _ = sample(60, seed=4)
    values = [0.03 + value for value in half] + [0.03 - value for value in half]
    decision = clustered_t(values, d0=0.01)
    interval = oracle.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (decision.lower, decision.upper) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert decision.p_above == pytest.approx(oracle.ttest_1samp(values, 0.01, alternative="greater").pvalue)
    below = clustered_t(values, d0=0.06)
    assert below.p_below == pytest.approx(oracle.ttest_1samp(values, 0.06, alternative="less").pvalue)


def test_skewness_moves_a_bound_outwards_only() -> None:
    rng = random.Random(1)
    costs = [1 - rng.lognormvariate(-0.5, 1) for _ in range(50)]  # rare large costs: t would pass too often
    interval = oracle.ttest_1samp(costs, 0).confidence_interval(0.9)
    decision = clustered_t(costs)
    assert decision.lower < interval.low - 0.02
    assert decision.upper == pytest.approx(interval.high)


def test_it_certifies_nothing_on_few_units_or_unseen_losses() -> None:
    few = clustered_t([0.5] * 100, ["only", "two"] * 50, d0=-0.05)
    assert (few.lower, few.upper, few.p_above) == (-math.inf, math.inf, 1.0)
    lopsided = ["most"] * 60 + [f"group {i}" for i in range(40)]  # 41 clusters, with the weight of 2.7
    assert clustered_t([0.5] * 100, lopsided).lower == -math.inf
    assert not clustered_t([0.0] * 58, d0=-0.05, low=-1, high=1).above  # rule of three: 59
    assert clustered_t([0.0] * 59, d0=-0.05, low=-1, high=1).above


@pytest.mark.parametrize(("losses", "passes"), [(13, True), (17, False)])
def test_the_variance_is_at_least_that_of_rare_losses_at_the_margin(losses: int, passes: bool) -> None:
    values = [-1.0] * losses + [0.0] * (500 - losses)
    assert clustered_t(values, d0=-0.05, low=-1, high=1).above is passes


VALUES = st.floats(-1, 1)
ROWS = st.lists(st.tuples(VALUES, st.sampled_from("abcdefghijklmnopqrstuvwxyz")), min_size=1)
BOUNDARY = st.floats(-0.9, 0.9)


@settings(max_examples=60)
@given(
    ROWS | st.lists(VALUES, min_size=20, max_size=60).map(lambda xs: [(x, str(i)) for i, x in enumerate(xs)]),
    BOUNDARY,
)
def test_the_decision_agrees_with_itself_and_is_symmetric(rows: list[tuple[float, str]], d0: float) -> None:
    differences, groups = [value for value, _ in rows], [group for _, group in rows]
    decision = clustered_t(differences, groups, d0=d0, low=-1, high=1)
    assert_agrees(decision, d0, math.fsum(differences) / len(differences))
    assert_mirrored(decision, clustered_t([-value for value in differences], groups, d0=-d0, low=-1, high=1))


@settings(max_examples=40)
@given(st.lists(st.tuples(VALUES, st.integers(0, 40)), min_size=20, max_size=60), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: list[tuple[float, int]], rng: random.Random) -> None:
    def judged() -> tuple[float, ...]:
        decision = clustered_t([value for value, _ in rows], [str(group) for _, group in rows], d0=-0.05)
        return decision.lower, decision.upper, decision.p_above, decision.p_below

    before = judged()
    rng.shuffle(rows)
    assert judged() == before


@settings(max_examples=40)
@given(st.lists(VALUES, min_size=25, max_size=60))
def test_one_more_win_never_turns_a_pass_into_a_fail(differences: list[float]) -> None:
    if clustered_t(differences, d0=-0.05, low=-1, high=1).above:
        assert not clustered_t([*differences, 1.0], d0=-0.05, low=-1, high=1).below


@pytest.mark.parametrize("sizes", [[5] * 25, [1, 2, 3, 4, 12] * 10], ids=["equal", "unequal"])
def test_error_rates_with_few_clusters_by_simulation(sizes: list[int]) -> None:
    rng, repeats, margin = random.Random(8), 400, 0.05
    groups = [str(group) for group, size in enumerate(sizes) for _ in range(size)]
    passes = fails = 0
    for _ in range(repeats):
        values = list[float]()
        for size in sizes:
            offset = rng.gauss(0, 0.2)
            values += [offset + rng.gauss(-margin, 0.2) for _ in range(size)]
        decision = clustered_t(values, groups, d0=-margin)
        passes, fails = passes + decision.above, fails + decision.below
    assert 0.01 < passes / repeats < allowed(repeats)
    assert 0.01 < fails / repeats < allowed(repeats)

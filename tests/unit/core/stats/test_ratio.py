from __future__ import annotations

import math
import random
from statistics import fmean, variance

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from pytest_finetune.core.stats import betting, clustered_t, ratio_interval


def costs(n: int, seed: int, spread: float = 0.3) -> tuple[list[float], list[float]]:
    rng = random.Random(seed)
    sizes = [rng.gauss(10, 10 * spread) for _ in range(n)]
    return [max(0.2 * s + rng.gauss(0, 0.2), 0.0) for s in sizes], [max(s + rng.gauss(0, 1), 0.0) for s in sizes]


def fieller(left: list[float], right: list[float]) -> tuple[float, float]:
    """The roots of (mean a - f mean b)² = t² var(a - f b) / n."""
    n, a, b = len(left), fmean(left), fmean(right)
    covariance = sum((x - a) * (y - b) for x, y in zip(left, right, strict=True)) / (n - 1) / n
    t2 = oracle.t.ppf(0.95, n - 1) ** 2
    square, mixed, constant = (
        b * b - t2 * variance(right) / n,
        a * b - t2 * covariance,
        a * a - t2 * variance(left) / n,
    )
    root = math.sqrt(mixed * mixed - square * constant)
    return (mixed - root) / square, (mixed + root) / square


def test_the_interval_is_fiellers() -> None:
    left, right = costs(200, seed=2)
    # skewness is taken out of t, which moves a bound outwards by a little
    lower, upper = ratio_interval(left, right)
    expected = fieller(left, right)
    assert (lower, upper) == pytest.approx(expected, rel=2e-3)
    assert lower <= expected[0] + 1e-6
    assert upper >= expected[1] - 1e-6


def test_the_interval_holds_the_factors_that_are_not_rejected() -> None:
    left, right = costs(60, seed=5)
    lower, upper = ratio_interval(left, right)
    for factor, above, below in (
        (lower * 0.999, True, False),
        (lower * 1.001, False, False),
        (upper * 1.001, False, True),
    ):
        decision = clustered_t([a - factor * b for a, b in zip(left, right, strict=True)])
        assert (decision.above, decision.below) == (above, below)


def test_the_interval_of_scores_comes_from_betting() -> None:
    rng = random.Random(4)
    right = [float(rng.random() < 0.8) for _ in range(300)]
    left = [value if rng.random() < 0.9 else 1 - value for value in right]
    lower, upper = ratio_interval(left, right, bounded=True)
    assert 0.8 < lower < fmean(left) / fmean(right) < upper < 1.1
    for factor, above in ((lower - 0.001, True), (lower + 0.001, False)):
        differences = [a - factor * b for a, b in zip(left, right, strict=True)]
        assert betting(differences, low=-factor, high=1.0).above is above


def test_clusters_widen_the_interval() -> None:
    left, right = costs(200, seed=2)
    left[:], right[:] = sorted(left), [value for _, value in sorted(zip(left, right, strict=True))]
    plain = ratio_interval(left, right)
    for bounded, scale in ((False, 1.0), (True, 0.04)):
        sides = [scale * value for value in left], [scale * value for value in right]
        grouped = ratio_interval(*sides, [str(i // 5) for i in range(200)], bounded=bounded)
        assert grouped[1] - grouped[0] > 1.3 * (plain[1] - plain[0])


def test_where_the_right_side_may_be_nothing_there_is_no_upper_bound() -> None:
    left = [1.0 + 0.1 * (i % 5) for i in range(40)]
    assert ratio_interval(left, [0.0] * 40) == (0.0, math.inf)
    assert ratio_interval(left, [1.0] + [0.0] * 39)[1] == math.inf
    assert ratio_interval(left[:10], left[:10]) == (0.0, math.inf)  # too few rows for any test


def test_nothing_on_the_left_is_a_ratio_of_nothing() -> None:
    lower, upper = ratio_interval([0.0] * 40, [1.0 + 0.1 * (i % 5) for i in range(40)])
    assert lower == 0.0
    assert upper < 1e-8


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)), min_size=20, max_size=40),
    st.sampled_from([0.5, 1.0, 2.0]),
)
def test_the_verdict_about_a_factor_never_contradicts_the_interval(
    rows: list[tuple[float, float]], factor: float
) -> None:
    left, right = [a for a, _ in rows], [b for _, b in rows]
    lower, upper = ratio_interval(left, right)
    decision = clustered_t([a - factor * b for a, b in rows])
    assert lower >= factor * (1 - 1e-5) if decision.above else lower <= factor * (1 + 1e-5)
    assert upper <= factor * (1 + 1e-5) if decision.below else upper >= factor * (1 - 1e-5)
    assert lower <= fmean(left) / fmean(right) <= upper

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle
from tests.unit.core.stats.agreement import allowed, assert_agrees, assert_mirrored

from pytest_finetune.core.stats import Quantile, quantile, quantile_difference


def latencies(n: int, rng: random.Random, scale: float = 1.0) -> tuple[list[float], list[float]]:
    """Log-normal, with a common part on the same row; the left side's spread is twice that of the right."""
    left, right = list[float](), list[float]()
    for _ in range(n):
        common = rng.gauss(0, 1)
        left.append(scale * math.exp(0.8 * (0.6 * common + 0.8 * rng.gauss(0, 1))))
        right.append(math.exp(0.4 * (0.6 * common + 0.8 * rng.gauss(0, 1))))
    return left, right


@pytest.mark.parametrize(("n", "share"), [(59, 0.95), (100, 0.95), (100, 0.5), (40, 0.9), (1000, 0.99)])
def test_the_bounds_are_the_order_statistics_of_the_sign_test(n: int, share: float) -> None:
    values = latencies(n, random.Random(n))[0]
    ordered = [-math.inf, *sorted(values), math.inf]
    low, high = (int(oracle.binom.ppf(level, n, share)) for level in (0.05, 0.95))
    estimate = float(np.quantile(values, share, method="inverted_cdf"))
    assert quantile(values, share) == Quantile(ordered[low], estimate, ordered[high + 1])


def test_a_high_percentile_of_few_rows_has_no_upper_bound() -> None:
    assert quantile([float(i) for i in range(58)], 0.95).upper == math.inf
    assert quantile([float(i) for i in range(59)], 0.95).upper == 58.0


def test_against_a_number_the_bounds_are_those_of_the_quantile() -> None:
    values = latencies(100, random.Random(1))[0]
    decision, own = quantile_difference(values, [2.0] * 100, 0.95), quantile(values, 0.95)
    assert (decision.lower, decision.upper) == pytest.approx((own.lower - 2, own.upper - 2))
    assert quantile_difference(values, [own.upper * 1.01] * 100, 0.95).below
    assert not quantile_difference(values, [own.upper * 0.99] * 100, 0.95).below


def test_a_factor_scales_the_right_side() -> None:
    left, right = latencies(100, random.Random(2))
    doubled = [2 * value for value in right]
    assert quantile_difference(left, right, 0.9, factor=2.0) == quantile_difference(left, doubled, 0.9)


ROWS = st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9)), min_size=5, max_size=90)


@settings(max_examples=40)
@given(ROWS, st.sampled_from([0.5, 0.9]), st.sampled_from([-1.0, 0.0, 0.5]))
def test_the_decision_agrees_with_itself_and_is_symmetric(
    rows: list[tuple[float, float]], share: float, d0: float
) -> None:
    left, right = [a for a, _ in rows], [b for _, b in rows]
    decision = quantile_difference(left, right, share, d0=d0)
    assert_agrees(decision, d0, quantile(left, share).estimate - quantile(right, share).estimate)
    assert_mirrored(decision, quantile_difference(right, left, share, d0=-d0))


def in_clusters(clusters: int, rng: random.Random, scale: float = 1.0) -> tuple[list[float], list[float], list[str]]:
    """Ten rows to a cluster, which share most of what is unusual about them."""
    left, right, groups = list[float](), list[float](), list[str]()
    for cluster in range(clusters):
        of_left, of_right = rng.gauss(0, 1), rng.gauss(0, 1)
        for _ in range(10):
            left.append(scale * math.exp(0.8 * (0.9 * of_left + 0.44 * rng.gauss(0, 1))))
            right.append(math.exp(0.8 * (0.9 * of_right + 0.44 * rng.gauss(0, 1))))
            groups.append(f"c{cluster}")
    return left, right, groups


def test_rows_of_a_cluster_are_not_taken_for_independent() -> None:
    rng, repeats = random.Random(10), 200
    samples = [in_clusters(40, rng) for _ in range(repeats)]
    clustered = [quantile_difference(*sample[:2], 0.75, sample[2]) for sample in samples]
    assert sum(decision.above for decision in clustered) / repeats < allowed(repeats)
    assert sum(decision.below for decision in clustered) / repeats < allowed(repeats)
    independent = [quantile_difference(*sample[:2], 0.75) for sample in samples]
    assert sum(decision.above for decision in independent) / repeats > 0.1
    apart = [quantile_difference(*in_clusters(40, rng, 3.0)[:2], 0.75, samples[0][2]) for _ in range(60)]
    assert sum(decision.above for decision in apart) > 40


def test_rows_that_are_their_own_clusters_are_nearly_independent_and_few_clusters_say_nothing() -> None:
    left, right = latencies(200, random.Random(3))
    alone = quantile_difference(left, right, 0.75, [str(number) for number in range(200)])
    independent = quantile_difference(left, right, 0.75)
    assert independent.lower - 0.1 < alone.lower <= independent.lower
    assert independent.upper <= alone.upper < independent.upper + 0.1
    few = quantile_difference(left, right, 0.75, [str(number % 10) for number in range(200)])
    assert (few.lower, few.upper, few.above, few.below) == (-math.inf, math.inf, False, False)


def test_against_a_number_clusters_do_not_hide_the_bound() -> None:
    left, _, groups = in_clusters(30, random.Random(4))
    assert quantile_difference(left, [100.0] * 300, 0.75, groups).below


def test_error_rates_by_simulation() -> None:
    rng, repeats = random.Random(9), 250
    scale = math.exp((0.4 - 0.8) * 1.2815515655446004)  # then both 90th percentiles are equal
    decisions = [quantile_difference(*latencies(100, rng, scale), 0.9) for _ in range(repeats)]
    assert sum(decision.above for decision in decisions) / repeats < allowed(repeats)
    assert sum(decision.below for decision in decisions) / repeats < allowed(repeats)
    shifted = [quantile_difference(*latencies(100, rng, 2 * scale), 0.9) for _ in range(60)]
    assert sum(decision.above for decision in shifted) > 40

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.core.stats.agreement import allowed, assert_agrees, assert_mirrored, sample

from pytest_finetune.core.stats import StarBet, betting, betting_p


@pytest.mark.parametrize("d0", [-0.05, -0.3, 0.2])
def test_a_bet_follows_the_published_rule_until_it_rejects(d0: float) -> None:
    values, _ = sample(100, seed=6)
    bet = StarBet(d0=d0, side=1, horizon=100, worst=1 + d0)
    log_wealth, total, squares = 0.0, 0.0, 0.0
    for t, value in enumerate(values):
        if bet.rejected:
            break
        y, need, weight = value - d0, math.log(20) - log_wealth, 10 + t
        q, mu = (squares + 2) / weight, total / weight
        star = math.sqrt(2 * need / ((100 - t) * q))
        kelly = (mu - 1.5 * math.sqrt(max(q - mu * mu, 1e-9) / weight)) / q
        log_wealth += math.log1p(min(max(star, kelly, 0.0), 0.75 / (1 + d0)) * y)
        total, squares = total + y, squares + y * y
        before = bet.p
        bet.update(value)
        assert bet.p == pytest.approx(min(before, math.exp(-log_wealth)))
    assert bet.rejected == (d0 < 0)


def test_after_the_rejection_the_p_value_goes_on_falling() -> None:
    bet = StarBet(d0=-0.05, side=1, horizon=400, worst=0.95)
    p_values = list[float]()
    for value in [0.3, 0.0, 0.1, 0.2] * 100:
        bet.update(value)
        p_values.append(bet.p)
    assert p_values == sorted(p_values, reverse=True)
    assert p_values[-1] < 1e-9
    for _ in range(400):
        bet.update(-1.0)
    assert bet.rejected
    assert bet.p == p_values[-1]


def test_the_bounds_are_where_the_test_turns() -> None:
    values, _ = sample(200, seed=5)
    decision = betting(values, d0=-0.05)
    assert betting(values, d0=decision.lower - 1e-4).above
    assert not betting(values, d0=decision.lower + 1e-4).above
    assert betting(values, d0=decision.upper + 1e-4).below
    assert not betting(values, d0=decision.upper - 1e-4).below
    for step in range(11):  # within the tolerance of the bounds
        near = decision.lower + step * 1e-6
        assert_agrees(betting(values, d0=near), near, fmean(values))


def test_early_luck_does_not_outweigh_the_whole_sample() -> None:
    values = [1.0] * 20 + [-1.0] * 180
    decision = betting(values)
    assert (decision.above, decision.p_above) == (False, 1.0)
    assert decision.lower <= -0.8 <= decision.upper


def test_a_prefix_is_judged_at_the_horizon_that_was_planned() -> None:
    values, _ = sample(200, seed=5)
    alone = betting_p(values[:100], side=1, d0=-0.05)
    planned = betting_p(values[:100], side=1, d0=-0.05, horizon=200)
    assert alone < planned
    assert betting(values[:100], d0=-0.05, horizon=200).p_above == planned


DIFFERENCES = st.lists(st.floats(min_value=-1, max_value=1), min_size=1, max_size=40)
BOUNDARY = st.floats(min_value=-0.9, max_value=0.9)


@settings(max_examples=50)
@given(DIFFERENCES, BOUNDARY)
def test_the_decision_agrees_with_itself_and_is_symmetric(differences: list[float], d0: float) -> None:
    decision = betting(differences, d0=d0)
    assert_agrees(decision, d0, math.fsum(differences) / len(differences))
    assert_mirrored(decision, betting([-value for value in differences], d0=-d0))


@settings(max_examples=50)
@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=30, max_size=60))
def test_one_more_win_never_turns_a_pass_into_a_fail(differences: list[float]) -> None:
    if betting(differences, d0=-0.05).above:
        assert not betting([*differences, 1.0], d0=-0.05).below


@pytest.mark.parametrize("draw", ["binary", "rare", "graded"])
def test_error_rates_at_the_margin_by_simulation(draw: str) -> None:
    rng, n, margin, repeats = random.Random(7), 100, 0.05, 500

    def difference() -> float:
        u = rng.random()
        if draw == "rare":
            return -1.0 if u < margin else 0.0
        if draw == "binary":
            return 1.0 if u < 0.075 else -1.0 if u < 0.2 else 0.0
        return 0.0 if u < 0.5 else rng.uniform(-0.6, 0.4)

    samples = [[difference() for _ in range(n)] for _ in range(repeats)]
    for side in (1, -1):
        rejected = sum(betting_p(values, side=side, d0=-margin) <= 0.05 for values in samples)
        assert rejected / repeats < allowed(repeats)

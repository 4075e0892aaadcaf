from __future__ import annotations

import random
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.core.stats.agreement import allowed, assert_agrees

from pytest_finetune.core.stats import Sequential, StarBet, State, betting


def flips(rng: random.Random, n: int, difference: float, differing: float = 0.2) -> list[float]:
    """Binary differences with mean ``difference``."""
    win = (differing + difference) / 2
    return [1.0 if (u := rng.random()) < win else -1.0 if u < differing else 0.0 for _ in range(n)]


def run(values: list[float], *, d0: float = -0.05, futility: float = 0.02) -> Sequential:
    test = Sequential(horizon=len(values), d0=d0, futility=futility)
    for value in values:
        test.update(value)
    return test


def test_it_stops_as_soon_as_a_side_is_rejected() -> None:
    values = flips(random.Random(1), 500, 0.1)
    test = run(values)
    assert test.state is State.ABOVE
    assert test.rows < 250
    before = Sequential(horizon=500, d0=-0.05)
    for value in values[: test.rows - 1]:
        assert before.update(value) is State.OPEN
    assert before.update(values[test.rows - 1]) is State.ABOVE
    mirror = run([-value for value in values], d0=0.05)
    assert (mirror.state, mirror.rows) == (State.BELOW, test.rows)


def test_the_decision_is_that_of_betting_on_the_rows_used() -> None:
    values = flips(random.Random(1), 500, 0.1)
    test = run(values)
    assert test.decision() == betting(values[: test.rows], d0=-0.05, horizon=500)
    assert test.decision().above


def test_all_rows_without_a_verdict_are_undecided() -> None:
    test = run(flips(random.Random(2), 100, -0.02), futility=0.0)
    assert (test.state, test.rows) == (State.UNDECIDED, 100)


def test_futile_rows_are_not_asked_for() -> None:
    values = [1.0, 0.0, -1.0, 0.0, 0.0] * 40
    hopeless = run(values, d0=-0.02)
    assert hopeless.state is State.UNDECIDED
    assert 100 <= hopeless.rows < 200
    assert run(values, d0=-0.02, futility=0.0).rows == 200


@settings(max_examples=40)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.sampled_from([-0.3, -0.05, 0.0, 0.1]))
def test_state_and_decision_agree_at_every_row(values: list[float], d0: float) -> None:
    test = Sequential(horizon=60, d0=d0)
    for value in values:
        state = test.update(value)
    decision = test.decision()
    assert_agrees(decision, d0, fmean(values[: test.rows]))
    assert (decision.above, decision.below) == (state is State.ABOVE, state is State.BELOW)


def test_error_rates_and_savings_by_simulation() -> None:
    rng, repeats, n = random.Random(11), 300, 200
    at_the_margin = [run(flips(rng, n, -0.05)) for _ in range(repeats)]
    assert sum(test.state is State.ABOVE for test in at_the_margin) / repeats < allowed(repeats)
    assert sum(test.state is State.BELOW for test in at_the_margin) / repeats < allowed(repeats)
    better = [run(flips(rng, n, 0.1)) for _ in range(repeats)]
    assert sum(test.state is State.ABOVE for test in better) / repeats > 0.95
    assert fmean(test.rows for test in better) / n < 0.55


@pytest.mark.parametrize("seen", [0.5, 0.8])
def test_the_chance_of_a_rejection_is_about_what_is_simulated(seen: float) -> None:
    rng, n, counted = random.Random(12), 300, list[tuple[float, bool]]()
    for _ in range(300):
        drift = rng.choice([-0.02, 0.0, 0.02])  # the trend goes on as it was seen: draw again from the rows seen
        bet = StarBet(d0=-0.05, side=1, horizon=n, worst=0.95)
        rows = flips(rng, int(n * seen), drift)
        for value in rows:
            bet.update(value)
        chance = bet.chance
        for value in rng.choices(rows, k=n - len(rows)):
            bet.update(value)
        counted.append((chance, bet.rejected))
    assert fmean(chance for chance, _ in counted) == pytest.approx(fmean(hit for _, hit in counted), abs=0.06)
    assert not any(hit for chance, hit in counted if chance < 0.01)

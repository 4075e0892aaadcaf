from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as oracle
from statsmodels.stats.contingency_tables import mcnemar
from tests.unit.core.stats.agreement import assert_agrees, assert_mirrored

from pytest_finetune.core.stats import tango, tango_p, tango_z


def constrained_share(wins: int, losses: int, n: int, d0: float) -> float:
    """The share of losses that the likelihood prefers if Δ is ``d0``, found numerically."""

    def negative_log_likelihood(q: float) -> float:
        shares = (q + d0, q, 1 - 2 * q - d0)
        return -sum(count * math.log(share) for count, share in zip(counts, shares, strict=True))

    counts = (wins, losses, n - wins - losses)
    low, high = max(0.0, -d0) + 1e-12, (1 - d0) / 2 - 1e-12
    return float(optimize.minimize_scalar(negative_log_likelihood, bounds=(low, high), options={"xatol": 1e-12}).x)


@pytest.mark.parametrize(("wins", "losses", "n"), [(10, 4, 100), (1, 7, 21), (40, 20, 160), (3, 30, 400)])
@pytest.mark.parametrize("d0", [-0.1, -0.02, 0.0, 0.05])
def test_the_statistic_is_the_score_at_the_constrained_maximum(wins: int, losses: int, n: int, d0: float) -> None:
    q = constrained_share(wins, losses, n, d0)
    expected = (wins - losses - n * d0) / math.sqrt(n * (2 * q + d0 - d0**2))
    assert tango_z(wins, losses, n, d0) == pytest.approx(expected, abs=1e-4)


def test_the_statistic_at_zero_is_mcnemars() -> None:
    expected = mcnemar([[0, 15], [6, 0]], exact=False, correction=False).statistic
    assert tango_z(15, 6, 100, 0.0) ** 2 == pytest.approx(expected)


def test_the_statistic_gives_the_published_interval() -> None:
    # Bentur et al. 2009 in Fagerland, Lydersen, Laake, "Statistical Analysis of Contingency Tables", ch. 8.
    assert tango_z(1, 7, 21, -0.517) == pytest.approx(1.96, abs=0.01)
    assert tango_z(1, 7, 21, -0.026) == pytest.approx(-1.96, abs=0.01)


@pytest.mark.parametrize(("wins", "losses", "n"), [(3, 1, 25), (1, 7, 21), (0, 0, 12), (9, 2, 30), (0, 30, 30)])
@pytest.mark.parametrize("d0", [-0.3, -0.02, 0.0, 0.5])
def test_the_p_value_sums_every_outcome_at_least_as_far_out(wins: int, losses: int, n: int, d0: float) -> None:
    reach = tango_z(wins, losses, n, d0) - 1e-9
    differing = 2 * constrained_share(wins, losses, n, d0) + d0 if wins + losses else abs(d0)
    error = math.sqrt(max(differing * (1 - differing), 0) / n)
    beyond = [(w, b, n - w - b) for w, b in product(range(n + 1), repeat=2) if w + b <= n]
    beyond = [outcome for outcome in beyond if tango_z(outcome[0], outcome[1], n, d0) >= reach]
    expected = 0.0
    for step in (-1, -0.5, 0, 0.5, 1):
        share = min(max(differing + step * error, abs(d0)), 1.0)
        law = oracle.multinomial(n, [(share + d0) / 2, (share - d0) / 2, 1 - share])
        expected = max(expected, float(law.pmf(np.array(beyond)).sum()))
    assert tango_p(wins, losses, n, d0) == pytest.approx(expected, abs=2e-5)


def test_without_a_flip_the_p_value_is_that_of_unseen_losses() -> None:
    assert tango_p(0, 0, 59, -0.05) == pytest.approx(0.95**59)
    assert not tango(0, 0, 58, d0=-0.05).above
    assert tango(0, 0, 59, d0=-0.05).above


def decisions(n: int, margin: float) -> Iterator[tuple[int, int, bool, bool]]:
    """Every outcome with at most 45 flips: wins, losses, whether it passes, whether it fails."""
    for wins, losses in product(range(46), repeat=2):
        if wins + losses <= min(45, n):
            z = tango_z(wins, losses, n, -margin)  # beyond these, the normal approximation leaves no doubt
            passes = z > 1.2 and (z > 3 or tango_p(wins, losses, n, -margin) <= 0.05)
            fails = z < -1.2 and (z < -3 or tango_p(losses, wins, n, margin) <= 0.05)
            yield wins, losses, passes, fails


@pytest.mark.parametrize(("n", "margin"), [(50, 0.02), (50, 0.05), (60, 0.05), (100, 0.02), (100, 0.05), (150, 0.02)])
def test_error_rates_at_the_margin_summed_over_every_outcome(n: int, margin: float) -> None:
    outcomes = list(decisions(n, margin))
    passing, failing = (np.array([(w, b, n - w - b) for w, b, *by in outcomes if by[side]]) for side in (0, 1))
    rates = []
    for differing in (0.02, 0.03, 0.05, 0.07, 0.1, 0.14):
        if differing >= margin:
            law = oracle.multinomial(n, [(differing - margin) / 2, (differing + margin) / 2, 1 - differing])
            rates += [float(law.pmf(passing).sum()), float(law.pmf(failing).sum())]
    assert 0.035 < max(rates) <= 0.0505


def test_it_keeps_the_power_of_the_normal_approximation() -> None:
    law = oracle.multinomial(100, [0.05, 0.05, 0.9])  # at equal stages; the normal approximation: 43.6 %
    passing = np.array([(w, b, 100 - w - b) for w, b, passes, _ in decisions(100, 0.05) if passes])
    assert law.pmf(passing).sum() == pytest.approx(0.438, abs=0.002)


def test_a_verdict_on_a_thousand_rows_is_quick() -> None:
    started = time.process_time()
    tango(110, 100, 1000, d0=-0.02)
    assert time.process_time() - started < 0.5  # 0.02 s on a quiet machine


COUNTS = st.integers(0, 40)
MARGINS = st.sampled_from([-0.3, -0.05, -0.02, 0.0, 0.1])


@settings(max_examples=60)
@given(COUNTS, COUNTS, st.integers(1, 200), MARGINS)
def test_the_decision_agrees_with_itself_and_is_symmetric(wins: int, losses: int, same: int, d0: float) -> None:
    n = wins + losses + same
    decision = tango(wins, losses, n, d0=d0)
    assert_agrees(decision, d0, (wins - losses) / n)
    assert_mirrored(decision, tango(losses, wins, n, d0=-d0))


@given(COUNTS, COUNTS, st.integers(1, 200), MARGINS)
def test_one_more_win_never_undoes_a_pass(wins: int, losses: int, same: int, d0: float) -> None:
    n = wins + losses + same
    if tango_p(wins, losses, n, d0) <= 0.05:
        assert tango_p(wins + 1, losses, n, d0) <= 0.05
        assert tango_p(losses, wins + 1, n, -d0) > 0.05


@settings(max_examples=40)
@given(COUNTS, COUNTS, st.integers(0, 200))
def test_more_margin_never_takes_a_pass_away(wins: int, losses: int, same: int) -> None:
    n = wins + losses + same + 1
    passes = [tango(wins, losses, n, d0=-margin).above for margin in (0.0, 0.01, 0.05, 0.2)]
    assert passes == sorted(passes)

from __future__ import annotations

import math

import pytest
from scipy import stats as oracle

from pytest_finetune.core import stats
from pytest_finetune.core.stats import StarBet


def test_rows_and_margins_are_the_published_figures() -> None:
    assert stats.rows_needed(0.05, stats.discordant_sd(0.2)) == 495
    table = {(0.1, 100): 0.079, (0.2, 500): 0.050, (0.35, 2000): 0.033}
    for (discordant, n), margin in table.items():
        assert stats.certifiable_margin(n, stats.discordant_sd(discordant)) == pytest.approx(margin, abs=6e-4)
    assert stats.certifiable_margin(59, 0.0) == pytest.approx(0.05, abs=1e-3)
    assert stats.betting_rows(1000) == 1150
    assert stats.certifiable_margin(1150, 0.4, betting=True) == pytest.approx(stats.certifiable_margin(1000, 0.4))


def test_the_standard_deviation_of_rows_in_clusters() -> None:
    assert stats.clustered_sd(0.4, 5, 0.3) == pytest.approx(0.4 * math.sqrt(2.2))


@pytest.mark.parametrize("betting", [False, True])
def test_power_is_the_inverse_of_the_rows_needed(betting: bool) -> None:
    rows = stats.rows_needed(0.05, 0.4, power=0.9)
    planned = stats.betting_rows(rows) if betting else rows
    assert stats.power(planned, 0.05, 0.4, betting=betting) == pytest.approx(0.9, abs=1e-3)
    assert stats.power(planned, -0.05, 0.4, betting=betting) == stats.power(planned, 0.05, 0.4, betting=betting)


@pytest.mark.parametrize(("n", "difference"), [(100, 0.0), (200, 0.0), (100, 0.05), (200, 0.02)])
def test_power_of_the_binary_test_summed_over_every_outcome(n: int, difference: float) -> None:
    discordant, margin = 0.2, 0.05
    law = oracle.multinomial(n, [(discordant + difference) / 2, (discordant - difference) / 2, 1 - discordant])
    passing = list[list[int]]()
    for flips in range(2 * int(n * discordant) + 10):
        wins = next((w for w in range(flips + 1) if stats.tango_p(w, flips - w, n, -margin) <= 0.05), flips + 1)
        passing += [[w, flips - w, n - flips] for w in range(wins, flips + 1)]
    planned = stats.power(n, difference + margin, stats.discordant_sd(discordant, difference))
    assert law.pmf(passing).sum() == pytest.approx(planned, abs=0.03)


@pytest.mark.parametrize("margin", [0.02, 0.05, 0.2])
def test_rows_that_all_tie_certify_the_margin(margin: float) -> None:
    rows = stats.min_rows(margin)
    assert stats.tango(0, 0, rows, d0=-margin).above
    assert not stats.tango(0, 0, rows - 1, d0=-margin).above
    horizon = stats.min_rows(margin, betting=True)
    bet = StarBet(d0=-margin, side=1, horizon=horizon, worst=1 - margin)
    for _ in range(horizon):
        bet.update(0.0)
    assert bet.rejected
    assert stats.min_rows(1.0) == 1

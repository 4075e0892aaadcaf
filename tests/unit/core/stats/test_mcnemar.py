from __future__ import annotations

import pytest
from scipy import stats as oracle
from statsmodels.stats.contingency_tables import mcnemar

from pytest_finetune.core.stats import mcnemar_mid_p

FLIPS = [(1, 7), (4, 4), (0, 0), (0, 9), (30, 12), (600, 700), (3000, 3100)]


@pytest.mark.parametrize(("wins", "losses"), FLIPS)
def test_mid_p_is_the_exact_p_less_the_point(wins: int, losses: int) -> None:
    exact = mcnemar([[0, wins], [losses, 0]], exact=True).pvalue if wins + losses else 1.0
    point = oracle.binom.pmf(min(wins, losses), wins + losses, 0.5)
    expected = exact - point / (2 if wins == losses else 1)
    assert mcnemar_mid_p(wins, losses) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_mid_p(losses, wins) == mcnemar_mid_p(wins, losses)


def test_mid_p_of_the_published_example() -> None:
    assert mcnemar_mid_p(1, 7) == pytest.approx(0.0391, abs=5e-5)  # Fagerland et al. 2013, table 1

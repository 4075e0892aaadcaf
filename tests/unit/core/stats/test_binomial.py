from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as oracle
from statsmodels.stats.proportion import proportion_confint
from tests.unit.core.stats.agreement import assert_agrees, assert_mirrored

from pytest_finetune.core.stats import exact_binomial


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (1, 3), (128, 150), (340, 400), (7, 2000)])
def test_the_bounds_are_clopper_pearsons(k: int, n: int) -> None:
    decision = exact_binomial(k, n, bar=0.25)
    expected = proportion_confint(k, n, alpha=0.1, method="beta")
    assert (decision.lower + 0.25, decision.upper + 0.25) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("k", "bar"), [(k, bar) for k in (0, 100, 120, 135, 140, 150) for bar in (0.8, 0.85, 0.9)])
def test_it_decides_as_scipys_test(k: int, bar: float) -> None:
    decision = exact_binomial(k, 150, bar=bar)
    assert decision.p_above == pytest.approx(oracle.binomtest(k, 150, bar, alternative="greater").pvalue, rel=1e-9)
    assert decision.p_below == pytest.approx(oracle.binomtest(k, 150, bar, alternative="less").pvalue, rel=1e-9)
    assert (decision.above, decision.below) == (decision.p_above <= 0.05, decision.p_below <= 0.05)


@given(st.integers(0, 80), st.integers(1, 80), st.sampled_from([0.0, 0.1, 0.5, 0.85, 1.0]))
def test_the_decision_agrees_with_itself_and_is_symmetric(right: int, wrong: int, bar: float) -> None:
    n = right + wrong
    decision = exact_binomial(right, n, bar=bar)
    assert_agrees(decision, 0.0, right / n - bar)
    assert_mirrored(decision, exact_binomial(wrong, n, bar=1 - bar))
    assert not (decision.above and not exact_binomial(right + 1, n, bar=bar).above)

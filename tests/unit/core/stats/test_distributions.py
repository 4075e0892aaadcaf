from __future__ import annotations

import pytest
from scipy import stats as oracle

from pytest_finetune.core.stats import distributions

BINOMIALS = [(-1, 5, 0.5), (0, 5, 0.5), (5, 5, 0.3), (6, 5, 0.3), (128, 150, 0.85), (7, 2000, 0.01), (90, 100, 0.2)]


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (1, 30), (341, 60), (2000, 0.5), (5, 1996)])
@pytest.mark.parametrize("x", [0.0, 1e-6, 0.01, 0.3, 0.85, 0.999, 1.0])
def test_beta_cdf_is_scipys(a: float, b: float, x: float) -> None:
    assert distributions.beta_cdf(x, a, b) == pytest.approx(oracle.beta.cdf(x, a, b), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize(("k", "n", "p"), BINOMIALS)
def test_the_binomial_is_scipys_on_both_tails_and_at_a_point(k: int, n: int, p: float) -> None:
    assert distributions.binomial_at_most(k, n, p) == pytest.approx(oracle.binom.cdf(k, n, p), rel=1e-9)
    assert distributions.binomial_at_least(k, n, p) == pytest.approx(oracle.binom.sf(k - 1, n, p), rel=1e-9)
    assert distributions.binomial_at(k, n, p) == pytest.approx(oracle.binom.pmf(k, n, p), rel=1e-9)


@pytest.mark.parametrize(("k", "p", "chance"), [(0, 0.0, 1.0), (1, 0.0, 0.0), (9, 1.0, 1.0), (8, 1.0, 0.0)])
def test_a_sure_thing_has_one_outcome(k: int, p: float, chance: float) -> None:
    assert distributions.binomial_at(k, 9, p) == chance


@pytest.mark.parametrize("df", [1, 2, 7.5, 19, 399, 20_000])
@pytest.mark.parametrize("probability", [0.5, 0.8, 0.95, 0.999])
def test_t_is_scipys(probability: float, df: float) -> None:
    quantile = distributions.t_quantile(probability, df)
    assert quantile == pytest.approx(oracle.t.ppf(probability, df), rel=1e-8, abs=1e-12)
    assert distributions.t_above(quantile, df) == pytest.approx(1 - probability, rel=1e-8)
    assert distributions.t_above(-quantile, df) == pytest.approx(probability, rel=1e-8)

from __future__ import annotations

import math
import random
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as oracle
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from pytest_finetune.core import stats

Z95 = 1.6448536269514722


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (1, 30), (341, 60), (2000, 0.5), (5, 1996)])
@pytest.mark.parametrize("x", [0.0, 1e-6, 0.01, 0.3, 0.85, 0.999, 1.0])
def test_beta_cdf_is_scipys(a: float, b: float, x: float) -> None:
    assert stats.beta_cdf(x, a, b) == pytest.approx(oracle.beta.cdf(x, a, b), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize(("k", "n", "p"), [(-1, 5, 0.5), (0, 5, 0.5), (5, 5, 0.3), (128, 150, 0.85), (7, 2000, 0.01)])
def test_binomial_cdf_is_scipys(k: int, n: int, p: float) -> None:
    assert stats.binomial_cdf(k, n, p) == pytest.approx(oracle.binom.cdf(k, n, p), rel=1e-9)


@pytest.mark.parametrize("df", [1, 2, 19, 399, 20_000])
@pytest.mark.parametrize("probability", [0.5, 0.8, 0.95, 0.999])
def test_t_quantile_is_scipys(probability: float, df: int) -> None:
    assert stats.t_quantile(probability, df) == pytest.approx(oracle.t.ppf(probability, df), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (1, 3), (128, 150), (340, 400), (7, 2000)])
def test_clopper_pearson_is_statsmodels(k: int, n: int) -> None:
    expected = proportion_confint(k, n, alpha=0.1, method="beta")
    assert stats.clopper_pearson(k, n, alpha=0.05) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("k", "bar"), [(k, bar) for k in (0, 100, 120, 135, 140, 150) for bar in (0.8, 0.85, 0.9)])
def test_exact_binomial_decides_as_scipys_test(k: int, bar: float) -> None:
    decision = stats.exact_binomial(k, 150, bar=bar)
    assert decision.above == (oracle.binomtest(k, 150, bar, alternative="greater").pvalue <= 0.05)
    assert decision.below == (oracle.binomtest(k, 150, bar, alternative="less").pvalue <= 0.05)


def constrained_z(wins: int, losses: int, n: int, d0: float) -> float:
    """Tango's statistic with the nuisance share found by maximising the likelihood numerically."""

    def negative_log_likelihood(q: float) -> float:
        shares = (q + d0, q, 1 - 2 * q - d0)
        return -sum(count * math.log(share) for count, share in zip(counts, shares, strict=True))

    counts = (wins, losses, n - wins - losses)
    low, high = max(0.0, -d0) + 1e-12, (1 - d0) / 2 - 1e-12
    q = float(optimize.minimize_scalar(negative_log_likelihood, bounds=(low, high), options={"xatol": 1e-12}).x)
    return (wins - losses - n * d0) / math.sqrt(n * (2 * q + d0 - d0**2))


@pytest.mark.parametrize(("wins", "losses", "n"), [(10, 4, 100), (1, 7, 21), (40, 20, 160), (3, 30, 400)])
@pytest.mark.parametrize("d0", [-0.1, -0.02, 0.0, 0.05])
def test_tango_is_the_score_test_at_the_constrained_maximum(wins: int, losses: int, n: int, d0: float) -> None:
    assert stats.tango_z(wins, losses, n, d0) == pytest.approx(constrained_z(wins, losses, n, d0), abs=1e-4)


def test_tango_at_zero_is_mcnemar() -> None:
    expected = mcnemar([[0, 15], [6, 0]], exact=False, correction=False).statistic
    assert stats.tango_z(15, 6, 100, 0.0) ** 2 == pytest.approx(expected)


def test_tango_gives_the_published_interval() -> None:
    # Bentur et al. 2009 in Fagerland, Lydersen, Laake, "Statistical Analysis of Contingency Tables", ch. 8.
    decision = stats.tango(1, 7, 21, alpha=0.025)
    assert (decision.lower, decision.upper) == pytest.approx((-0.517, -0.026), abs=5e-4)


def test_without_a_flip_tango_needs_the_planned_rows() -> None:
    assert stats.min_rows(0.05) == 52
    assert not stats.tango(0, 0, 51, d0=-0.05).above
    assert stats.tango(0, 0, 52, d0=-0.05).above


@pytest.mark.parametrize(("wins", "losses"), [(1, 7), (4, 4), (0, 0), (30, 12), (600, 700)])
def test_mid_p_is_the_exact_p_less_the_point(wins: int, losses: int) -> None:
    exact = mcnemar([[0, wins], [losses, 0]], exact=True).pvalue if wins + losses else 1.0
    point = oracle.binom.pmf(min(wins, losses), wins + losses, 0.5)
    expected = exact - point / (2 if wins == losses else 1)
    assert stats.mcnemar_mid_p(wins, losses) == pytest.approx(expected, rel=1e-9)


def test_mid_p_of_the_published_example() -> None:
    assert stats.mcnemar_mid_p(1, 7) == pytest.approx(0.0391, abs=5e-5)  # Fagerland et al. 2013, table 1


def sample(n: int, seed: int) -> tuple[list[float], list[str]]:
    rng = random.Random(seed)
    offsets = [rng.gauss(0, 0.2) for _ in range(n // 4)]
    values = [max(-1.0, min(1.0, 0.03 + offsets[i // 4] + rng.gauss(0, 0.2))) for i in range(n)]
    return values, [f"group {i // 4}" for i in range(n)]


def test_cluster_variance_is_statsmodels_cr1() -> None:
    values, groups = sample(120, seed=3)
    codes = [int(group.split()[1]) for group in groups]
    fit = OLS(values, [1.0] * 120).fit(cov_type="cluster", cov_kwds={"groups": codes, "use_correction": False})
    variance, clusters = stats.cluster_variance(values, groups)
    assert clusters == 30
    assert math.sqrt(variance) == pytest.approx(float(fit.bse[0]) * math.sqrt(30 / 29))


def test_without_groups_the_t_bounds_are_scipys() -> None:
    values, _ = sample(120, seed=4)
    interval = oracle.ttest_1samp(values, 0).confidence_interval(0.9)
    decision = stats.clustered_t(values)
    assert (decision.lower, decision.upper) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_t_certifies_nothing_on_few_units_or_unseen_losses() -> None:
    assert stats.clustered_t([0.5] * 100, ["only", "two"] * 50, d0=-0.05).lower == -math.inf
    few_losses = [-1.0] * 17 + [0.0] * 483  # alone, their own variance would pass
    assert not stats.clustered_t(few_losses, d0=-0.05, low=-1, high=1).above
    assert stats.clustered_t(few_losses, d0=-0.05).above
    assert not stats.clustered_t([0.0] * 58, d0=-0.05, low=-1, high=1).above  # rule of three: 59
    assert stats.clustered_t([0.0] * 59, d0=-0.05, low=-1, high=1).above


def test_the_bounds_of_betting_are_where_the_test_turns() -> None:
    values, _ = sample(200, seed=5)
    decision = stats.betting(values, d0=-0.05)
    assert stats.betting(values, d0=decision.lower - 1e-4).above
    assert not stats.betting(values, d0=decision.lower + 1e-4).above
    assert stats.betting(values, d0=decision.upper + 1e-4).below
    assert not stats.betting(values, d0=decision.upper - 1e-4).below
    for step in range(11):  # within the tolerance of the bounds
        near = decision.lower + step * 1e-6
        assert_agrees(stats.betting(values, d0=near), near, math.fsum(values) / len(values))


@pytest.mark.parametrize("d0", [-0.05, -0.3, 0.2])
def test_betting_follows_the_published_rule(d0: float) -> None:
    values, _ = sample(100, seed=6)
    peak, log_wealth = 0.0, 0.0
    total = squares = 0.0
    for t, value in enumerate(values):
        y, need = value - d0, math.log(20) - log_wealth
        if need > 0:
            weight = 10 + t
            q, mu = (squares + 2) / weight, total / weight
            star = math.sqrt(2 * need / ((100 - t) * q))
            kelly = (mu - 1.5 * math.sqrt(max(q - mu * mu, 1e-9) / weight)) / q
            log_wealth += math.log1p(min(max(star, kelly, 0.0), 0.75 / (1 + d0)) * y)
            peak = max(peak, log_wealth)
        total, squares = total + y, squares + y * y
    bet = stats.StarBet(d0=d0, side=1, horizon=100, worst=1 + d0)
    for value in values:
        bet.update(value)
    assert bet.rejected == (peak >= math.log(20) - 1e-12)
    assert bet.p == pytest.approx(math.exp(-peak))


def test_early_luck_does_not_outweigh_the_whole_sample() -> None:
    values = [1.0] * 20 + [-1.0] * 180
    decision = stats.betting(values)
    assert not decision.above
    assert decision.lower <= -0.8 <= decision.upper


DIFFERENCES = st.lists(st.floats(min_value=-1, max_value=1), min_size=1, max_size=40)
BOUNDARY = st.floats(min_value=-0.9, max_value=0.9)


def assert_agrees(decision: stats.Decision, d0: float, estimate: float) -> None:
    assert not (decision.above and decision.below)
    assert decision.lower <= estimate + 1e-9
    assert decision.upper >= estimate - 1e-9
    assert decision.lower >= d0 if decision.above else decision.lower <= d0
    assert decision.upper <= d0 if decision.below else decision.upper >= d0


def assert_mirrored(decision: stats.Decision, mirror: stats.Decision) -> None:
    assert (decision.above, decision.below) == (mirror.below, mirror.above)
    assert (decision.lower, decision.upper) == pytest.approx((-mirror.upper, -mirror.lower), abs=1e-9)


@settings(max_examples=50)
@given(DIFFERENCES, BOUNDARY)
def test_betting_agrees_with_its_bounds_and_is_symmetric(differences: list[float], d0: float) -> None:
    decision = stats.betting(differences, d0=d0)
    assert_agrees(decision, d0, math.fsum(differences) / len(differences))
    assert_mirrored(decision, stats.betting([-value for value in differences], d0=-d0))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 300), BOUNDARY)
def test_tango_agrees_with_its_bounds_and_is_symmetric(wins: int, losses: int, same: int, d0: float) -> None:
    n = wins + losses + same
    decision = stats.tango(wins, losses, n, d0=d0)
    assert_agrees(decision, d0, (wins - losses) / n)
    assert_mirrored(decision, stats.tango(losses, wins, n, d0=-d0))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300))
def test_more_margin_never_takes_a_pass_away(wins: int, losses: int, same: int) -> None:
    n = wins + losses + same + 1
    passes = [stats.tango(wins, losses, n, d0=-margin).above for margin in (0.0, 0.01, 0.05, 0.2)]
    assert passes == sorted(passes)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(-1, 1), st.sampled_from("abcdefghijklmnopqrstuvwxyz")), min_size=1), BOUNDARY)
def test_t_agrees_with_its_bounds(rows: list[tuple[float, str]], d0: float) -> None:
    differences, groups = [value for value, _ in rows], [group for _, group in rows]
    decision = stats.clustered_t(differences, groups, d0=d0, low=-1, high=1)
    assert_agrees(decision, d0, math.fsum(differences) / len(differences))


def test_score_interval_is_wilsons_for_binary_and_t_for_graded_scores() -> None:
    binary = [1.0] * 128 + [0.0] * 22
    assert stats.score_interval(binary) == pytest.approx(proportion_confint(128, 150, method="wilson"))
    graded = [0.2, 0.4, 0.9, 0.5, 0.6]
    expected = oracle.ttest_1samp(graded, 0).confidence_interval(0.95)
    assert stats.score_interval(graded) == pytest.approx((expected.low, expected.high))
    assert stats.score_interval([0.5]) == (0.0, 1.0)


def test_planning_gives_the_published_figures() -> None:
    assert stats.rows_needed(0.05, stats.discordant_sd(0.2)) == 495
    table = {(0.1, 100): 0.079, (0.2, 500): 0.050, (0.35, 2000): 0.033}
    for (discordant, n), margin in table.items():
        assert stats.certifiable_margin(n, stats.discordant_sd(discordant)) == pytest.approx(margin, abs=6e-4)
    assert stats.certifiable_margin(52, 0.0) == pytest.approx(0.05, abs=1e-3)
    assert stats.betting_rows(1000) == 1150
    assert stats.certifiable_margin(1150, 0.4, betting=True) == pytest.approx(stats.certifiable_margin(1000, 0.4))


@pytest.mark.parametrize(("discordant", "margin"), [(0.1, 0.05), (0.2, 0.05), (0.2, 0.02), (0.35, 0.02)])
def test_tangos_error_rates_at_the_margin_summed_over_every_outcome(discordant: float, margin: float) -> None:
    n, shares = 100, ((discordant - margin) / 2, (discordant + margin) / 2)
    law = oracle.multinomial(n, [*shares, 1 - discordant])
    flips = [(wins, losses) for wins, losses in product(range(50), range(50)) if wins + losses <= n]
    z = {(wins, losses): stats.tango_z(wins, losses, n, -margin) for wins, losses in flips}
    passes = [[w, b, n - w - b] for (w, b), value in z.items() if value > Z95]
    fails = [[w, b, n - w - b] for (w, b), value in z.items() if value < -Z95]
    assert 0.03 < law.pmf(passes).sum() < 0.055
    assert 0.03 < law.pmf(fails).sum() < 0.06


@pytest.mark.parametrize("draw", ["binary", "rare", "graded"])
def test_bettings_error_rate_at_the_margin_by_simulation(draw: str) -> None:
    rng, n, margin, repeats = random.Random(7), 100, 0.05, 600

    def difference() -> float:
        u = rng.random()
        if draw == "rare":
            return -1.0 if u < margin else 0.0
        if draw == "binary":
            return 1.0 if u < 0.075 else -1.0 if u < 0.2 else 0.0
        return 0.0 if u < 0.5 else rng.uniform(-0.6, 0.4)

    passes = 0
    for _ in range(repeats):
        bet = stats.StarBet(d0=-margin, side=1, horizon=n, worst=1 - margin)
        for _ in range(n):
            bet.update(difference())
        passes += bet.rejected
    assert passes / repeats < 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / repeats)

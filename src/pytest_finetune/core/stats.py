"""The tests behind a verdict, in the standard library.

Every test looks at differences ``D`` (candidate minus reference, one per row) with mean Δ, and answers two
one-sided questions at level alpha each: is Δ above ``d0``, is Δ below ``d0``, with bounds that agree with
both answers. A margin m is ``d0 = -m``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

MIN_UNITS = 20  # fewer independent units than this, and a t test's level is not to be trusted
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Decision:
    """What a test says about Δ and ``d0``.

    Args:
        above: "Δ <= d0" is rejected; then ``lower >= d0``.
        below: "Δ >= d0" is rejected; then ``upper <= d0``.
        lower: Lower bound for Δ at one-sided level alpha.
        upper: Upper bound for Δ at one-sided level alpha.
    """

    above: bool
    below: bool
    lower: float
    upper: float


def _decide(lower: float, upper: float, d0: float) -> Decision:
    return Decision(above=lower > d0, below=upper < d0, lower=lower, upper=upper)


def _last_true(holds: Callable[[float], bool], true: float, false: float, tolerance: float) -> float:
    """Bisect between a point where ``holds`` is true and one where it is false; return the true end."""
    while abs(false - true) > tolerance:
        middle = (true + false) / 2
        if holds(middle):
            true = middle
        else:
            false = middle
    return true


# --- distributions ---


def beta_cdf(x: float, a: float, b: float) -> float:
    """Regularized incomplete beta function I_x(a, b), by Lentz's continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    log_front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    tiny = 1e-300
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            d = 1 / ((1 + step * d) or tiny)
            c = (1 + step / c) or tiny
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return math.exp(log_front) * value / a


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) for X successes in n trials with probability p."""
    if k < 0 or k >= n:
        return float(k >= n)
    return beta_cdf(1 - p, n - k, k + 1)


def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t with ``df`` degrees of freedom, for ``probability`` in [0.5, 1)."""

    def below(x: float) -> bool:
        return 1 - beta_cdf(df / (df + x * x), df / 2, 0.5) / 2 < probability

    high = 1.0
    while below(high):
        high *= 2
    return _last_true(below, 0.0, high, high * 1e-13)


# --- binary scores ---


def tango_z(wins: int, losses: int, n: int, d0: float) -> float:
    """Tango's score statistic for paired proportions (Statistics in Medicine 17, 1998, 891-908).

    Args:
        wins: Rows that only the candidate has right.
        losses: Rows that only the reference has right.
        n: All rows.
        d0: The difference under the null, in (-1, 1).
    """
    b = -wins - losses + (2 * n - wins + losses) * d0
    c = -losses * d0 * (1 - d0)
    q = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * q + d0 * (1 - d0))
    distance = wins - losses - n * d0
    if variance < 1e-12:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def tango(wins: int, losses: int, n: int, *, d0: float = 0.0, alpha: float = 0.05) -> Decision:
    """Judge paired binary scores; the bounds invert `tango_z`."""
    z = _NORMAL.inv_cdf(1 - alpha)
    lower = _last_true(lambda d: tango_z(wins, losses, n, d) >= z, -1.0, (wins - losses) / n, 1e-12)
    upper = _last_true(lambda d: tango_z(wins, losses, n, d) <= -z, 1.0, (wins - losses) / n, 1e-12)
    return _decide(lower, upper, d0)


def clopper_pearson(successes: int, n: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """Exact bounds of a proportion, each at one-sided level alpha (Biometrika 26, 1934, 404-413).

    ``lower > p`` if and only if the exact binomial test rejects "at most p"; likewise above.
    """
    lower = _last_true(lambda p: binomial_cdf(successes - 1, n, p) >= 1 - alpha, 0.0, 1.0, 1e-12)
    upper = _last_true(lambda p: binomial_cdf(successes, n, p) <= alpha, 1.0, 0.0, 1e-12)
    return lower, upper


def exact_binomial(successes: int, n: int, *, bar: float, alpha: float = 0.05) -> Decision:
    """Judge a proportion against ``bar``; bounds are those of the proportion minus ``bar``."""
    lower, upper = clopper_pearson(successes, n, alpha=alpha)
    return _decide(lower - bar, upper - bar, 0.0)


def mcnemar_mid_p(wins: int, losses: int) -> float:
    """Two-sided mid-p of "as many rows won as lost" (Fagerland et al., BMC Med Res Methodol 13:91, 2013)."""
    n, fewer = wins + losses, min(wins, losses)
    point = math.comb(n, fewer) / (1 << n)
    if wins == losses:
        return 1 - point / 2
    return 2 * binomial_cdf(fewer, n, 0.5) - point


# --- bounded scores: betting ---


class StarBet:
    """Bet against one null until the wealth reaches 1/alpha (STaR-Bets, Voracek, Orabona, arXiv 2505.22422).

    The bet aims at that wealth by the horizon (their bold play), and goes faster where a lower bound of the
    Kelly fraction is higher. Under the null the wealth is a nonnegative supermartingale, whatever the
    distribution, so that Ville's inequality bounds the level at any stopping time. The four constants change
    the power only, and it hardly depends on them.

    Args:
        d0: The boundary of the null.
        side: 1 against "Δ <= d0", -1 against "Δ >= d0".
        horizon: How many differences there will be; fixed before the first.
        worst: The largest loss of one bet: how far D can lie on the null's side of ``d0``.
        alpha: Level of the test.
    """

    __slots__ = ("_cap", "_d0", "_horizon", "_log_wealth", "_peak", "_side", "_squares", "_sum", "_t", "_target")

    _PRIOR_ROWS, _PRIOR_SQUARE, _MAX_STAKE, _KELLY_SHRINK = 10.0, 0.2, 0.75, 1.5

    def __init__(self, *, d0: float, side: int, horizon: int, worst: float, alpha: float = 0.05) -> None:
        self._d0, self._side, self._horizon = d0, side, horizon
        self._cap = self._MAX_STAKE / worst if worst > 0 else math.inf
        self._target = -math.log(alpha)
        self._log_wealth = self._peak = self._sum = self._squares = 0.0
        self._t = 0

    @property
    def rejected(self) -> bool:
        """The null is rejected; it stays so."""
        return self._peak >= self._target - 1e-12

    @property
    def p(self) -> float:
        """p-value so far, valid whenever one stops: 1 over the largest wealth."""
        return math.exp(-self._peak)

    def update(self, difference: float) -> None:
        """Bet on the next difference. After a rejection the wealth is banked."""
        y = self._side * (difference - self._d0)
        if not self.rejected:
            weight = self._PRIOR_ROWS + self._t
            square = (self._squares + self._PRIOR_ROWS * self._PRIOR_SQUARE) / weight
            mean = self._sum / weight
            needed = 2 * (self._target - self._log_wealth)
            star = math.sqrt(needed / (max(self._horizon - self._t, 1) * square))
            spread = math.sqrt(max(square - mean * mean, 1e-9) / weight)
            kelly = (mean - self._KELLY_SHRINK * spread) / square
            self._log_wealth += math.log1p(min(max(star, kelly), self._cap) * y)
            self._peak = max(self._peak, self._log_wealth)
        self._sum += y
        self._squares += y * y
        self._t += 1


def betting(
    differences: Sequence[float],
    *,
    d0: float = 0.0,
    low: float = -1.0,
    high: float = 1.0,
    alpha: float = 0.05,
) -> Decision:
    """Judge bounded differences by two `StarBet`, run to the end.

    A side also needs the observed mean to agree with it: an early run of luck is not sold against what the
    whole sample shows. That can only lower the error rates.

    Args:
        differences: In an order fixed beforehand.
        d0: The boundary of both nulls.
        low: The smallest value that a difference can take.
        high: The largest value that a difference can take.
        alpha: One-sided level.

    Returns:
        The decision; the bounds (to 1e-5) invert the same bets over ``d0``.
    """
    mean = fmean(differences)

    def rejects(side: int, null: float) -> bool:
        worst = null - low if side > 0 else high - null
        bet = StarBet(d0=null, side=side, horizon=len(differences), worst=worst, alpha=alpha)
        for difference in differences:
            bet.update(difference)
            if bet.rejected:
                return side * (mean - null) > 0
        return False

    def bound(side: int, near: float, far: float) -> tuple[bool, float]:
        rejected = rejects(side, d0)
        true, false = (d0, far) if rejected else (near, d0)
        return rejected, _last_true(lambda null: rejects(side, null), true, false, 1e-5)

    above, lower = bound(1, min(low, d0), high)
    below, upper = bound(-1, max(high, d0), low)
    return Decision(above, below, lower, upper)


# --- clusters, and measures without bounds ---


def cluster_variance(differences: Sequence[float], groups: Sequence[str] | None = None) -> tuple[float, int]:
    """CR1 variance of the mean, and the number of clusters (Miller, arXiv 2411.00640, app. A, times C/(C-1)).

    Without ``groups`` each difference is its own cluster, and this is s²/n.
    """
    n, mean = len(differences), fmean(differences)
    sums: dict[object, float] = {}
    for group, difference in zip(groups or range(n), differences, strict=True):
        sums[group] = sums.get(group, 0.0) + difference - mean
    clusters = len(sums)
    if clusters < 2:
        return math.inf, clusters
    return clusters / (clusters - 1) * math.fsum(s * s for s in sums.values()) / n**2, clusters


def clustered_t(
    differences: Sequence[float],
    groups: Sequence[str] | None = None,
    *,
    d0: float = 0.0,
    low: float | None = None,
    high: float | None = None,
    alpha: float = 0.05,
) -> Decision:
    """Judge by Student's t on the CR1 variance, with C - 1 degrees of freedom. Approximate.

    Two guards keep it from certifying what it has not seen. The variance of the mean is at least m(1-m)/C,
    that of a rare loss of everything just at the margin ``m = -d0``. And a bound always leaves room for the
    share 1 - alpha^(1/C) of clusters that may exist though none was seen, at the worst possible value.

    Args:
        differences: One per row.
        groups: The cluster of each; None where rows are independent.
        d0: The boundary of both nulls.
        low: The smallest value that a difference can take; None where it has no bound (the smallest seen
            stands in for it, and there is no floor to the variance).
        high: The largest value that a difference can take; None likewise.
        alpha: One-sided level.

    Returns:
        The decision; bounds are infinite with fewer than `MIN_UNITS` clusters.
    """
    mean = fmean(differences)
    variance, clusters = cluster_variance(differences, groups)
    if clusters < MIN_UNITS:
        return Decision(above=False, below=False, lower=-math.inf, upper=math.inf)
    if low is not None:
        variance = max(variance, abs(d0) * (1 - abs(d0)) / clusters)
    reach = t_quantile(1 - alpha, clusters - 1) * math.sqrt(variance)
    unseen = 1 - alpha ** (1 / clusters)
    worst = min(differences) if low is None else low
    best = max(differences) if high is None else high
    lower = min(mean - reach, mean - unseen * (mean - worst))
    upper = max(mean + reach, mean + unseen * (best - mean))
    return _decide(lower, upper, d0)


# --- a stage's score, for showing ---


def score_interval(scores: Sequence[float], *, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided interval of a mean score in [0, 1]: Wilson's (JASA 22, 1927) if binary, else Student's t."""
    n, mean, tail = len(scores), fmean(scores), (1 + confidence) / 2
    if all(score in {0, 1} for score in scores):
        z = _NORMAL.inv_cdf(tail)
        shrink = 1 + z * z / n
        centre = (mean + z * z / (2 * n)) / shrink
        reach = z / shrink * math.sqrt(mean * (1 - mean) / n + (z / (2 * n)) ** 2)
    elif n < 2:
        return 0.0, 1.0
    else:
        centre, reach = mean, t_quantile(tail, n - 1) * stdev(scores) / math.sqrt(n)
    return max(centre - reach, 0.0), min(centre + reach, 1.0)


# --- planning ---


def _z_sum(alpha: float, power: float) -> float:
    return _NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)


def discordant_sd(discordant: float, difference: float = 0.0) -> float:
    """Standard deviation of D for binary scores of which the share ``discordant`` differs (guess 0.2)."""
    return math.sqrt(discordant - difference**2)


def rows_needed(distance: float, sd: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Rows for a fixed-n test to reject with ``power``: ((z_alpha + z_power) sd / distance)².

    Args:
        distance: How far Δ lies from the boundary: Δ + m. Not zero.
        sd: Standard deviation of D.
        alpha: One-sided level.
        power: Probability of the rejection.
    """
    return math.ceil((_z_sum(alpha, power) * sd / distance) ** 2)


def min_rows(margin: float, *, alpha: float = 0.05) -> int:
    """Rows that Tango's test needs to certify ``margin`` if no row differs at all: z²(1-m)/m."""
    return math.ceil(_NORMAL.inv_cdf(1 - alpha) ** 2 * (1 - margin) / margin)


def betting_rows(n: int) -> int:
    """Horizon at which betting has the power of a fixed-n test on ``n`` rows (by simulation)."""
    return math.ceil(n * _inflation(n))


def _inflation(n: int) -> float:
    return 1.15 if n >= 150 else 1.3


def certifiable_margin(n: int, sd: float, *, alpha: float = 0.05, power: float = 0.8, betting: bool = False) -> float:
    """Smallest margin that ``n`` rows certify with ``power`` when both sides are equal.

    That is (z_alpha + z_power) sd / √n, and at least the margin whose `min_rows` is ``n``; for the
    betting test, what a fixed-n test certifies on the rows of which `betting_rows` is ``n``.
    """
    rows = n / _inflation(n) if betting else n
    z = _NORMAL.inv_cdf(1 - alpha)
    return max(_z_sum(alpha, power) * sd / math.sqrt(rows), z * z / (rows + z * z))

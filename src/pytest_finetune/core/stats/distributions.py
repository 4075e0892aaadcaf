"""Binomial and Student's t distributions, from the incomplete beta function."""

from __future__ import annotations

import math

from pytest_finetune.core.stats.decision import last_true


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


def binomial_at_most(k: int, n: int, p: float) -> float:
    """P(X <= k) for X successes in n trials with probability p."""
    if k < 0 or k >= n:
        return float(k >= n)
    return beta_cdf(1 - p, n - k, k + 1)


def binomial_at_least(k: int, n: int, p: float) -> float:
    """P(X >= k) for X successes in n trials with probability p, precise however small."""
    if k <= 0 or k > n:
        return float(k <= 0)
    return beta_cdf(p, k, n - k + 1)


def binomial_at(k: int, n: int, p: float) -> float:
    """P(X = k) for X successes in n trials with probability p."""
    if p <= 0 or p >= 1 or not 0 <= k <= n:
        return float(k == (n if p >= 1 else 0))
    log_ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log_ways + k * math.log(p) + (n - k) * math.log1p(-p))


def t_above(x: float, df: float) -> float:
    """P(T > x) of Student's t with ``df`` degrees of freedom."""
    tail = beta_cdf(df / (df + x * x), df / 2, 0.5) / 2
    return tail if x > 0 else 1 - tail


def t_quantile(probability: float, df: float) -> float:
    """Quantile of Student's t with ``df`` degrees of freedom, for ``probability`` in [0.5, 1)."""

    def below(x: float) -> bool:
        return 1 - t_above(x, df) < probability

    high = 1.0
    while below(high):
        high *= 2
    return last_true(below, 0.0, high, high * 1e-13)

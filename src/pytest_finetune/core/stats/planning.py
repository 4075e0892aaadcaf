"""Before money is spent: how many rows, which margin, what power. Normal approximations, checked by simulation."""

from __future__ import annotations

import math
from statistics import NormalDist

_NORMAL = NormalDist()
_TIES_INFLATION = 1.4


def _z_sum(alpha: float, power: float) -> float:
    return _NORMAL.inv_cdf(1 - alpha) + _NORMAL.inv_cdf(power)


def discordant_sd(discordant: float, difference: float = 0.0) -> float:
    """Standard deviation of D for binary scores of which the share ``discordant`` differs (guess 0.2)."""
    return math.sqrt(discordant - difference**2)


def clustered_sd(sd: float, rows_per_cluster: float, correlation: float) -> float:
    """Standard deviation that rows in clusters have the effect of: times √(1 + (k-1)r) (Kish, Survey Sampling, 1965).

    Args:
        sd: Standard deviation of D.
        rows_per_cluster: k, the rows of a cluster.
        correlation: r, the correlation of D within a cluster.
    """
    return sd * math.sqrt(1 + (rows_per_cluster - 1) * correlation)


def rows_needed(distance: float, sd: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Rows for a fixed-n test to reject with ``power``: ((z_alpha + z_power) sd / distance)².

    Args:
        distance: How far Δ lies from the boundary: Δ + m. Not zero.
        sd: Standard deviation of D.
        alpha: One-sided level.
        power: Probability of the rejection.
    """
    return math.ceil((_z_sum(alpha, power) * sd / distance) ** 2)


def power(n: int, distance: float, sd: float, *, alpha: float = 0.05, betting: bool = False) -> float:
    """Probability that ``n`` rows reject, about; the inverse of `rows_needed`, and for betting of `betting_rows`.

    Args:
        n: Rows.
        distance: How far Δ lies from the boundary: Δ + m for PASS, and where it is negative, for FAIL.
        sd: Standard deviation of D, more than 0.
        alpha: One-sided level.
        betting: For the betting test, run to the end.
    """
    rows = n / _inflation(n) if betting else n
    return _NORMAL.cdf(abs(distance) * math.sqrt(rows) / sd - _NORMAL.inv_cdf(1 - alpha))


def min_rows(margin: float, *, alpha: float = 0.05, betting: bool = False) -> int:
    """Rows that certify ``margin`` if no row differs at all: ln(alpha) / ln(1 - m), about 3/m at 5 %.

    Betting takes up to 1.4 times as many (run on rows that all tie).
    """
    if margin >= 1:
        return 1
    rows = math.log(alpha) / math.log1p(-margin)
    return math.ceil(rows * _TIES_INFLATION if betting else rows)


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
    rows, ties = (n / _inflation(n), n / _TIES_INFLATION) if betting else (n, n)
    return max(_z_sum(alpha, power) * sd / math.sqrt(rows), -math.expm1(math.log(alpha) / ties))

"""Paired binary scores: Tango's score statistic, with an exact p-value in the place of the normal one.

Of n rows, the candidate alone has ``wins`` right and the reference alone ``losses``: D is 1, -1 or 0. Under
"Δ = d0" one nuisance is left, the share of rows that differ. The p-value is the probability, summed over all
outcomes, of a statistic at least as large as the observed one: at the estimate of the nuisance under the null
(the E p-value of Lloyd, Moldovan, Statistics in Medicine 27, 2008, 3540-3549), and the largest within one
standard error of it (as in Berger, Boos, JASA 89, 1994, 1012-1016, but narrower). By enumeration its level is
at most 1.01 alpha wherever looked for, with the power of the normal approximation, whose level reaches 1.8 alpha
(`benchmarks/gate/error_rates.py --enumerate`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_finetune.core.stats.decision import Decision, decide
from pytest_finetune.core.stats.distributions import binomial_at, binomial_at_least

_STEPS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # standard errors around the estimate of the nuisance
_ROUNDING = 1e-9


def tango_z(wins: int, losses: int, n: int, d0: float) -> float:
    """Tango's score statistic for paired proportions (Statistics in Medicine 17, 1998, 891-908).

    Args:
        wins: Rows that only the candidate has right.
        losses: Rows that only the reference has right.
        n: All rows.
        d0: The difference under the null, in (-1, 1).
    """
    variance = n * (2 * _loss_share(wins, losses, n, d0) + d0 * (1 - d0))
    distance = wins - losses - n * d0
    if variance < 1e-12:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _loss_share(wins: int, losses: int, n: int, d0: float) -> float:
    """Maximum likelihood estimate of P(D = -1) if Δ is ``d0``."""
    b = -wins - losses + (2 * n - wins + losses) * d0
    c = -losses * d0 * (1 - d0)
    return (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)


def tango_p(wins: int, losses: int, n: int, d0: float) -> float:
    """p-value of "Δ <= d0". For "Δ >= d0" swap wins and losses, and turn the sign of ``d0``."""
    differing = 2 * _loss_share(wins, losses, n, d0) + d0
    error = math.sqrt(max(differing * (1 - differing), 0.0) / n)
    shares = [min(max(differing + step * error, abs(d0)), 1 - _ROUNDING) for step in _STEPS]
    rows = _likely((min(shares) - d0) / 2, (max(shares) - d0) / 2, n)
    frontier = _frontier(tango_z(wins, losses, n, d0) - _ROUNDING, rows, n, d0)
    p = max(_beyond(frontier, rows, n, (share + d0) / 2, (share - d0) / 2) for share in shares)
    return min(p, 1.0)  # sums of floats may pass it


def _likely(low: float, high: float, n: int) -> range:
    """The numbers of losses outside which lies less than 1e-8, for any share from ``low`` to ``high``."""
    reach = 6 * math.sqrt(n * high) + 9
    return range(max(0, int(n * low - reach)), min(n, int(n * high + reach)) + 1)


def _frontier(reach: float, rows: range, n: int, d0: float) -> Sequence[int]:
    """For each number of losses, the fewest wins with which `tango_z` is at least ``reach``."""
    frontier, wins = list[int](), 0
    for losses in rows:
        while wins <= n - losses and tango_z(wins, losses, n, d0) < reach:
            wins += 1
        frontier.append(wins)
    return frontier


def _beyond(frontier: Sequence[int], rows: range, n: int, win: float, loss: float) -> float:
    """Probability of the outcomes on and beyond the frontier.

    P(losses) times P(at least so many wins, given the losses), the latter updated from one number of losses to the
    next: the wins are binomial, in one trial fewer each time.
    """
    share = win / (1 - loss)
    trials, wins = n - rows[0], frontier[0]
    here, tail = binomial_at(wins, trials, share), binomial_at_least(wins, trials, share)
    weight, total = binomial_at(rows[0], n, loss), 0.0
    for losses, target in zip(rows, frontier, strict=True):
        while wins < target:
            tail -= here
            here *= (trials - wins) / (wins + 1) * share / (1 - share)
            wins += 1
        if wins > trials:
            break
        total += weight * max(tail, 0.0)
        if not trials:
            break
        tail -= here * wins / trials
        here *= (trials - wins) / (trials * (1 - share))
        weight *= trials / (losses + 1) * loss / (1 - loss)
        trials -= 1
    return total


def tango(wins: int, losses: int, n: int, *, d0: float = 0.0, alpha: float = 0.05) -> Decision:
    """Judge paired binary scores; the bounds (to 1e-5) invert `tango_p`.

    Args:
        wins: Rows that only the candidate has right.
        losses: Rows that only the reference has right.
        n: All rows.
        d0: The boundary of both nulls, in (-1, 1).
        alpha: One-sided level.
    """

    def p_value(side: int, null: float) -> float:
        return tango_p(wins, losses, n, null) if side > 0 else tango_p(losses, wins, n, -null)

    return decide(p_value, d0=d0, low=-1.0, high=1.0, alpha=alpha)

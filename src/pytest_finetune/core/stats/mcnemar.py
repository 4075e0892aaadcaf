"""Better or worse at all: McNemar's test on the rows that differ."""

from __future__ import annotations

from pytest_finetune.core.stats.distributions import binomial_at, binomial_at_most


def mcnemar_mid_p(wins: int, losses: int) -> float:
    """Two-sided mid-p of "as many rows won as lost" (Fagerland et al., BMC Med Res Methodol 13:91, 2013).

    Args:
        wins: Rows that only the candidate has right.
        losses: Rows that only the reference has right.
    """
    n, fewer = wins + losses, min(wins, losses)
    point = binomial_at(fewer, n, 0.5)
    if wins == losses:
        return 1 - point / 2
    return 2 * binomial_at_most(fewer, n, 0.5) - point

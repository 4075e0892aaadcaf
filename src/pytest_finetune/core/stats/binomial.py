"""A binary score against a number: the exact binomial test."""

from __future__ import annotations

from dataclasses import replace

from pytest_finetune.core.stats.decision import Decision, decide
from pytest_finetune.core.stats.distributions import binomial_at_least, binomial_at_most


def exact_binomial(successes: int, n: int, *, bar: float, alpha: float = 0.05) -> Decision:
    """Judge a proportion against ``bar``.

    Args:
        successes: Rows that are right.
        n: All rows.
        bar: The number, in [0, 1].
        alpha: One-sided level.

    Returns:
        The decision about the proportion minus ``bar``; the bounds are those of Clopper and Pearson
        (Biometrika 26, 1934, 404-413) minus ``bar``.
    """

    def p_value(side: int, null: float) -> float:
        return binomial_at_least(successes, n, null) if side > 0 else binomial_at_most(successes, n, null)

    decision = decide(p_value, d0=bar, low=0.0, high=1.0, alpha=alpha, tolerance=1e-12)
    return replace(decision, lower=decision.lower - bar, upper=decision.upper - bar)

"""What a test says, and how a test gives its bounds: by asking it at other nulls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """What a test says about Δ and ``d0``, at one-sided level alpha each way.

    Args:
        above: "Δ <= d0" is rejected; then ``lower >= d0``.
        below: "Δ >= d0" is rejected; then ``upper <= d0``.
        lower: Lower bound for Δ at one-sided level alpha.
        upper: Upper bound for Δ at one-sided level alpha.
        p_above: p-value of "Δ <= d0": at most alpha if and only if ``above``. 1 where nothing was tested.
        p_below: p-value of "Δ >= d0": at most alpha if and only if ``below``. 1 where nothing was tested.
    """

    above: bool
    below: bool
    lower: float
    upper: float
    p_above: float = 1.0
    p_below: float = 1.0


def last_true(holds: Callable[[float], bool], true: float, false: float, tolerance: float) -> float:
    """Bisect between a point where ``holds`` is true and one where it is false; return the true end."""
    while abs(false - true) > tolerance:
        middle = (true + false) / 2
        if holds(middle):
            true = middle
        else:
            false = middle
    return true


def decide(
    p_value: Callable[[int, float], float],
    *,
    d0: float,
    low: float,
    high: float,
    alpha: float,
    tolerance: float = 1e-5,
) -> Decision:
    """Decide at ``d0``, and find the bounds where the same test would decide otherwise.

    Args:
        p_value: (side, null) -> p-value; side 1 is against "Δ <= null", -1 against "Δ >= null".
        d0: The boundary of both nulls. The search starts from it: no bound can contradict the decision.
        low: The smallest value of Δ.
        high: The largest value of Δ.
        alpha: One-sided level.
        tolerance: How close the bounds come, on the safe side.
    """

    def side_at(side: int, near: float, far: float) -> tuple[float, float]:
        p = p_value(side, d0)
        true, false = (d0, far) if p <= alpha else (near, d0)
        return p, last_true(lambda null: p_value(side, null) <= alpha, true, false, tolerance)

    p_above, lower = side_at(1, min(low, d0), high)
    p_below, upper = side_at(-1, max(high, d0), low)
    return Decision(p_above <= alpha, p_below <= alpha, lower, upper, p_above, p_below)

"""What the tests of the statistics share: data, and what every decision must fulfil."""

from __future__ import annotations

import math
import random

import pytest

from pytest_finetune.core.stats import Decision


def sample(n: int, seed: int) -> tuple[list[float], list[str]]:
    """Differences in [-1, 1] in clusters of four, and the clusters' names."""
    rng = random.Random(seed)
    offsets = [rng.gauss(0, 0.2) for _ in range(n // 4)]
    values = [max(-1.0, min(1.0, 0.03 + offsets[i // 4] + rng.gauss(0, 0.2))) for i in range(n)]
    return values, [f"group {i // 4}" for i in range(n)]


def allowed(repeats: int, level: float = 0.05) -> float:
    """The share of rejections that a true ``level`` exceeds in one of 1000 simulations."""
    return level + 3.1 * math.sqrt(level * (1 - level) / repeats)


def assert_agrees(decision: Decision, d0: float, estimate: float, alpha: float = 0.05) -> None:
    """A decision, its bounds, its p-values and the estimate never contradict one another."""
    assert not (decision.above and decision.below)
    assert decision.lower <= estimate + 1e-9
    assert decision.upper >= estimate - 1e-9
    assert decision.lower >= d0 if decision.above else decision.lower <= d0
    assert decision.upper <= d0 if decision.below else decision.upper >= d0
    assert (decision.p_above <= alpha) == decision.above
    assert (decision.p_below <= alpha) == decision.below
    assert all(0 <= p <= 1 + 1e-9 for p in (decision.p_above, decision.p_below))


def assert_mirrored(decision: Decision, mirror: Decision) -> None:
    """What one decision says of the one side, the other says of the other."""
    assert (decision.above, decision.below) == (mirror.below, mirror.above)
    assert (decision.lower, decision.upper) == pytest.approx((-mirror.upper, -mirror.lower), abs=1e-9)
    assert (decision.p_above, decision.p_below) == pytest.approx((mirror.p_below, mirror.p_above), abs=1e-9)

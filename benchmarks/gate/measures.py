"""How often claims about cost and latency err: ratios of means, and percentiles.

    python -m benchmarks.gate.measures [--reps N] [--markdown]

Run from the repository's root. Both sides are log-normal with a common part on the same row; the claim is "a is at
most f times b", with f such that both are equal: each PASS and each FAIL is an error. Power is for an a that is in
truth a fifth less. The tests are approximate here, since such measures have no upper bound.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist

from benchmarks.gate.error_rates import show

from pytest_finetune.core.stats import Decision, clustered_t, quantile_difference

ROWS = (50, 100, 200, 500)
Pairs = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Spread:
    """Standard deviations of the logarithms, and their correlation."""

    title: str
    left: float
    right: float
    correlation: float

    def draw(self, rng: random.Random, n: int) -> Pairs:
        """Both sides of n rows, each with median 1."""
        left, right = list[float](), list[float]()
        for _ in range(n):
            common, own = rng.gauss(0, 1), rng.gauss(0, 1)
            left.append(math.exp(self.left * common))
            mixed = self.correlation * common + math.sqrt(1 - self.correlation**2) * own
            right.append(math.exp(self.right * mixed))
        return left, right

    def mean_ratio(self) -> float:
        """Mean of the left side over that of the right."""
        return math.exp((self.left**2 - self.right**2) / 2)

    def quantile_ratio(self, share: float) -> float:
        """Quantile of the left side over that of the right."""
        return math.exp((self.left - self.right) * NormalDist().inv_cdf(share))


SPREADS = (
    Spread("alike", 0.5, 0.5, 0.5),
    Spread("alike, heavy tails", 1.0, 1.0, 0.5),
    Spread("left has heavier tails", 1.0, 0.4, 0.5),
    Spread("right is a number", 1.0, 0.0, 0.0),
)
Judge = Callable[[Sequence[float], Sequence[float], Spread], Decision]


def mean_claim(left: Sequence[float], right: Sequence[float], spread: Spread) -> Decision:
    """The claim on means, turned such that positive differences favour it."""
    factor = spread.mean_ratio()
    return clustered_t([factor * b - a for a, b in zip(left, right, strict=True)])


def quantile_claim(share: float) -> Judge:
    """The claim on one quantile."""

    def judge(left: Sequence[float], right: Sequence[float], spread: Spread) -> Decision:
        factor = spread.quantile_ratio(share)
        return quantile_difference([factor * b for b in right], left, share)

    return judge


JUDGES: tuple[tuple[str, Judge], ...] = (
    ("mean", mean_claim),
    ("median", quantile_claim(0.5)),
    ("95th percentile", quantile_claim(0.95)),
)


def simulated(reps: int) -> Iterator[tuple[str, ...]]:
    """Rows of the table."""
    yield ("claim about", "data", "n", "false PASS", "false FAIL", "PASS at -20 %")
    for (title, judge), spread, n in product(JUDGES, SPREADS, ROWS):
        rng = random.Random(f"{spread.title} {n}")
        samples = [spread.draw(rng, n) for _ in range(reps)]
        equal = [judge(left, right, spread) for left, right in samples]
        less = [judge([0.8 * value for value in left], right, spread) for left, right in samples]
        rates = (
            sum(decision.above for decision in equal) / reps,
            sum(decision.below for decision in equal) / reps,
            sum(decision.above for decision in less) / reps,
        )
        yield (title, spread.title, str(n), *(f"{rate:.1%}" for rate in rates))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=500, help="simulated test sets per cell")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    options = parser.parse_args()
    show(simulated(options.reps), markdown=options.markdown)


if __name__ == "__main__":
    main()

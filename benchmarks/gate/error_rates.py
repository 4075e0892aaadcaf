"""How often the gate errs: false PASS, false FAIL, power, and the rows that stopping early saves.

    python benchmarks/gate/error_rates.py [--reps N] [--markdown]   # by simulation
    python benchmarks/gate/error_rates.py --enumerate [--markdown]  # the binary test, exactly

Every claim is "at least as good, give or take m", judged at 5 % each way by the test that the gate takes for such
data. At the margin (Δ = -m) each PASS and each FAIL is an error. Seeded: two runs print the same table.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from statistics import NormalDist, fmean

from pytest_finetune.core.stats import Sequential, State, clustered_t, tango_p, tango_z
from pytest_finetune.core.stats.distributions import binomial_at, binomial_at_least

ALPHA = 0.05
MARGINS = (0.02, 0.05)
ROWS = (50, 100, 200, 500, 1000)
ENUMERATED_ROWS = (50, 60, 100, 150, 200, 300, 500, 1000)
CLUSTER = 5
Draw = Callable[[random.Random, int, float], list[float]]


# --- data: n differences with mean delta ---


def binary(rng: random.Random, n: int, delta: float) -> list[float]:
    """Right or wrong; one row in five differs."""
    return [_flip(rng, delta) for _ in range(n)]


def _flip(rng: random.Random, delta: float) -> float:
    u = rng.random()
    return 1.0 if u < 0.1 + delta / 2 else -1.0 if u < 0.2 else 0.0


def graded(rng: random.Random, n: int, delta: float) -> list[float]:
    """Half of the rows tie, the others spread over [-1, 1]: standard deviation 0.29."""
    a, b = 2.5 + 5 * delta, 2.5 - 5 * delta
    return [0.0 if rng.random() < 0.5 else 2 * rng.betavariate(a, b) - 1 for _ in range(n)]


def rare(rng: random.Random, n: int, delta: float) -> list[float]:
    """Ties, but for rare rows on which one side loses everything."""
    return [math.copysign(1.0, delta) if rng.random() < abs(delta) else 0.0 for _ in range(n)]


def clustered(rng: random.Random, n: int, delta: float) -> list[float]:
    """Binary, in clusters of five of which three rows in ten go with the cluster: row i is in cluster i // 5."""
    values = list[float]()
    for _ in range(n // CLUSTER):
        common = _flip(rng, delta)
        values += [common if rng.random() < math.sqrt(0.3) else _flip(rng, delta) for _ in range(CLUSTER)]
    return values


# --- methods: what they say, and the share of the rows they used ---


Verdict = tuple[State, float]
Method = Callable[[Sequence[float], float], Verdict]


def fixed_binary(differences: Sequence[float], margin: float) -> Verdict:
    """Tango's test on all rows."""
    wins, losses = differences.count(1.0), differences.count(-1.0)
    above = _tango_p(wins, losses, len(differences), -margin) <= ALPHA
    below = _tango_p(losses, wins, len(differences), margin) <= ALPHA
    return (State.ABOVE if above else State.BELOW if below else State.UNDECIDED), 1.0


_tango_p = lru_cache(maxsize=None)(tango_p)


def stopping_early(differences: Sequence[float], margin: float) -> Verdict:
    """Betting, row by row."""
    test = Sequential(horizon=len(differences), d0=-margin, alpha=ALPHA)
    for difference in differences:
        if test.update(difference) is not State.OPEN:
            break
    return test.state, test.rows / len(differences)


def fixed_clustered(differences: Sequence[float], margin: float) -> Verdict:
    """Student's t on clusters."""
    groups = [str(i // CLUSTER) for i in range(len(differences))]
    decision = clustered_t(differences, groups, d0=-margin, low=-1, high=1, alpha=ALPHA)
    return (State.ABOVE if decision.above else State.BELOW if decision.below else State.UNDECIDED), 1.0


SETTINGS: tuple[tuple[str, Draw, str, Method], ...] = (
    ("binary", binary, "Tango", fixed_binary),
    ("binary", binary, "betting", stopping_early),
    ("graded", graded, "betting", stopping_early),
    ("rare catastrophe", rare, "Tango", fixed_binary),
    ("rare catastrophe", rare, "betting", stopping_early),
    ("clusters of 5", clustered, "clustered t", fixed_clustered),
)


@dataclass
class Tally:
    """Verdicts of one method at one true difference."""

    states: list[State] = field(default_factory=list)
    used: list[float] = field(default_factory=list)

    def share(self, state: State) -> float:
        """Share of the verdicts that are ``state``."""
        return self.states.count(state) / len(self.states)


def tally(draw: Draw, method: Method, n: int, margin: float, delta: float, reps: int) -> Tally:
    """Judge ``reps`` samples, the same for every method."""
    rng, found = random.Random(f"{draw.__name__} {n} {delta}"), Tally()
    for _ in range(reps):
        state, used = method(draw(rng, n, delta), margin)
        found.states.append(state)
        found.used.append(used)
    return found


def simulated(reps: int) -> Iterator[tuple[str, ...]]:
    """Rows of the table of simulations."""
    yield (
        "data", "m", "n", "method", "false PASS", "false FAIL", "PASS at 0", "PASS at +2", "rows at 0", "rows at +2",
    )  # fmt: skip
    for (name, draw, title, method), margin, n in product(SETTINGS, MARGINS, ROWS):
        bad, equal, better = (tally(draw, method, n, margin, delta, reps) for delta in (-margin, 0.0, 0.02))
        shares = (bad.share(State.ABOVE), bad.share(State.BELOW), equal.share(State.ABOVE), better.share(State.ABOVE))
        used = (f"{fmean(each.used):.2f}" for each in (equal, better))
        yield (name, f"{margin:.2f}", str(n), title, *(f"{share:.1%}" for share in shares), *used)


# --- the binary test, exactly ---


def normal_p(wins: int, losses: int, n: int, d0: float) -> float:
    """Tango's test as published, by the normal distribution."""
    return 1 - NormalDist().cdf(tango_z(wins, losses, n, d0))


def first_wins(p_value: Callable[[int, int, int, float], float], flips: int, n: int, d0: float) -> int:
    """The fewest wins among ``flips`` differing rows that reject "at most d0"; one more than flips if none do."""
    low, high = 0, flips + 1
    while low < high:
        middle = (low + high) // 2
        if p_value(middle, flips - middle, n, d0) <= ALPHA:
            high = middle
        else:
            low = middle + 1
    return low


def exact_share(firsts: Sequence[int], n: int, differing: float, delta: float) -> float:
    """Probability of a rejection, summed over every number of differing rows."""
    win = (differing + delta) / (2 * differing)
    return math.fsum(
        binomial_at(flips, n, differing) * binomial_at_least(first, flips, win) for flips, first in enumerate(firsts)
    )


def enumerated() -> Iterator[tuple[str, ...]]:
    """Rows of the exact table: for each share of differing rows, false PASS / false FAIL / PASS at 0."""
    shares = (0.02, 0.05, 0.1, 0.2, 0.4)
    yield ("test", "m", "n", *(f"{share:.2f} differ" for share in shares), "worst false PASS", "worst false FAIL")
    tests = (("normal", normal_p), ("this package", tango_p))
    for margin, n, (title, p_value) in product(MARGINS, ENUMERATED_ROWS, tests):
        top = min(int(n * 0.4 + 6 * math.sqrt(n * 0.24)) + 1, n)
        passing = [first_wins(p_value, flips, n, -margin) for flips in range(top + 1)]
        failing = [first_wins(p_value, flips, n, margin) for flips in range(top + 1)]
        cells = list[str]()
        for share in shares:
            rates = [
                exact_share(passing, n, share, -margin),
                exact_share(failing, n, share, margin),
                exact_share(passing, n, share, 0.0),
            ]
            cells.append("/".join(f"{100 * rate:.1f}" for rate in rates) if share >= margin else "")
        grid = [margin + (0.4 - margin) * (step / 60) ** 2 for step in range(61)]
        worst_pass = max(exact_share(passing, n, share, -margin) for share in grid)
        worst_fail = max(exact_share(failing, n, share, margin) for share in grid)
        yield (title, f"{margin:.2f}", str(n), *cells, f"{worst_pass:.2%}", f"{worst_fail:.2%}")


# --- printing ---


def show(rows: Iterable[tuple[str, ...]], *, markdown: bool) -> None:
    """Print a table, row by row as it is made."""
    for at, row in enumerate(rows):
        if markdown:
            print("| " + " | ".join(row) + " |", flush=True)
            if at == 0:
                print("|" + " --- |" * len(row), flush=True)
        else:
            print("  ".join(f"{cell:16}" for cell in row), flush=True)


def main() -> None:
    """Print one of the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=1000, help="simulated test sets per cell")
    parser.add_argument("--enumerate", action="store_true", help="the binary test, summed over every outcome")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    options = parser.parse_args()
    show(enumerated() if options.enumerate else simulated(options.reps), markdown=options.markdown)


if __name__ == "__main__":
    main()

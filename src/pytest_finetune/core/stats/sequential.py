"""Stop early: a verdict as soon as there is one, at the error rates of the whole test."""

from __future__ import annotations

from enum import Enum

from pytest_finetune.core.stats.betting import StarBet, betting
from pytest_finetune.core.stats.decision import Decision


class State(str, Enum):
    """Where a sequential test stands."""

    OPEN = "open"  # the next row is needed
    ABOVE = "above"  # "Δ <= d0" is rejected
    BELOW = "below"  # "Δ >= d0" is rejected
    UNDECIDED = "undecided"  # all planned rows are seen, or it is futile to go on


class Sequential:
    """Two `StarBet` on differences that come one at a time, up to a planned number of rows.

    The level holds at any stopping time (Ville), so looking after each row costs nothing. Stopping for futility
    never raises an error rate: it can only turn a rejection that was still to come into none.

    Args:
        horizon: How many rows are planned; fixed before the first.
        d0: The boundary of both nulls.
        low: The smallest value that a difference can take.
        high: The largest value that a difference can take.
        alpha: One-sided level.
        futility: From half of the rows on, stop when both sides' `StarBet.chance` is less than this; 0 never stops.
    """

    def __init__(
        self,
        *,
        horizon: int,
        d0: float = 0.0,
        low: float = -1.0,
        high: float = 1.0,
        alpha: float = 0.05,
        futility: float = 0.02,
    ) -> None:
        self._horizon, self._d0, self._alpha, self._futility = horizon, d0, alpha, futility
        self._limits = (low, high)
        self._above = StarBet(d0=d0, side=1, horizon=horizon, worst=d0 - low, alpha=alpha)
        self._below = StarBet(d0=d0, side=-1, horizon=horizon, worst=high - d0, alpha=alpha)
        self._seen: list[float] = []
        self._sum = 0.0
        self._state = State.OPEN

    @property
    def state(self) -> State:
        """Where the test stands; only ``State.OPEN`` changes any more."""
        return self._state

    @property
    def rows(self) -> int:
        """Rows that the test has used."""
        return len(self._seen)

    def update(self, difference: float) -> State:
        """Take the next row's difference, in an order fixed beforehand. Once decided, rows change nothing."""
        if self._state is State.OPEN:
            self._seen.append(difference)
            self._sum += difference
            self._above.update(difference)
            self._below.update(difference)
            self._state = self._next_state()
        return self._state

    def decision(self) -> Decision:
        """Decision and bounds on the rows used: those of `betting`, at the same horizon."""
        low, high = self._limits
        return betting(self._seen, d0=self._d0, horizon=self._horizon, low=low, high=high, alpha=self._alpha)

    def _next_state(self) -> State:
        distance = self._sum - self._d0 * self.rows
        if self._above.rejected and distance > 0:
            return State.ABOVE
        if self._below.rejected and distance < 0:
            return State.BELOW
        if self.rows >= self._horizon or self._futile():
            return State.UNDECIDED
        return State.OPEN

    def _futile(self) -> bool:
        late = 2 * self.rows >= self._horizon
        return late and max(self._above.chance, self._below.chance) < self._futility

"""What a run spends, over all its processes, so that a cap on it holds exactly."""

from __future__ import annotations

import time
from pathlib import Path

from pytest_finetune.store.owner import new_owner
from pytest_finetune.store.shared import SharedConnection

_DAY = 86_400.0
_ROUNDING = 1e-9  # US dollars: sums of floats are not exact
_BOOK = """
INSERT INTO spending (run, owner, dollars, changed_at) VALUES (:run, :owner, :dollars, :now)
ON CONFLICT (run, owner) DO UPDATE SET dollars = dollars + excluded.dollars, changed_at = excluded.changed_at
"""


class Spending(SharedConnection):
    """The sum of what a run's processes have spent, and of what they have booked in advance.

    What a process booked and never settled, since it was killed, stays booked: the request may have been paid for.

    Args:
        path: Of the file, which a `Store` has created.
        run: The run's name, the same in all its processes.

    Raises:
        EvidenceError: If the file is missing, damaged, of another version, or no row store.
    """

    def __init__(self, path: Path, run: str) -> None:
        super().__init__(path)
        self._run = run
        self._owner = new_owner()
        with self._writing() as connection:
            connection.execute("DELETE FROM spending WHERE run <> ? AND changed_at < ?", (run, time.time() - _DAY))

    def reserve(self, dollars: float, *, cap: float) -> bool:
        """Book an amount in advance, if the sum then stays within the cap.

        Args:
            dollars: The most that the next request can cost.
            cap: What the run may cost, over all its processes.

        Returns:
            Whether it was booked.
        """
        with self._writing():
            fits = self._sum() + dollars <= cap + _ROUNDING
            if fits:
                self._book(dollars)
        return fits

    def settle(self, reserved: float, actual: float) -> None:
        """Put what was spent in the place of what was booked."""
        with self._writing():
            self._book(actual - reserved)

    def spent(self) -> float:
        """US dollars, spent and booked, by all processes of the run."""
        with self._reading():
            return self._sum()

    def _sum(self) -> float:
        found = self._connection.execute("SELECT total(dollars) FROM spending WHERE run = ?", (self._run,))
        return float(found.fetchone()[0])

    def _book(self, dollars: float) -> None:
        values = {"run": self._run, "owner": self._owner, "dollars": dollars, "now": time.time()}
        self._connection.execute(_BOOK, values)

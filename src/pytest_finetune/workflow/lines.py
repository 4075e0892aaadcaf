"""How the models of a run are called: one limit for each endpoint, one cap over all, one record of what was paid."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pytest_finetune.calls import Budget, Calling, Line, Traffic
from pytest_finetune.calls.records import Replay
from pytest_finetune.core.pricing import price_of
from pytest_finetune.endpoints import Endpoint, processes
from pytest_finetune.errors import NotEvaluated
from pytest_finetune.store import Calls, Spending
from pytest_finetune.workflow.connections import Connections
from pytest_finetune.workflow.settings import Settings

JUDGE = "judge"
TRAINING = "training"


@dataclass
class Lines:
    """The lines of one run, each made when it is first needed.

    Args:
        settings: Concurrency, time-outs, prices and the cap.
        connections: The endpoints.
        store: The file in which answers and spending are kept; the row store has made it.
        run: A name that all processes of the run share.
    """

    settings: Settings
    connections: Connections
    store: Path
    run: str
    _lines: dict[tuple[str, str | None], Line] = field(default_factory=dict)
    _calls: Calls | None = None
    _spending: Spending | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    def line(self, endpoint: Endpoint, purpose: str | None = None) -> Line:
        """A line to an endpoint.

        Args:
            endpoint: As the settings name it.
            purpose: ``training`` or ``judge``; what was asked for the one is not found by the other. ``None``: a test
                asks by itself, and nothing is recorded.

        Raises:
            NotEvaluated: If the run is offline.
            EndpointError: If it cannot be reached.
        """
        key = (endpoint.name, purpose)
        if key not in self._lines:
            if self.settings.offline:
                what = "judge" if purpose else "be asked by a test"
                raise NotEvaluated(f"not evaluated: --ft-offline asks nothing, so {endpoint.name!r} cannot {what}")
            calling = Calling(
                Traffic(max(1, endpoint.at_once(self.settings.concurrency) // processes())),
                timeout=endpoint.timeout or self.settings.row_timeout,
                budget=self.budget(endpoint),
                replay=None if purpose is None else Replay(self._records(), purpose),
            )
            self._lines[key] = Line.to(self.connections.live(endpoint), calling)
        return self._lines[key]

    def budget(self, endpoint: Endpoint, names: Mapping[str, str] | None = None) -> Budget:
        """What the models of an endpoint cost, under the run's cap.

        Args:
            endpoint: As the settings name it.
            names: Names that models are served as, each with the id of its model, which has the price.
        """
        prices = self.settings.prices(endpoint)
        served = {name: price for name, model in (names or {}).items() if (price := price_of(model, prices))}
        cap = self.settings.max_cost
        if cap is not None and self._spending is None:
            self._spending = self._open.enter_context(Spending(self.store, self.run))
        return Budget((served, *prices), cap=cap, ledger=self._spending)

    def _records(self) -> Calls:
        if self._calls is None:
            self._calls = self._open.enter_context(
                Calls(self.store, oldest=self.settings.oldest_row, text=self.settings.store_text)
            )
        return self._calls

    def close(self) -> None:
        """Let no further request begin, and close the files."""
        for line in self._lines.values():
            line.calling.traffic.stop()
        self._open.close()

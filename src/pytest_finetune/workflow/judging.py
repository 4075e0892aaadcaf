"""What scoring costs where models judge: by the calls that are recorded, since nobody knows a judge's prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pytest_finetune.core.pricing import Price, price_of
from pytest_finetune.metrics import Judge
from pytest_finetune.store import Calls
from pytest_finetune.task import Task
from pytest_finetune.workflow.lines import JUDGE
from pytest_finetune.workflow.run import STORE, Run


@dataclass(frozen=True)
class Judging:
    """The judges of one task.

    Args:
        run: Its settings say the prices and where calls are recorded.
        task: Whose answers are judged.
    """

    run: Run
    task: Task

    def of_an_answer(self, suite: str | None = None) -> float | None:
        """US dollars for one answer, of the test split or of a suite; None: a price, or a judge's prompt, is unknown.

        A judge is taken to be asked once for an answer.
        """
        costs = [self._cost(judge) for judge in self.task.held_out(suite).metric.judges]
        known = [cost for cost in costs if cost is not None]
        return math.fsum(known) if len(known) == len(costs) else None

    def missing(self) -> Iterator[str]:
        """What to do so that all of it is known."""
        for judge in dict.fromkeys(judge for metric in self.task.metrics for judge in metric.judges):
            if self._price(judge) is None:
                yield f"set the price of {judge.model}, which judges, in [tool.pytest-finetune.prices]"
            elif self._used(judge) is None:
                yield f"no call of {judge.model}, which judges, is recorded yet"

    def _cost(self, judge: Judge) -> float | None:
        price, used = self._price(judge), self._used(judge)
        return None if price is None or used is None else price.of(*used)

    def _price(self, judge: Judge) -> Price | None:
        settings = self.run.settings
        endpoint = settings.endpoint_named(judge.endpoint or self.task.endpoint, self.task.id)
        return price_of(judge.model, settings.prices(endpoint))

    def _used(self, judge: Judge) -> tuple[float, float] | None:
        path = self.run.settings.folder / STORE
        if not path.is_file():
            return None
        with Calls(path) as calls:
            return calls.mean_usage(JUDGE, judge.model)

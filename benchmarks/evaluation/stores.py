"""What the row store costs a first run: the package's own ``evaluate``, with the store, or with a dict in its place.

    python benchmarks/evaluation/stores.py FOLDER CONCURRENCY [--memory]

The folder holds a project of ``project.py``. Start-up is left out of what is printed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pytest_finetune import programs
from pytest_finetune.core.records import Answered, Row
from pytest_finetune.evaluate import RowStore, StageRun, evaluate
from pytest_finetune.evaluate.stages import Wanted
from pytest_finetune.lock import Artifacts, read_lock
from pytest_finetune.store import Store
from pytest_finetune.task import Task
from pytest_finetune.workflow.settings import LOCK, read_settings
from pytest_finetune.workflow.stages import pinned_stage
from pytest_finetune.workflow.tasks import load_tasks


class Memory:
    """The least that can be called a store: it is shared with nobody, and gone at the end."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Row, float]] = {}
        self._scores: dict[tuple[str, str], float] = {}
        self._claimed: set[str] = set()

    def read(self, wanted: Wanted, metric: str) -> Mapping[str, tuple[Row, float]]:  # noqa: ARG002  # there is one metric
        """As of `RowStore`."""
        return {key: self._rows[key] for key in wanted if key in self._rows}

    def claim(
        self, wanted: Wanted, metric: str, *, limit: int, cap: int
    ) -> tuple[Sequence[str], Mapping[str, tuple[Row, float]]]:
        """As of `RowStore`."""
        free = [key for key in wanted if key not in self._rows and key not in self._claimed]
        mine = free[: max(0, min(limit, cap - len(self._claimed)))]
        self._claimed.update(mine)
        return mine, self.read(wanted, metric)

    def save(self, answers: Iterable[Answered]) -> None:
        """As of `RowStore`."""
        for answer in answers:
            self._rows[answer.key] = (answer.row, time.time())
            self._claimed.discard(answer.key)

    def renew(self) -> None:
        """As of `RowStore`."""

    def release(self) -> None:
        """As of `RowStore`."""
        self._claimed.clear()

    def scores(self, keys: Sequence[str], metric: str) -> Mapping[tuple[str, str], float]:  # noqa: ARG002  # there is one metric
        """As of `RowStore`."""
        wanted = set(keys)
        return {name: value for name, value in self._scores.items() if name[0] in wanted}

    def save_scores(self, scores: Mapping[tuple[str, str], float], metric: str) -> None:  # noqa: ARG002  # likewise
        """As of `RowStore`."""
        self._scores.update(scores)


def stage_runs(folder: Path, task: Task) -> list[StageRun]:
    """The stages that the project's lock pins, ready to be asked."""
    settings, artifacts = read_settings(folder), Artifacts.beside(folder / LOCK)
    endpoint = settings.endpoint_named(task.endpoint, task.id)
    runs = []
    for entry in read_lock(folder / LOCK).models:
        pinned = pinned_stage(task, entry, endpoint, artifacts)
        program = programs.attach(pinned.program, endpoint.lm(entry.model, num_retries=0, **task.decoding()))
        runs.append(StageRun(entry.stage, program, pinned.adapter, pinned.key, entry.model))
    return runs


@contextmanager
def opened(*, memory: bool) -> Iterator[RowStore]:
    """A store without rows."""
    if memory:
        yield Memory()
        return
    with tempfile.TemporaryDirectory() as folder, Store.create(Path(folder) / "rows.sqlite") as store:
        yield store


def main(folder: Path, concurrency: int, *, memory: bool) -> None:
    """Evaluate once; print the seconds, the seconds of processor, and how many answers of each stage were right."""
    task = load_tasks(folder, ["finetune_tasks.py"])["tickets"]
    rows, runs = task.dataset.rows("test"), stage_runs(folder, task)
    wall, cpu = time.perf_counter(), time.process_time()
    with opened(memory=memory) as store:
        found = evaluate(runs, rows, task.scorer, store, concurrency=concurrency)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    right: Counter[str] = Counter()
    for stage, answered in found.items():
        right[stage] = round(sum(row.score or 0.0 for row in answered))
    print(json.dumps({"wall": wall, "cpu": cpu, "right": right}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), memory="--memory" in sys.argv)

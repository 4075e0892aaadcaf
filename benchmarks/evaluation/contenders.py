"""The contenders: each runs the whole job in a process of its own, and must report the truth."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from measuring import Cost, Server, Wrong, measure, script
from tickets import STAGES, truth

CONCURRENCY = 32
STORE = Path(".pytest-finetune", "rows.sqlite")
_STAGE = re.compile(r"^  (\w+) +(\d\.\d+)  \(.* n=(\d+)\)  reused", re.MULTILINE)
_RIGHT = """
SELECT stage, count(*), sum(value) FROM (
    SELECT DISTINCT stage, score.row_id, value FROM prediction JOIN score USING (key) WHERE state = 'scored'
) GROUP BY stage
"""


def pytest_command(*arguments: str, plugins: tuple[str, ...]) -> list[str]:
    """Pytest with these of the installed plugins, and no other: what else is installed is not ours to measure."""
    installed = {entry.name for entry in importlib.metadata.entry_points(group="pytest11")}
    others = [argument for name in sorted(installed - {*plugins}) for argument in ("-p", f"no:{name}")]
    return [sys.executable, "-m", "pytest", *others, *arguments]


def gate_command(workers: int, *arguments: str) -> list[str]:
    """Pytest gating a project on its lock."""
    plugins, spread = (("finetune", "xdist"), ("-n", str(workers))) if workers else (("finetune",), ())
    return pytest_command("--finetune-models=models.lock", *spread, *arguments, plugins=plugins)


def stored(path: Path) -> dict[str, tuple[int, float]]:
    """The rows that a store holds with a score, and the sum of these scores, by stage.

    The answers to an earlier prompt of a stage stay there; they are the same here, and count once.
    """
    with closing(sqlite3.connect(path)) as connection:
        return {stage: (rows, right) for stage, rows, right in connection.execute(_RIGHT)}


def check(who: str, expected: object, actual: object) -> None:
    """Hold what was measured against what must be.

    Raises:
        Wrong: If they differ.
    """
    if actual != expected:
        raise Wrong(f"{who}: expected {expected}, got {actual}: nothing here is worth reporting")


@dataclass(frozen=True)
class Job:
    """One job, and the server that answers it.

    Attributes:
        server: Asked by everyone.
        folder: For what contenders write.
        rows: Tickets for each of the three stages.
        latency: Seconds before each answer.
        tail: Share of answers that take ten times as long.
    """

    server: Server
    folder: Path
    rows: int
    latency: float = 0.0
    tail: float = 0.0

    @property
    def calls(self) -> int:
        """Requests of a run that has nothing to reuse."""
        return self.rows * len(STAGES)

    def limit(self) -> Cost:
        """The bare client."""
        return self._peer("limit.py", asks=self.calls)

    def dspy_evaluate(self) -> Cost:
        """DSPy's own evaluation."""
        return self._peer("dspy_evaluate.py", asks=self.calls)

    def dspy_again(self) -> Cost:
        """The second run of DSPy's own evaluation, with its caches on."""
        shutil.rmtree(self.folder / "dspy", ignore_errors=True)
        self._peer("dspy_evaluate.py", "--cache", asks=self.calls)
        return self._peer("dspy_evaluate.py", "--cache", asks=0)

    def ours(self, workers: int = 0) -> Cost:
        """The gate, with nothing to reuse."""
        self.project()
        return self.gate(asks=self.calls, workers=workers)

    def ours_again(self) -> Cost:
        """The second run of the gate."""
        self.ours()
        return self.gate(asks=0)

    def project(self, *, changed: bool = False) -> Path:
        """Our project with its lock, without any row; with ``changed``, only its lock is another."""
        if not changed:
            shutil.rmtree(self.folder / "project", ignore_errors=True)
        more = ["--changed"] if changed else []
        measure(script("project.py", self.folder / "project", self.server.url, self.rows, *more), self.folder)
        return self.folder / "project"

    def gate(self, *, asks: int, workers: int = 0) -> Cost:
        """Gate the project; it must ask so many requests."""
        self.server.reset(self.latency, self.tail)
        cost = measure(gate_command(workers), self.folder / "project")
        self.check_scores(cost.output)
        self._check_traffic("ours", asks)
        return cost

    def check_scores(self, output: str) -> None:
        """Hold what a gate said, and what it stored, against the truth.

        Raises:
            Wrong: If they differ.
        """
        told = {stage: (mean, int(rows)) for stage, mean, rows in _STAGE.findall(output)}
        right = truth(self.rows)
        check("ours, told", {name: (f"{n / self.rows:.3f}", self.rows) for name, n in right.items()}, told)
        path = self.folder / "project" / STORE
        check("ours, stored", {name: (self.rows, n) for name, n in right.items()}, stored(path))

    def evaluated(self, *, memory: bool) -> Mapping[str, float]:
        """The seconds that our ``evaluate`` takes in the project with the store, or without."""
        self.server.reset(self.latency, self.tail)
        more = ["--memory"] if memory else []
        output = measure(script("stores.py", self.folder / "project", CONCURRENCY, *more), self.folder).output
        told: dict[str, float] = json.loads(output.splitlines()[-1])
        check("evaluate", truth(self.rows), told.pop("right"))
        self._check_traffic("evaluate", self.calls)
        return told

    def _peer(self, name: str, *more: str, asks: int) -> Cost:
        self.server.reset(self.latency, self.tail)
        cost = measure(script(name, self.server.url, self.rows, CONCURRENCY, *more), self.folder)
        check(name, truth(self.rows), json.loads(cost.output.splitlines()[-1]))
        self._check_traffic(name, asks)
        return cost

    def _check_traffic(self, who: str, asks: int) -> None:
        stats = self.server.stats()
        check(f"{who}, requests and answers", (asks, asks), (stats["requests"], stats["answers"]))
        if stats["most_in_flight"] > CONCURRENCY:
            raise Wrong(f"{who} had {stats['most_in_flight']} requests in flight, and may have {CONCURRENCY}")

"""Stages as the lock pins them, once it is sure that this is what will be run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from pytest_finetune.core.records import Measure, Row
from pytest_finetune.core.shell import typed
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import DriftError, LockError
from pytest_finetune.lock.accepted import Score
from pytest_finetune.lock.data import SPLITS, get_data, row_changes
from pytest_finetune.lock.drift import Drift, compare, drift_error
from pytest_finetune.lock.life import check_states
from pytest_finetune.lock.model import Entry, Facts, Lock
from pytest_finetune.task import FINETUNED, Task
from pytest_finetune.workflow.facts import known_rows
from pytest_finetune.workflow.locks import Locks
from pytest_finetune.workflow.settings import Settings
from pytest_finetune.workflow.stages import PinnedStage, pinned_stage


@dataclass
class Pinning:
    """Loads the stages of a lock, and refuses those that do not fit the tasks.

    Args:
        settings: The endpoints.
        lock: What is judged.
        locks: Which files it is from, and the artifacts beside them.
    """

    settings: Settings
    lock: Lock
    locks: Locks
    _stages: dict[tuple[str, str], PinnedStage] = field(default_factory=dict)

    def stage(self, task: Task, name: str) -> PinnedStage:
        """A stage with its program.

        Raises:
            LockError: If the lock does not have it, or what it refers to is missing or damaged.
            DriftError: If what the tasks file asks for today is not what the lock pins.
        """
        if (task.id, name) not in self._stages:
            self._stages[task.id, name] = self._checked(task, self.lock.entry(task.id, name))
        return self._stages[task.id, name]

    def drifts(self, task: Task, name: str) -> tuple[Drift, ...]:
        """All that differs between a stage of the lock and the task, also what makes its scores no less comparable.

        Raises:
            LockError: As `stage`.
            DriftError: If the lock pins another endpoint.
        """
        entry = self.lock.entry(task.id, name)
        pinned = pinned_stage(task, entry, self._endpoint(task, entry), self.locks.artifacts(task.id))
        return self._compare(task, entry, pinned.facts)

    def check_files(self, entry: Entry) -> None:
        """Refuse an entry that contradicts itself, or the files beside the lock.

        Raises:
            LockError: If so.
        """
        self._check_model(entry)
        check_states(entry)
        self._check_artifacts(entry)

    def _checked(self, task: Task, entry: Entry) -> PinnedStage:
        pinned = pinned_stage(task, entry, self._endpoint(task, entry), self.locks.artifacts(task.id))
        found = self._compare(task, entry, pinned.facts)
        drifts = [drift for drift in found if self.settings.locked or not drift.comparable]
        if drifts:
            raise drift_error(entry, drifts)
        self.check_files(entry)
        return pinned

    def _compare(self, task: Task, entry: Entry, facts: Facts) -> tuple[Drift, ...]:
        return compare(entry, facts, partial(self._row_changes, task, entry))

    def _row_changes(self, task: Task, entry: Entry) -> Mapping[str, str]:
        """What became of the rows of each split, as far as the files beside the lock tell."""
        if entry.artifacts.data is None:
            return {}
        try:
            locked = get_data(self.locks.artifacts(task.id), entry.artifacts.data, entry.data)
        except LockError as error:
            unknown = f"some rows have changed, and which ones cannot be told ({error})"
            return {f"data.{split}": unknown for split in SPLITS}
        return row_changes(locked, known_rows(task))

    def _check_model(self, entry: Entry) -> None:
        """A fine-tuned stage must not be served by its base, and every other stage must be."""
        tuned = entry.stage == FINETUNED
        wrong = [one.model for one in entry.models.values() if (one.model == entry.base) is tuned]
        if not wrong:
            return
        problem = f"the fine-tuned model is its own base {entry.base!r}: it was never trained"
        if not tuned:
            problem = f"the lock pins the model {wrong[0]!r}, the stage is made of {entry.base!r}"
        raise LockError(
            f"{entry.name}: {problem}. Restore the lock (git checkout -- {typed(self.locks.of(entry.task))}), or"
            f" pytest --ft-retrain --ft-task {entry.task}"
        )

    def _check_artifacts(self, entry: Entry) -> None:
        """What the lock refers to must be there unchanged, also what this run does not read."""
        artifacts = self.locks.artifacts(entry.task)
        for ref in entry.artifacts.refs():
            artifacts.get_bytes(ref)
        rows, score = entry.artifacts.rows, entry.score
        if (rows is None) is not (score is None):
            raise LockError(
                f"{entry.name}: the lock has {'its score' if score else 'its rows'} and not"
                f" {'its rows' if score else 'its score'}: one of them was taken out: {artifacts.repair}"
            )
        if rows is not None and score is not None:
            self._check_score(entry, score, artifacts.get_rows(rows, entry.stage), artifacts.repair)

    def _check_score(self, entry: Entry, score: Score, rows: Sequence[Row], repair: str) -> None:
        """The accepted rows and the accepted score are one thing, told twice: an edit of one of them shows."""
        values = [value for row in rows if (value := row.value(Measure.SCORE)) is not None]
        mean = sum(values) / len(values) if values else 0.0
        if len(values) != score.n or not math.isclose(mean, score.mean, abs_tol=1e-5):
            raise LockError(
                f"{entry.name}: the lock says that it scored {score.mean:.6f} on {score.n} rows, its rows beside the"
                f" lock say {mean:.6f} on {len(values)}: one of them was edited: {repair}"
            )

    def _endpoint(self, task: Task, entry: Entry) -> Endpoint:
        """The endpoint that the lock pins, which must be the one the task asks for."""
        endpoint = self.settings.endpoint_named(task.endpoint, task.id)
        if endpoint.identity != entry.endpoint:
            raise DriftError(
                f"{entry.name}: the lock pins endpoint {entry.endpoint!r}, the task asks for {endpoint.identity!r}:"
                f" name the pinned one, or build the stage there: pytest --ft-retrain --ft-task {task.id}"
            )
        return endpoint

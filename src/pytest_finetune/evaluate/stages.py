"""What is evaluated, what is told while it runs, and the store that is needed for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pytest_finetune.core.fingerprint import digest
from pytest_finetune.core.records import Answered, Row
from pytest_finetune.dataset import DataRow

if TYPE_CHECKING:
    import dspy

Wanted = Mapping[str, Collection[str]]
"""Keys of answers, each with the ids of the rows that it is to be scored against."""


@dataclass(frozen=True)
class StageRun:
    """One way of running the task.

    Attributes:
        name: What claims call it.
        program: With an LM of `Endpoint.lm` on every predictor.
        adapter: Writes its prompts and reads its answers.
        key: The digest of all that changes an answer but the row: model, endpoint, program, adapter, decoding.
        model: The id of its model, for messages and lists.
        task: The name of the task, for lists.
    """

    name: str
    program: dspy.Module
    adapter: dspy.Adapter
    key: str
    model: str
    task: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """One row for one stage, once. Stages with the same key share its answer."""

    stage: StageRun
    row: DataRow
    repeat: int

    @property
    def key(self) -> str:
        """What the answer is found by. It leaves out the expected values: they change scores, not answers."""
        return digest([self.stage.key, self.row.input_id, self.repeat])


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an evaluation is.

    Attributes:
        total: Rows, over all stages.
        done: Rows that have an answer and, where it can be scored, a score.
        asked: Answers that this process has asked for.
        reused: Rows that were answered before this evaluation, or by another process during it.
        reused_since: When the oldest of these was asked for (seconds since 1970); None without any.
        format_errors: Answers so far that could not be used, the model's fault.
        errors: Rows so far without an answer, the infrastructure's fault.
        cost: US dollars of these answers; None where a price is unknown.
        seconds: Since the start.
    """

    total: int
    done: int = 0
    asked: int = 0
    reused: int = 0
    reused_since: float | None = None
    format_errors: int = 0
    errors: int = 0
    cost: float | None = 0.0
    seconds: float = 0.0


class RowStore(Protocol):
    """What an evaluation needs of a store; `pytest_finetune.store.Store` is one."""

    def read(self, wanted: Wanted, metric: str) -> Mapping[str, tuple[Row, float]]:
        """Give the answers that are there and have, or can get, their scores; and when they were asked for."""
        ...

    def claim(
        self, wanted: Wanted, metric: str, *, limit: int, cap: int
    ) -> tuple[Sequence[str], Mapping[str, tuple[Row, float]]]:
        """Claim at most ``limit`` rows, and ``cap`` over all processes; give these, and the finished ones."""
        ...

    def save(self, answers: Iterable[Answered]) -> None:
        """Keep answers to claimed rows."""
        ...

    def renew(self) -> None:
        """Hold on to what is claimed."""
        ...

    def release(self) -> None:
        """Give back what is claimed and not answered."""
        ...

    def scores(self, keys: Sequence[str], metric: str) -> Mapping[tuple[str, str], float]:
        """Give the scores of answers, by key and row id."""
        ...

    def save_scores(self, scores: Mapping[tuple[str, str], float], metric: str) -> None:
        """Keep scores, by key and row id."""
        ...

"""Whether a lock still fits the tasks file, and whether its models are still there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from pytest_finetune.endpoints import SANDBOX
from pytest_finetune.errors import EndpointError, FinetuneError, UsageError
from pytest_finetune.lock.model import Entry
from pytest_finetune.workflow.run import Run

if TYPE_CHECKING:
    import openai


@dataclass(frozen=True)
class Trouble:
    """What is wrong with an entry, or will be.

    Attributes:
        message: A sentence that names the entry.
        error: It must be mended; else it is a warning.
    """

    message: str
    error: bool = True


def drifted(run: Run, tasks: Sequence[str] = ()) -> Iterator[Trouble]:
    """What the tasks file asks for and the lock does not pin, and the other way round; nothing is asked.

    Args:
        run: The run; its lock is looked at.
        tasks: Which tasks; empty: all of the lock and of the tasks file.

    Raises:
        UsageError: If there is no such task.
    """
    locked = run.accepted.tasks
    for name in tasks or dict.fromkeys([*run.tasks, *locked]):
        if name not in locked:
            if name not in run.tasks:
                raise UsageError(f"there is no task {name!r}: the lock has {', '.join(locked) or 'none'}")
            yield Trouble(f"{name}: is not in the lock: pytest --ft-retrain --ft-task {name}")
        elif name not in run.tasks:
            yield Trouble(
                f"{name}: the tasks file has no such task any more: take its [[model]] blocks out of the lock"
            )
        else:
            yield from _of_task(run, name)


def _of_task(run: Run, name: str) -> Iterator[Trouble]:
    task, pinning = run.tasks[name], run.evaluations.pinning
    entries = {entry.stage: entry for entry in run.accepted.of_task(name)}
    for stage in (*task.stages, *(stage for stage in entries if stage not in task.stages)):
        if stage not in entries:
            yield Trouble(f"{name}/{stage}: is not in the lock: pytest --ft-retrain --ft-task {name}")
        elif stage not in task.stages:
            yield Trouble(
                f"{name}/{stage}: the task has no such stage any more: pytest --ft-retrain --ft-task {name}"
            )
        else:
            yield from _of_stage(run, name, stage)
            try:
                pinning.check_files(entries[stage])
            except FinetuneError as error:
                yield Trouble(str(error))


def _of_stage(run: Run, name: str, stage: str) -> Iterator[Trouble]:
    try:
        drifts = run.evaluations.pinning.drifts(run.tasks[name], stage)
    except FinetuneError as error:
        yield Trouble(str(error))
        return
    for drift in drifts:
        yield Trouble(f"{name}/{stage}: {drift.message}: pytest --ft-retrain --ft-task {name}")


def unserved(run: Run, today: date, notice: int) -> Iterator[Trouble]:
    """Models that are gone from their endpoint, or will be: each is asked for once.

    Args:
        run: The run; its lock is looked at.
        today: The day, in UTC.
        notice: Days before its end from which on a model is warned of.

    Raises:
        EndpointError: If an endpoint does not answer.
    """
    seen = set[tuple[str, str]]()
    for entry in run.accepted.models:
        if entry.task in run.tasks and entry.endpoint != SANDBOX and (entry.endpoint, entry.model) not in seen:
            seen.add((entry.endpoint, entry.model))
            yield from _of_model(run, entry, today, notice)


def _of_model(run: Run, entry: Entry, today: date, notice: int) -> Iterator[Trouble]:
    import openai

    endpoint = run.connections.live(run.endpoint(run.tasks[entry.task]))
    where, retrain = f"endpoint {endpoint.name!r}", f"pytest --ft-retrain --ft-task {entry.task}"
    try:
        with endpoint.client() as client:
            end = _end(client, entry.model)
    except openai.NotFoundError:
        yield Trouble(
            f"{entry.name}: {where} has no model {entry.model!r}: deploy it, go back to an earlier one, or build it"
            f" anew: {retrain}"
        )
        return
    except openai.OpenAIError as error:
        raise EndpointError(f"{entry.name}: {where} does not say whether it has {entry.model!r}: {error}") from None
    left = None if end is None else (end - today).days
    if left is not None and left <= notice:
        told = f"is shut down in {left} days" if left > 0 else "has been shut down"
        yield Trouble(
            f"{entry.name}: {entry.model!r} {told} ({end}) by {where}: build its successor: {retrain}", left <= 0
        )


def _end(client: openai.OpenAI, model: str) -> date | None:
    """The day on which a model is shut down, where its endpoint says so."""
    told = getattr(client.models.retrieve(model), "shutdown_date", None)
    return date.fromisoformat(told) if told else None

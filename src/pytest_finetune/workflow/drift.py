"""Whether a lock still fits the tasks file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_finetune.errors import FinetuneError, UsageError
from pytest_finetune.lock.advice import bereft, retired
from pytest_finetune.lock.model import Entry
from pytest_finetune.workflow.run import Run


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
        tasks: Which tasks; empty: all of the locks, and all that would go to them.

    Raises:
        UsageError: If there is no such task.
    """
    locked = run.accepted.tasks
    wanted = [name for name in run.tasks if run.locks.of(name) in run.locks.paths]
    for name in tasks or dict.fromkeys([*wanted, *locked]):
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
            yield from _of_life(entries[stage])
            yield from _of_stage(run, name, stage)
            try:
                pinning.check_files(entries[stage])
            except FinetuneError as error:
                yield Trouble(str(error))


def _of_life(entry: Entry) -> Iterator[Trouble]:
    if entry.state == "retired":
        yield Trouble(retired(entry, entry))
    if entry.bereft:
        yield Trouble(bereft(entry))


def _of_stage(run: Run, name: str, stage: str) -> Iterator[Trouble]:
    try:
        drifts = run.evaluations.pinning.drifts(run.tasks[name], stage)
    except FinetuneError as error:
        yield Trouble(str(error))
        return
    for drift in drifts:
        yield Trouble(f"{name}/{stage}: {drift.message}: pytest --ft-retrain --ft-task {name}")

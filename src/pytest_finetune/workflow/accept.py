"""Letting a candidate into the lock, with the rows and the claims it was accepted on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pytest_finetune.core.results import Result
from pytest_finetune.errors import DriftError, LockError
from pytest_finetune.lock.accepted import Score, SettledClaim
from pytest_finetune.lock.advice import step
from pytest_finetune.lock.drift import Drift
from pytest_finetune.lock.file import read_lock, update_lock
from pytest_finetune.lock.model import Entry
from pytest_finetune.lock.signatures import sign_again
from pytest_finetune.workflow.evaluations import Bench
from pytest_finetune.workflow.run import Run
from pytest_finetune.workflow.served import served_models
from pytest_finetune.workflow.stages import scored_rows


def accept(run: Run, task: str, results: Sequence[Result]) -> list[str]:
    """Write a task's candidate into the lock.

    Args:
        run: The run that built and gated it.
        task: Its name.
        results: Its claims, all of which held.

    Returns:
        Sentences for the report.
    """
    candidate = run.evaluations.pinning.lock
    entries = [_scored(run, entry, results) for entry in candidate.of_task(task)]
    path = run.locks.of(task)
    lock = update_lock(path, entries)
    unsigned = [] if run.settings.verify is None else [sign_again(path)]
    return [f"{task}: locked in {path}", *_serving(lock.of_task(task)), *unsigned]


def _serving(entries: Iterable[Entry]) -> Iterator[str]:
    """What goes on serving in the place of what was let in, and how to change that."""
    for entry in entries:
        serving = entry.in_state("production")
        if serving is not None and serving.key != entry.key:
            yield (
                f"{entry.name}: {serving.model} stays in production until you promote what was locked:"
                f" {step('promote', entry)}"
            )


def changed_tasks(run: Run) -> frozenset[str]:
    """The tasks of which the candidate pins something else than the lock.

    Raises:
        LockError: If there is no candidate, or it cannot be read.
    """
    candidate = read_lock(run.candidate)
    pinned = [{(e.task, e.stage, e.key) for e in lock.models} for lock in (candidate, run.accepted)]
    return frozenset(task for task, *_ in pinned[0] - pinned[1])


def check_candidate(run: Run, tasks: Iterable[str]) -> None:
    """Refuse a candidate that is not what the tasks file asks for now, or is older than what the lock pins by now.

    Raises:
        DriftError: If the tasks file would build a stage otherwise: it would be locked, and refused by CI.
        LockError: If the lock has gone on since it was built, or a version was retired.
    """
    pinning = run.evaluations.pinning
    for name in tasks:
        pinned = {entry.stage: entry for entry in run.accepted.models if entry.task == name}
        entries = pinning.lock.of_task(name)
        run.accepted.with_entries(entries)
        for entry in entries:
            before = pinned.get(entry.stage)
            if before is None or before.key != entry.key:
                _check_built(entry, pinning.drifts(run.tasks[name], entry.stage))
            if before is not None and before.key not in {version.key for version in entry.versions}:
                raise LockError(
                    f"{entry.name}: the candidate was built when the lock did not pin {before.identity} yet:"
                    f" {_another(entry)}"
                )


def _check_built(entry: Entry, drifts: Sequence[Drift]) -> None:
    if drifts:
        listed = "\n".join(f"  {drift.message}" for drift in drifts)
        raise DriftError(
            f"{entry.name}: the candidate is not what the tasks file asks for:\n{listed}\n"
            f"Undo the change, or {_another(entry)}"
        )


def _another(entry: Entry) -> str:
    return (
        f"make another candidate, for which jobs that fit are taken up again: pytest-finetune train {entry.task}, or"
        " pytest-finetune jobs adopt"
    )


def _scored(run: Run, entry: Entry, results: Sequence[Result]) -> Entry:
    """The entry with its rows, its score, and the claims that are about it."""
    bench = Bench(entry.task)
    score = run.evaluations.score(bench, entry.stage)
    suites = {
        suite: scored_rows(run.tasks[entry.task].held_out(suite), _kept(run, Bench(entry.task, suite), entry.stage))
        for suite in run.evaluations.suites(entry.task, entry.stage)
    }
    about = [result for result in results if entry.stage in {score.stage for score in result.scores}]
    about.sort(key=lambda result: result.claim)  # however the tests were run
    return entry.model_copy(
        update={
            "score": Score(mean=score.mean, n=score.n, format_errors=score.format_errors),
            "artifacts": entry.artifacts.model_copy(
                update={"rows": _kept(run, bench, entry.stage), "suites": suites},
            ),
            "gate": tuple(_settled(run, result, len(results)) for result in about),
            "served_models": served_models(entry, run.evaluations.rows(bench, entry.stage)),
        }
    )


def _settled(run: Run, result: Result, claims: int) -> SettledClaim:
    """A claim as it was settled, with the rows of each of its stages, and what answered them."""
    rows = [_kept(run, Bench(result.task, score.suite), score.stage) for score in result.scores]
    pinned = run.evaluations.pinning.lock
    keys = [pinned.entry(result.task, score.stage).key for score in result.scores]
    return SettledClaim.of(result, rows, keys, claims)


def _kept(run: Run, bench: Bench, stage: str) -> str:
    """The reference of a stage's rows, which are kept beside the lock."""
    return run.artifacts(bench.task).put_rows(run.evaluations.rows(bench, stage))

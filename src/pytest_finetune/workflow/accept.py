"""Letting a candidate into the lock, with the rows and the claims it was accepted on."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_finetune.core.results import Result
from pytest_finetune.lock.file import read_lock, update_lock
from pytest_finetune.lock.model import Entry, Score, SettledClaim
from pytest_finetune.workflow.evaluations import Bench
from pytest_finetune.workflow.run import Run
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
    update_lock(run.settings.lock, entries)
    return [f"{task}: locked in {run.settings.lock}"]


def changed_tasks(run: Run) -> frozenset[str]:
    """The tasks of which the candidate pins something else than the lock.

    Raises:
        LockError: If there is no candidate, or it cannot be read.
    """
    candidate = read_lock(run.candidate)
    pinned = [
        {(e.task, e.stage, e.identity, e.artifacts.program) for e in lock.models}
        for lock in (candidate, run.accepted)
    ]
    return frozenset(task for task, *_ in pinned[0] - pinned[1])


def _scored(run: Run, entry: Entry, results: Sequence[Result]) -> Entry:
    """The entry with its rows, its score, and the claims that are about it."""
    bench, task = Bench(entry.task), run.tasks[entry.task]
    rows, score = run.evaluations.rows(bench, entry.stage), run.evaluations.score(bench, entry.stage)
    suites = {
        suite: scored_rows(
            task.held_out(suite),
            run.artifacts.put_rows(run.evaluations.rows(Bench(entry.task, suite), entry.stage)),
        )
        for suite in run.evaluations.suites(entry.task, entry.stage)
    }
    about = [result for result in results if entry.stage in {score.stage for score in result.scores}]
    about.sort(key=lambda result: result.claim)  # however the tests were run
    return entry.model_copy(
        update={
            "score": Score(mean=score.mean, n=score.n, format_errors=score.format_errors),
            "artifacts": entry.artifacts.model_copy(update={"rows": run.artifacts.put_rows(rows), "suites": suites}),
            "gate": tuple(SettledClaim.of(r.claim, r.verdict, r.settlement) for r in about),
        }
    )

"""Letting a candidate into the lock, with the rows and the claims it was accepted on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pytest_finetune.core.results import Result
from pytest_finetune.lock.accepted import Score, SettledClaim
from pytest_finetune.lock.file import read_lock, update_lock
from pytest_finetune.lock.model import Entry
from pytest_finetune.lock.signatures import sign_again
from pytest_finetune.task import FINETUNED
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
        if serving is not None and serving.serves != entry.serves:
            stage = "" if entry.stage == FINETUNED else f" --stage {entry.stage}"
            yield (
                f"{entry.name}: {serving.model} stays in production until you promote what was locked:"
                f" pytest-finetune promote {entry.task}{stage}"
            )


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
            "gate": tuple(_settled(run, result) for result in about),
            "served_models": served_models(entry, run.evaluations.rows(bench, entry.stage)),
        }
    )


def _settled(run: Run, result: Result) -> SettledClaim:
    """A claim as it was settled, and the rows of each of its stages."""
    rows = [_kept(run, Bench(result.task, score.suite), score.stage) for score in result.scores]
    return SettledClaim.of(result.claim, result.verdict, result.settlement, result.policy, rows)


def _kept(run: Run, bench: Bench, stage: str) -> str:
    """The reference of a stage's rows, which are kept beside the lock."""
    return run.artifacts(bench.task).put_rows(run.evaluations.rows(bench, stage))

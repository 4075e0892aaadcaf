"""Before a retrain: what cannot work, and what a cap would stop, is refused before anything is asked of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pytest_finetune.core.checklist import Checklist
from pytest_finetune.errors import UsageError
from pytest_finetune.reports.check import advice, refusal
from pytest_finetune.task import Task
from pytest_finetune.workflow.check import Report, check
from pytest_finetune.workflow.jobs import Jobs
from pytest_finetune.workflow.run import Run


def preflight(run: Run, tasks: Sequence[str], report: Report) -> None:
    """Before a retrain: refuse what cannot work, and say in a line what could be better. Nothing is asked.

    Args:
        run: With ``skip_check`` in its settings, nothing is looked at.
        tasks: Their names.
        report: Is given the advice.

    Raises:
        UsageError: If a task cannot work, with the reasons; nothing was spent.
    """
    if run.settings.skip_check:
        return
    found = [_within_cap(run, checklist, report) for checklist in check(run, tasks, report=report)]
    for checklist in found:
        if checklist.stops:
            raise UsageError(refusal(checklist))
    for checklist in found:
        for line in advice(checklist):
            report(line)


def _within_cap(run: Run, checklist: Checklist, report: Report) -> Checklist:
    """Without its cost, where a job was handed in before: what was paid for is not paid again."""
    if not any(finding.name == "cost" for finding in checklist.stops):
        return checklist
    task = run.tasks[checklist.task]
    if not _jobs(run, task, report).has_begun(task):
        return checklist
    report(f"{task.id}: a job was handed in before, so that only what it does not cover is held against the cap.")
    return replace(checklist, findings=tuple(one for one in checklist.findings if one.name != "cost"))


def check_training_price(run: Run, task: Task, report: Report) -> None:
    """Refuse a cap where nobody knows what training costs, unless a job was handed in before.

    Raises:
        UsageError: Naming the price that is missing; nothing was asked.
    """
    if run.settings.max_cost is None:
        return
    try:
        run.lines.budget(run.endpoint(task)).training(task.student, 0)
    except UsageError:
        if not _jobs(run, task, report).has_begun(task):
            raise


def _jobs(run: Run, task: Task, report: Report) -> Jobs:
    return Jobs(run, report, run.endpoint(task).name)

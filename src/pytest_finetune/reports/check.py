"""A checklist in words: the answer first, then why, then what was found, the worst first."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from pytest_finetune.core.checklist import Answer, Checklist, Finding, State
from pytest_finetune.reports.figures import printable

WIDTH = 110
_WORST_FIRST = (State.STOP, State.ADVICE, State.UNKNOWN, State.OK)
_TUNES = {Answer.QUALITY, Answer.COST}


def check_lines(checklist: Checklist) -> Iterator[str]:
    """The whole checklist of a task."""
    yield printable(f"{checklist.task}: {checklist.answer}")
    yield from _wrapped("  why:  ", f"{checklist.because.evidence}{_wanted(checklist.because)}")
    steps = [checklist.because.next_step] if checklist.because.next_step else []
    if checklist.answer in _TUNES:
        steps.append(f"pytest --ft-retrain --ft-task {checklist.task}")
    for step in steps:
        yield from _wrapped("  next: ", step)
    yield ""
    width = max(len(finding.name) for finding in checklist.findings)
    for state in _WORST_FIRST:
        for finding in checklist.findings:
            if finding.state is state:
                yield from _finding(finding, width, shown=finding is not checklist.because)


def _finding(finding: Finding, width: int, *, shown: bool) -> Iterator[str]:
    """Two lines at the most for most: what was seen, and what to do, where the answer has not said it yet."""
    lead = f"  {finding.state:<8}{finding.name:<{width}}  "
    yield from _wrapped(lead, f"{finding.evidence}{_wanted(finding)}")
    if shown and finding.next_step and finding.state is not State.OK:
        yield from _wrapped(" " * len(lead), f"-> {finding.next_step}")


def refusal(checklist: Checklist) -> str:
    """Why a task is not built: what cannot work, and how to go on."""
    stops = "\n".join(
        f"  {finding.name}: {finding.evidence}{_wanted(finding)}: {finding.next_step}" for finding in checklist.stops
    )
    return (
        f"task {checklist.task!r} cannot work as it is, and nothing was spent:\n{stops}\n"
        f"All of it: pytest-finetune check {checklist.task}. To build all the same: --ft-skip-check (of train:"
        " --skip-check)"
    )


def advice(checklist: Checklist) -> Iterator[str]:
    """What could be better, in one sentence; nothing where there is nothing."""
    found = [f"{finding.evidence}{_wanted(finding)}" for finding in checklist.advised]
    if found:
        sentence = f"{checklist.task}: {'; '.join(found)}. More: pytest-finetune check {checklist.task}"
        yield from _wrapped("", sentence, indent="  ")


def _wanted(finding: Finding) -> str:
    return f" (wanted: {finding.threshold})" if finding.threshold else ""


def _wrapped(lead: str, text: str, *, indent: str | None = None) -> list[str]:
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * len(lead) if indent is None else indent,
        break_on_hyphens=False,
        break_long_words=False,
    )

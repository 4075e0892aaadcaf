"""A plan in words: for each task what its stages take, what its rows can certify, and both in a few sentences."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Container, Iterator, Sequence

from pytest_finetune.core.plan import POWER, Asking, Outlook, Plan, RowsPlan, TaskPlan, Total, Training
from pytest_finetune.reports.figures import printable

WIDTH = 110
_GAP = "  "


def plan_lines(plan: Plan) -> Iterator[str]:
    """The whole plan."""
    for task in plan.tasks:
        yield from _task(plan, task)
        yield ""
    if len(plan.tasks) > 1:
        stages = [stage for task in plan.tasks for stage in task.stages]
        yield from _wrapped(f"A gated run of all tasks {_asks(stages)}.")


def _task(plan: Plan, task: TaskPlan) -> Iterator[str]:
    which = f"as {plan.lock} pins them" if task.locked else "as they would be built"
    yield printable(f"{task.task}: stages on {task.endpoint}, {which}")
    yield from _table(_stage_cells(plan, task), words={"known from"})
    yield ""
    for rows in task.sets:
        yield from _table(_outlook_cells(rows))
        yield ""
    for sentence in _sentences(plan, task):
        yield from _wrapped(sentence)


# --- tables ---------------------------------------------------------------------------------------------------


def _stage_cells(plan: Plan, task: TaskPlan) -> Iterator[list[str]]:
    share = ["share"] if plan.stop_early else []
    yield ["stage", "answers", "stored", "asked", *share, "calls", "tokens", "cost", "known from"]
    for rows in task.sets:
        for stage in rows.stages:
            yield [
                f"{stage.stage}{_on(rows)}",
                f"{stage.answers:,}",
                f"{stage.answers - stage.asked:,}",
                f"{stage.asked:,}",
                *([_per_cent(stage.share)] if plan.stop_early else []),
                f"{stage.calls:,}",
                f"{stage.tokens:,}",
                _dollars(stage.cost),
                _source(stage),
            ]


def _source(stage: Asking) -> str:
    source = f"{stage.recorded:,} rows" if stage.recorded else "estimate"
    return source if stage.claimed else f"{source} (in no claim)"


def _outlook_cells(rows: RowsPlan) -> Iterator[list[str]]:
    margins = list(rows.outlooks[0].needed)
    yield [f"{_size(rows)}{_on(rows)}", "differ", "certify", *(f"rows for {margin:g}" for margin in margins)]
    for outlook in rows.outlooks:
        yield [
            _which(outlook),
            _per_cent(outlook.differ),
            "-" if outlook.certifiable is None else _margin(outlook.certifiable),
            *(f"{outlook.needed[margin]:,}" for margin in margins),
        ]


def _which(outlook: Outlook) -> str:
    if outlook.between is not None:
        return " and ".join(outlook.between)
    return "if some rows differ" if outlook.differ else "if no row differs"


def _table(rows: Iterator[list[str]], *, words: Container[str] = ()) -> Iterator[str]:
    """Aligned columns; the first and those with these headings hold words, the others figures."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for cells in lines:
        aligned = [
            cell.ljust(width) if at == 0 or lines[0][at] in words else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        yield printable(f"{_GAP}{_GAP.join(aligned)}".rstrip())


# --- sentences ------------------------------------------------------------------------------------------------


def _sentences(plan: Plan, task: TaskPlan) -> Iterator[str]:
    if task.drift is not None:
        yield f"The lock cannot be gated as it is: {task.drift}"
    for rows in task.sets:
        yield from _certifies(plan, rows)
    yield f"A gated run {_asks(task.stages)}."
    if any(not stage.recorded and stage.asked for stage in task.stages):
        yield (
            "An estimate counts four bytes of a prompt as a token; what an optimizer will add to the prompts of"
            " a stage that is not built is not in it."
        )
    yield _retrain(task)
    for model in Total.of(task.stages).unpriced:
        yield (
            f"The price of {model!r} is unknown: add [tool.pytest-finetune.prices.{model!r}] with prompt and"
            " completion, in US dollars for a million tokens, to pyproject.toml."
        )
    if task.judges:
        yield f"Scoring asks {', '.join(map(repr, task.judges))} too, which is not planned."


def _certifies(plan: Plan, rows: RowsPlan) -> Iterator[str]:
    outlook, needed = rows.deciding, f"{plan.margin:g} takes about {_about(rows.deciding.needed[plan.margin])}"
    if outlook.certifiable is None:
        yield f"{_size(rows)}{_on(rows)} are too few to certify any margin; {needed}."
    else:
        yield f"{_size(rows)}{_on(rows)} can certify a margin of {_margin(outlook.certifiable)}; {needed}."
    as_seen = " (a guess)"
    if outlook.between is not None:
        as_seen = ", as {} and {} did".format(*outlook.between)
    yield (
        f"That is for stages as good as each other that differ on {_per_cent(outlook.differ)} of the rows{as_seen},"
        f" with power {POWER:g} at alpha {plan.alpha:g}."
    )


def _asks(stages: Sequence[Asking]) -> str:
    """``takes 960 calls, about 257,000 tokens, $0.07``."""
    claimed = Total.of(stage for stage in stages if stage.claimed)
    everything = Total.of(stages)
    said = f"takes {_taken(claimed)}"
    if everything != claimed:
        said += f"; with the stages that no claim looked at when they were locked, {_taken(everything)}"
    return said


def _taken(total: Total) -> str:
    cost = f"at a cost that is {_dollars(None)}" if total.cost is None else _dollars(total.cost)
    return f"{total.calls:,} calls, about {_about(total.tokens)} tokens, {cost}"


def _retrain(task: TaskPlan) -> str:
    training = task.training
    rest = f"what its optimizer and its recipe ask is not planned. {_diagnosis(training)}"
    if training.tokens is None:
        return (
            f"What a retrain's job costs is {_dollars(None)}: to know it takes n_epochs in the task's"
            f" hyperparameters, and data with all that the program gives; {rest}"
        )
    source = "as the last one did" if training.measured else "an estimate from the gold answers"
    cost = _for(training.cost)
    return f"A retrain's job trains on about {_about(training.tokens)} tokens ({source}) {cost}; {rest}"


def _diagnosis(training: Training) -> str:
    if not training.asked:
        return "Its model is not diagnosed by its answers (diagnosis = false)."
    return f"Then its model is asked about {training.asked:,} rows {_for(training.asking)}, to diagnose it."


def _for(cost: float | None) -> str:
    return f"for {_dollars(cost)}" if cost is not None else f"at a price that is {_dollars(None)}"


def _wrapped(sentence: str) -> list[str]:
    return textwrap.wrap(printable(sentence), WIDTH, subsequent_indent=_GAP, break_on_hyphens=False)


# --- figures --------------------------------------------------------------------------------------------------


def _on(rows: RowsPlan) -> str:
    return "" if rows.suite is None else f" on {rows.suite}"


def _size(rows: RowsPlan) -> str:
    return f"{rows.rows:,} rows" + ("" if rows.groups is None else f" in {rows.groups:,} groups")


def _dollars(cost: float | None) -> str:
    return "unknown" if cost is None else f"${cost:,.4f}"


def _per_cent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _margin(margin: float) -> str:
    """Rounded up, so that no more is promised than holds."""
    return f"{math.ceil(margin * 1000) / 1000:.3f}"


def _about(figure: int) -> str:
    """Two significant digits."""
    digits = max(len(str(figure)) - 2, 0)
    return f"{round(figure, -digits):,}"

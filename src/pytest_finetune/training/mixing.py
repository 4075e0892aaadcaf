"""Rows of other work in a training file, so that the model does not forget it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_finetune.errors import UsageError
from pytest_finetune.training.contents import served_prompts
from pytest_finetune.training.optimizers import draw
from pytest_finetune.training.rows import gold_calls, written

if TYPE_CHECKING:
    from pytest_finetune.task import Task


def mixed_rows(task: Task, count: int) -> list[dict[str, Any]]:
    """Write the rows that are mixed into a training file: the same ones for the same data and seed.

    Args:
        task: Its ``mix``, seed and adapter are used.
        count: Rows of the task itself in the file.

    Returns:
        Rows for their share of the file, or all there are.

    Raises:
        UsageError: If the mixed rows lack a field of their program.
    """
    mix = task.mixed
    if mix is None:
        return []
    program, rows = (mix.program or task.program)(), mix.dataset.rows("all")
    wanted = round(mix.share / (1 - mix.share) * count)
    recording = [gold_calls(program, row, without_reasoning=True) for row in draw(rows, wanted, task.seed)]
    return written(task.make_adapter(), program, recording)[:wanted]


def mixed_prompts(task: Task) -> set[str]:
    """The system prompts of the rows that are mixed in."""
    if task.mixed is None:
        return set()
    return set(served_prompts((task.mixed.program or task.program)(), task.make_adapter()).values())


def check_mix(task: Task) -> None:
    """Refuse rows that cannot be mixed in, before anything is asked.

    Raises:
        UsageError: If one of them lacks a field of their program.
        DatasetError: If they cannot be read.
    """
    if task.mixed is None:
        return
    program = (task.mixed.program or task.program)()
    for row in task.mixed.dataset.rows("all"):
        try:
            gold_calls(program, row, without_reasoning=True)
        except UsageError as error:
            raise UsageError(
                f"mix: {str(error).partition(': train on')[0]}: give the program that these rows are of, "
                "Mix(dataset, program=lambda: …)"
            ) from None

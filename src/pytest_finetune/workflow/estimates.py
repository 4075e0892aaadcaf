"""Tokens by the length of what would be sent, where nothing has been recorded; see `tokens_in`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_finetune import programs
from pytest_finetune.core.pricing import tokens_in
from pytest_finetune.dataset import DataRow
from pytest_finetune.errors import UsageError
from pytest_finetune.evaluate.stages import StageRun
from pytest_finetune.task import Task
from pytest_finetune.training.contents import tokens_of_file
from pytest_finetune.training.rows import gold_calls, to_jsonl, written

if TYPE_CHECKING:
    import dspy

_UNSEEN = 100  # tokens that a field of the answer is taken to have which the data do not hold, such as a reasoning
_SAMPLE = 50  # rows that are looked at; they are in salted hash order, so the first are like the others


def tokens_of_a_row(stage: StageRun, rows: Sequence[DataRow]) -> tuple[float, float]:
    """Tokens sent and received for a row, if every predictor is called once.

    What other predictors give is left out of a prompt, as is what an optimizer has not put there yet.

    Raises:
        UsageError: If the adapter cannot write a prompt.
    """
    sample = rows[:_SAMPLE]
    predictors = programs.predictors(stage.program).values()
    calls = [_tokens_of_a_call(stage, predictor, row) for row in sample for predictor in predictors]
    sent, received = (sum(tokens) for tokens in zip(*calls, strict=True)) if calls else (0.0, 0.0)
    return sent / max(len(sample), 1), received / max(len(sample), 1)


def training_tokens(task: Task) -> int | None:
    """Tokens of a job that trains on the gold answers of every training row; None where they cannot be told.

    That takes data with every field that the program gives, and a number of epochs in the task.
    """
    epochs, rows = task.hyperparameters.get("n_epochs"), task.dataset.rows("train")
    if not isinstance(epochs, int) or not rows:
        return None
    program, sample = task.program(), rows[:_SAMPLE]
    try:
        calls = [gold_calls(program, row, without_reasoning=True) for row in sample]
    except UsageError:  # the data lack a field of the program
        return None
    lines = written(task.make_adapter(), program, calls)
    return round(tokens_of_file(to_jsonl(lines)) / len(sample) * len(rows) * epochs)


def _tokens_of_a_call(stage: StageRun, predictor: dspy.Predict, row: DataRow) -> tuple[float, float]:
    signature, fields = predictor.signature, row.fields
    inputs = {name: fields[name] for name in signature.input_fields if name in fields}
    outputs = {name: fields.get(name, "") for name in signature.output_fields}
    try:
        sent = stage.adapter.format(signature, predictor.demos, inputs)
        received = stage.adapter.format_assistant_message_content(signature, outputs)
    except Exception as error:
        raise UsageError(
            f"task {stage.task!r}, stage {stage.name!r}, row {row.row_id} ({row.where}):"
            f" {type(stage.adapter).__name__} cannot write its messages: {type(error).__name__}: {error}"
        ) from error
    unseen = sum(name not in fields for name in outputs)
    tokens = sum(tokens_in(str(message["content"])) for message in sent)
    return tokens, tokens_in(received) + _UNSEEN * unseen

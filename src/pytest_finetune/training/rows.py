"""Training rows: what the served program will be asked, and what it should have said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_finetune.errors import TrainingError, UsageError
from pytest_finetune.programs import predictors

if TYPE_CHECKING:
    import dspy

    from pytest_finetune.dataset import DataRow

REASONING = "reasoning"
"""The field that ``dspy.ChainOfThought`` puts before the others, and that labelled data lack."""

NO_REASONING = "As in the labelled examples."
"""What gold rows hold as reasoning: the same few words on every row, so that the label alone is learnt, while the
answers stay parseable by the unchanged program. See `gold_rows`."""

Call = tuple[str, Mapping[str, Any], Mapping[str, Any]]
"""What one predictor does on one row: its name in the program, its inputs, its outputs."""


def check_adapter(adapter: dspy.Adapter) -> None:
    """Refuse an adapter whose prompts and answers cannot be written into a training file.

    Raises:
        UsageError: Before anything was asked of a model.
    """
    import dspy

    if not isinstance(adapter, dspy.ChatAdapter):  # JSONAdapter and XMLAdapter are ChatAdapters
        raise UsageError(
            f"training rows cannot be written for the adapter {type(adapter).__name__}: "
            "set the task's adapter to 'chat', 'json' or 'xml'"
        )


def training_row(
    adapter: dspy.Adapter, signature: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> dict[str, Any]:
    """Write one call as a row of a training file: the messages that the adapter sends, and the answer it parses.

    DSPy's own ``format_finetune_data`` does so for ChatAdapter only (3.4: JSONAdapter raises).

    Args:
        adapter: See `check_adapter`.
        signature: The predictor's, as it will be served.
        inputs: A value for each input field.
        outputs: A value for each output field.
    """
    prompt = adapter.format(signature=signature, demos=[], inputs=dict(inputs))
    answer = adapter.format_assistant_message_content(signature=signature, outputs=dict(outputs))
    return {"messages": [*prompt, {"role": "assistant", "content": answer}]}


def to_jsonl(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Write rows as JSON Lines, in the order of their hashes: the same bytes whatever the order of rows and keys.

    Raises:
        TrainingError: If a row holds what JSON or UTF-8 cannot.
    """
    try:
        texts = [json.dumps(_ordered(row), ensure_ascii=False, separators=(",", ":")) for row in rows]
        lines = [text.encode() + b"\n" for text in texts]
    except (TypeError, ValueError) as error:
        raise TrainingError(
            f"a training row cannot be written as JSON in UTF-8: {error}. Nothing was uploaded. Next: mend what "
            "makes the row: the recipe, or the data"
        ) from error
    return b"".join(sorted(lines, key=lambda line: hashlib.sha256(line).digest()))


def _ordered(value: Any) -> Any:
    """Keys backwards by name: ``role`` comes before ``content``, as everyone writes it."""
    if isinstance(value, Mapping):
        return {key: _ordered(value[key]) for key in sorted(value, reverse=True)}
    return [_ordered(item) for item in value] if isinstance(value, list) else value


def gold_calls(program: dspy.Module, row: DataRow, *, without_reasoning: bool) -> list[Call]:
    """What each predictor of a program should do on a row, by the row's own fields: a trace without any call.

    Args:
        program: As it will be served.
        row: With the gold outputs.
        without_reasoning: Whether a missing ``reasoning`` is made up by `NO_REASONING`.

    Raises:
        UsageError: If the row lacks a field that a predictor takes or gives.
    """
    known = {**({REASONING: NO_REASONING} if without_reasoning else {}), **row.fields}
    calls: list[Call] = []
    for name, predictor in predictors(program).items():
        signature = predictor.signature
        missing = [field for field in (*signature.input_fields, *signature.output_fields) if field not in known]
        if missing:
            raise UsageError(
                f"the data ({row.where}) have no field {missing[0]!r}, which the program's predictor {name!r} needs: "
                "train on traces instead (recipe='bootstrap' or 'distill')"
            )
        calls.append((name, _values(known, signature.input_fields), _values(known, signature.output_fields)))
    return calls


def written(adapter: dspy.Adapter, program: dspy.Module, recording: Iterable[Sequence[Call]]) -> list[dict[str, Any]]:
    """Write recorded calls as rows, with the instructions of the program that will be served."""
    signatures = {name: predictor.signature for name, predictor in predictors(program).items()}
    calls = (call for row in recording for call in row)
    return [training_row(adapter, signatures[name], inputs, outputs) for name, inputs, outputs in calls]


def gold_file(
    adapter: dspy.Adapter, program: dspy.Module, rows: Sequence[DataRow], *, without_reasoning: bool
) -> bytes | None:
    """Write rows with their gold outputs as JSON Lines; None where the data lack a field of the program."""
    try:
        recording = [gold_calls(program, row, without_reasoning=without_reasoning) for row in rows]
    except UsageError:
        return None
    return to_jsonl(written(adapter, program, recording))


def _values(known: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    return {field: known[field] for field in fields}

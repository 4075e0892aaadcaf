"""One question -> one answer, and what it means when there is none.

Three ends, told apart by whose fault it is:

* scored: there is an answer; the metric says what it is worth.
* format_error: the model's (or the stage's) fault, worth 0. ``unparseable``: the adapter could not read the answer;
  ``truncated``: it ended at ``max_tokens``; ``refused``: by the model or a filter before it; ``prompt too long``:
  for the model, which no retry changes; ``not a value``: NaN, infinity or half a character in it.
* error: the infrastructure's fault, never a score. A request failed after all retries (also where the program
  swallowed the failure and answered all the same), took too long, or the program itself raised something.
"""

from __future__ import annotations

import asyncio
import copy
import enum
import math
import time
import traceback
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_finetune.calls.engine import Calling
from pytest_finetune.calls.failures import concerns_all, is_refusal, is_unknown_model, remedy, scrubbed
from pytest_finetune.calls.notes import NOTES, Notes
from pytest_finetune.core.fingerprint import canonical_json
from pytest_finetune.core.records import Row, RowState
from pytest_finetune.dataset.dataset import to_example
from pytest_finetune.errors import EndpointError, NotDeployed, UsageError
from pytest_finetune.evaluate.attach import attach
from pytest_finetune.evaluate.stages import Question, StageRun
from pytest_finetune.metrics import Metric
from pytest_finetune.secrets import redacted

if TYPE_CHECKING:
    import dspy

ROW_LIMIT = 10  # a row may take so many times as long as one answer may


class Failing(enum.Enum):
    """Who is to be asked about a row without an answer."""

    ENDPOINT = "endpoint"
    PROGRAM = "program"


@dataclass(frozen=True)
class Answer:
    """A row without its score.

    Attributes:
        row: To be stored.
        attempts: Requests it took.
        failing: Who failed, where the row is an error.
        hopeless: Every other row of the stage would end in the same way.
    """

    row: Row
    attempts: int = 0
    failing: Failing | None = None
    hopeless: EndpointError | None = None


class Asker:
    """Runs a stage's program on single rows.

    Args:
        stage: What is run.
        calling: How models are asked, shared by all stages.

    Raises:
        UsageError: If the program has no usable LM.
    """

    def __init__(self, stage: StageRun, calling: Calling) -> None:
        self._stage = stage
        self._calling = calling
        self._program, self._lms = attach(stage.program, stage.name, calling)
        self._types = _output_types(self._program)

    def ask(self, question: Question) -> Answer:
        """Run the program on a row.

        Raises:
            UsageError: What the program gave cannot be kept, or it asked a model from a thread of its own.
        """
        import dspy
        from dspy.utils.exceptions import AdapterParseError, ContextWindowExceededError

        # A copy, since a program may change what it is given, and other stages are given the same row.
        inputs = copy.deepcopy({name: question.row.fields[name] for name in question.row.inputs})
        notes = Notes(until=time.monotonic() + ROW_LIMIT * self._calling.timeout)
        prediction, raised = None, None
        context = {
            "lm": self._lms[0],
            "adapter": self._stage.adapter,
            "trace": [],
            "disable_history": True,
            NOTES: notes,
        }
        try:
            with dspy.context(**context):
                prediction = self._answered(inputs)
        except Exception as error:  # noqa: BLE001  # whatever the program raises, the row has its end
            raised = error
        if self._calling.strays:
            raise UsageError(
                f"stage {question.stage.name}: the program asks {self._calling.strays[0]!r} from a thread that it"
                " made itself, which knows neither the row nor the adapter: use dspy.Parallel, or run the thread in"
                " contextvars.copy_context()"
            )
        if notes.failure is not None:
            return self._outage(question, notes, notes.failure)
        if isinstance(raised, AdapterParseError):
            return _answer(question, notes, RowState.FORMAT_ERROR, output=raised.lm_response, error=_unread(notes))
        if isinstance(raised, ContextWindowExceededError):
            return _answer(question, notes, RowState.FORMAT_ERROR, error=f"prompt too long: {scrubbed(raised)}")
        if raised is not None and is_refusal(raised):
            return _answer(question, notes, RowState.FORMAT_ERROR, error=f"refused: {scrubbed(raised)}")
        if raised is not None:
            error_text = f"program: raised {type(raised).__name__}: {scrubbed(raised)}{_raised_at(raised)}"
            return _answer(question, notes, RowState.ERROR, error=error_text, failing=Failing.PROGRAM)
        return self._kept(question, notes, prediction)

    def _answered(self, inputs: Mapping[str, Any]) -> Any:
        """A program that is ``async`` only has a loop of its own; one that is both is faster in a thread."""
        if hasattr(type(self._program), "forward"):  # of the instance, DSPy warns
            return self._program(**inputs)
        return asyncio.run(self._program.acall(**inputs))

    def score(self, question: Question, output: str, metric: Metric) -> float:
        """Score an answer as it is stored, so that a later scoring sees the same thing; more is better.

        Raises:
            UsageError: As `Metric.score` does; the message names the row.
        """
        where = f"stage {question.stage.name}, row {question.row.row_id} ({question.row.where})"
        score = metric.score(to_example(question.row), self._prediction(output), where=where)
        return score if metric.higher_is_better else 1.0 - score

    def close(self) -> None:
        """Close the connections."""
        for lm in self._lms:
            lm.engine.close()

    def _kept(self, question: Question, notes: Notes, prediction: Any) -> Answer:
        stage, row = question.stage.name, question.row
        if not hasattr(prediction, "items"):
            kind = type(prediction).__name__
            raise UsageError(f"stage {stage}: the program gave a {kind}; it must give a dspy.Prediction")
        fields = dict(prediction.items())
        try:
            output = canonical_json(fields).decode()
        except UsageError as error:
            if not _is_broken(fields):
                raise UsageError(f"stage {stage}, row {row.row_id} ({row.where}): the answer: {error}") from error
            return _answer(question, notes, RowState.FORMAT_ERROR, output=notes.text, error=f"not a value: {error}")
        return _answer(question, notes, RowState.SCORED, output=output)

    def _outage(self, question: Question, notes: Notes, failure: Exception) -> Answer:
        text = f"{getattr(failure, 'code', None) or type(failure).__name__}: {scrubbed(failure)}".rstrip(".")
        hopeless: EndpointError | None = None
        rest = "No other row would fare better, so the evaluation ended; what was answered is kept"
        if is_unknown_model(failure):
            hopeless = NotDeployed(
                f"stage {self._stage.name}: model {notes.failing!r} is not deployed: {text}. Deploy it under that"
                f" name, or say in pyproject.toml how (deploy and probe; docs/endpoints.md). {rest}"
            )
        elif concerns_all(failure):
            hopeless = EndpointError(
                f"stage {self._stage.name}: the endpoint refused to ask model {notes.failing!r}: {text}. {rest}."
                f" Next: {remedy(failure)}, then run again"
            )
        error = f"{text} (after {notes.attempts} requests)"
        return _answer(question, notes, RowState.ERROR, error=error, failing=Failing.ENDPOINT, hopeless=hopeless)

    def _prediction(self, output: str) -> dspy.Prediction:
        import json

        import dspy
        from pydantic import ValidationError

        fields = json.loads(output)
        for name, adapter in self._types.items():
            try:
                fields[name] = adapter.validate_python(fields[name])
            except (KeyError, ValidationError):  # the program made something else of the field
                continue
        return dspy.Prediction(**fields)


def abandoned(question: Question, seconds: float) -> Answer:
    """The end of a row whose program did not come back."""
    error = f"timeout: the program was still running after {seconds:.0f} s"
    return _answer(question, Notes(until=0), RowState.ERROR, error=error, failing=Failing.PROGRAM)


def _answer(
    question: Question,
    notes: Notes,
    state: RowState,
    *,
    output: str | None = None,
    error: str | None = None,
    failing: Failing | None = None,
    hopeless: EndpointError | None = None,
) -> Answer:
    row = Row(
        question.row.row_id,
        question.stage.name,
        question.repeat,
        state,
        output=output,
        usage=notes.usage,
        latency=notes.latency,
        error=None if error is None else redacted(error),
        served_model=notes.served_model,
    )
    return Answer(row, notes.attempts, failing, hopeless)


def _unread(notes: Notes) -> str:
    if notes.refusal is not None:
        return f"refused: the model said: {notes.refusal}"
    if notes.finish == "content_filter":
        return "refused: a content filter ended the answer"
    if notes.finish == "length":
        return "truncated: the answer ended at the limit of tokens; raise max_tokens if it is too low"
    return "unparseable: the answer does not have the fields that the adapter asked for"


def _is_broken(value: object) -> bool:
    """Whether the model gave what no JSON can hold: NaN, infinity, half a character."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, Mapping):
        return any(map(_is_broken, value.values()))
    return isinstance(value, list | tuple | set | frozenset) and any(map(_is_broken, value))


def _output_types(program: dspy.Module) -> dict[str, Any]:
    """Readers for the output fields whose values JSON alone does not give back: models, enums, dates."""
    from pydantic import TypeAdapter

    types = {}
    for _, predictor in program.named_predictors():
        for name, field in predictor.signature.output_fields.items():
            types[name] = field.annotation
    plain = (str, int, float, bool)
    return {
        name: TypeAdapter(kind)
        for name, kind in types.items()
        if kind not in plain and typing.get_origin(kind) is not typing.Literal
    }


def _raised_at(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f" ({Path(last.filename).name}:{last.lineno})"

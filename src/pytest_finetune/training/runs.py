"""A program run over rows while stages are built: its predictions, its traces, and what went wrong."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any, cast

from pytest_finetune.calls.failures import InARow, may_concern_the_prompt, of_the_endpoint, remedy
from pytest_finetune.calls.notes import NOTES, Notes
from pytest_finetune.errors import JudgeError, TrainingError, UsageError

if TYPE_CHECKING:
    import dspy

    from pytest_finetune.metrics import Metric


@dataclass(frozen=True, slots=True)
class Run:
    """One row, asked once.

    Attributes:
        example: The row.
        prediction: What the program gave; None if it failed on this row.
        trace: ``(predictor, inputs, outputs)`` for each call that a predictor made.
        failure: Why there is no prediction.
        accepted: Whether the row may be trained on; see `judge`.
    """

    example: dspy.Example
    prediction: dspy.Prediction | None
    trace: tuple[tuple[Any, Any, Any], ...] = ()
    failure: str = ""
    accepted: bool = False

    def score(self, metric: Metric) -> float:
        """The metric's value, higher better; 0 where the program failed."""
        return 0.0 if self.prediction is None else metric(self.example, self.prediction)


def judge(run: Run, metric: Metric) -> Run:
    """Ask the metric whether a row may be trained on; where it fails, the row counts as one without a prediction."""
    if run.prediction is None:
        return run
    try:
        return replace(run, accepted=metric.accepts(run.example, run.prediction, list(run.trace)))
    except UsageError as error:
        return replace(run, prediction=None, failure=str(error))


def run_program(
    program: dspy.Module, examples: Sequence[dspy.Example], *, adapter: dspy.Adapter, concurrency: int
) -> tuple[Run, ...]:
    """Ask a program about every example.

    A row on which the program itself fails (an answer that cannot be parsed, a prompt that is too long, an
    exception of its own) is a run without a prediction. The first row is asked alone, so that an endpoint which
    answers nothing takes one request.

    Args:
        program: With its LMs attached.
        examples: With their inputs marked.
        adapter: How prompts are written.
        concurrency: Threads.

    Returns:
        A run for each example, in their order.

    Raises:
        TrainingError: If a row was lost to the endpoint, after the LM's own retries: it would be missing silently; or
            if the endpoint refused as many in a row as cannot be for the rows' sake (`InARow`).
    """
    refused = InARow(len(examples))

    def one(example: dspy.Example) -> Run:
        return copy_context().run(_run, program, example, adapter, refused)

    first = [one(example) for example in examples[:1]]
    with ThreadPoolExecutor(max_workers=max(1, min(concurrency, len(examples)))) as pool:
        futures = [pool.submit(one, example) for example in examples[1:]]
        try:
            return (*first, *(future.result() for future in futures))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run(program: dspy.Module, example: dspy.Example, adapter: dspy.Adapter, refused: InARow) -> Run:
    import dspy

    notes, raised = Notes(math.inf), None
    with dspy.context(adapter=adapter, trace=[], disable_history=True, **{NOTES: notes}):
        try:
            run = Run(example, program(**example.inputs()), tuple(dspy.settings.trace))
        except Exception as error:  # noqa: BLE001  # a user's program may raise anything
            run, raised = Run(example, None, failure=f"{type(error).__name__}: {error}"), error
    # a call that failed counts whatever the program made of it, as where a stage is evaluated
    _check([error for error in (raised, notes.failure) if error is not None], refused)
    return run


def _check(failed: Sequence[Exception], refused: InARow) -> None:
    """Tell the failures of an endpoint from those of a row."""
    lost = next(filter(of_the_endpoint, failed), None)
    if lost is not None:
        raise TrainingError(
            f"the endpoint failed while a row was asked, after retries ({type(lost).__name__}: {lost}). "
            f"Nothing is trained on a part of the rows. Next: {remedy(lost)}, then run again"
        ) from lost
    unclear = next(filter(may_concern_the_prompt, failed), None)
    if refused.add(failed=unclear is not None):
        raise TrainingError(
            f"the endpoint refused {refused.most} rows in a row, the last one with {type(unclear).__name__}: "
            f"{unclear}. Nothing is trained on the others. Next: see what of the request it refuses (the task's "
            "decoding, the model's name, the endpoint's extra_body), then run again"
        ) from unclear


def failure_note(runs: Sequence[Run], split: str) -> tuple[str, ...]:
    """A sentence on rows without a prediction, if there are any."""
    failures = [run.failure for run in runs if run.prediction is None]
    if not failures:
        return ()
    return (f"{len(failures):,} {split} rows gave no usable answer, the first: {_first_line(failures[0])}",)


class LostCalls:
    """Notices, within its block, calls that an endpoint lost while a DSPy optimizer, which hides them, was at work.

    Args:
        what: Who was at work, for the message.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.errors: list[str] = []
        self._refusals: defaultdict[str, _Refusals] = defaultdict(_Refusals)

    def callback(self) -> Any:
        """Give what ``dspy.context(callbacks=[…])`` wants."""
        from dspy.utils.callback import BaseCallback

        ended, models = self._ended, dict[str, str]()

        class Listener(BaseCallback):  # type: ignore[misc]  # dspy ships no types
            def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:  # noqa: ARG002
                models[call_id] = instance.model

            def on_lm_end(self, call_id: str, outputs: Any, exception: Exception | None = None) -> None:  # noqa: ARG002
                ended(models.pop(call_id), exception)

        return Listener()

    def _ended(self, model: str, error: Exception | None) -> None:
        said = f"{type(error).__name__}: {error}"
        if error is not None and of_the_endpoint(error):
            self.errors.append(said)
        else:
            self._refusals[model].add(said if error is not None and may_concern_the_prompt(error) else None)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note the failure of a judge, which no callback tells of where only its answer cannot be read."""
        try:
            yield
        except JudgeError as error:
            self.errors.append(str(error))
            raise

    def check(self) -> None:
        """Say so if calls were lost.

        Raises:
            TrainingError: Since a choice would rest on a part of the rows.
        """
        errors = self.errors + [error for one in self._refusals.values() if one.lost for error in one.errors]
        if errors:
            raise TrainingError(
                f"{len(errors):,} calls of {self.what} were lost to the endpoint, first by {errors[0]}. "
                "Its choice would rest on a part of the rows: see that the endpoint answers, then run again"
            )


class _Refusals:
    """Calls of one model that the endpoint refused; they are lost if that cannot be for the prompts' sake."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._in_a_row = InARow()
        self._too_many = self._answered = False

    @property
    def lost(self) -> bool:
        """Whether as many as `InARow` says came one after the other, or all of fewer."""
        return self._too_many or not self._answered

    def add(self, refusal: str | None) -> None:
        """Count a call that has ended; ``None``: it was not refused, or for its own sake."""
        self._too_many |= self._in_a_row.add(failed=refusal is not None)
        self._answered |= refusal is None
        self.errors += [refusal] if refusal is not None else []


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def mean_score(runs: Sequence[Run], metric: Metric) -> float:
    """The mean of the metric, higher better; a failed run counts 0."""
    return sum(run.score(metric) for run in runs) / len(runs)


_LOUD: ContextVar[bool] = ContextVar("loud", default=False)


class _Muted:
    """Stands in for a stream: only what is said `aloud` comes through.

    Threads may speak while another one falls silent, so that no stream is swapped for the length of a sentence.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return int(self._stream.write(text)) if _LOUD.get() else len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep DSPy's prints, progress bars and log lines from the terminal; what matters of them is raised or told."""
    logger = logging.getLogger("dspy")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with (
            contextlib.redirect_stdout(cast("IO[str]", _Muted(sys.stdout))),
            contextlib.redirect_stderr(cast("IO[str]", _Muted(sys.stderr))),
        ):
            yield
    finally:
        logger.setLevel(level)


def aloud(report: Callable[[str], None]) -> Callable[[str], None]:
    """Let a report reach the terminal, also from within `quiet`."""

    def speak(sentence: str) -> None:
        token = _LOUD.set(True)
        try:
            report(sentence)
        finally:
            _LOUD.reset(token)

    return speak

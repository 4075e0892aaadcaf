"""A program run over rows while stages are built: its predictions, its traces, and what went wrong."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any, cast

from pytest_finetune.calls.failures import remedy
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
        refused: The endpoint refused what it was sent, which may be for the row's sake: a filter, say.
        accepted: Whether the row may be trained on; see `judge`.
    """

    example: dspy.Example
    prediction: dspy.Prediction | None
    trace: tuple[tuple[Any, Any, Any], ...] = ()
    failure: str = ""
    refused: bool = False
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
    exception of its own) is a run without a prediction.

    Args:
        program: With its LMs attached.
        examples: With their inputs marked.
        adapter: How prompts are written.
        concurrency: Threads.

    Returns:
        A run for each example, in their order.

    Raises:
        TrainingError: If a row was lost to the endpoint, after the LM's own retries: it would be missing silently; or
            if the endpoint refused most of the rows, which is then not for their sake.
    """

    def one(example: dspy.Example) -> Run:
        return copy_context().run(_run, program, example, adapter)

    with ThreadPoolExecutor(max_workers=max(1, min(concurrency, len(examples)))) as pool:
        futures = [pool.submit(one, example) for example in examples]
        try:
            runs = tuple(future.result() for future in futures)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    _check_refusals(runs)
    return runs


def _check_refusals(runs: Sequence[Run]) -> None:
    refused = [run.failure for run in runs if run.refused]
    if len(refused) > len(runs) / 2:
        raise TrainingError(
            f"the endpoint refused {len(refused):,} of {len(runs):,} rows: {refused[0]}. Nothing is trained on the"
            " rest. Next: see what of the request it refuses (the task's decoding, the model's name, the endpoint's"
            " extra_body), then run again"
        )


def _run(program: dspy.Module, example: dspy.Example, adapter: dspy.Adapter) -> Run:
    import dspy

    with dspy.context(adapter=adapter, trace=[], disable_history=True):
        try:
            prediction = program(**example.inputs())
            return Run(example, prediction, tuple(dspy.settings.trace))
        except Exception as error:  # a user's program may raise anything
            if of_the_endpoint(error):
                raise TrainingError(
                    f"the endpoint failed while a row was asked, after retries ({type(error).__name__}: {error}). "
                    f"Nothing is trained on a part of the rows. Next: {remedy(error)}, then run again"
                ) from error
            return Run(example, None, failure=f"{type(error).__name__}: {error}", refused=_is_refusal(error))


def _is_refusal(error: BaseException) -> bool:
    """Whether the endpoint refused a request for another reason than its length, which is the row's."""
    from dspy.utils import exceptions as dspy_errors

    too_long = isinstance(error, dspy_errors.ContextWindowExceededError)
    return isinstance(error, dspy_errors.LMInvalidRequestError) and not too_long


def of_the_endpoint(error: BaseException) -> bool:
    """Whether a call failed through no fault of its row: no answer, no key, no such model, a limit."""
    from dspy.utils import exceptions as dspy_errors

    if isinstance(error, dspy_errors.LMInvalidRequestError):
        unknown = isinstance(error, dspy_errors.LMUnsupportedModelError)
        return unknown or getattr(error, "status", None) == 404  # also in other words than OpenAI's
    return isinstance(error, dspy_errors.LMError)


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

    def callback(self) -> Any:
        """Give what ``dspy.context(callbacks=[…])`` wants."""
        from dspy.utils.callback import BaseCallback

        errors = self.errors

        class Listener(BaseCallback):  # type: ignore[misc]  # dspy ships no types
            def on_lm_end(self, call_id: str, outputs: Any, exception: Exception | None = None) -> None:  # noqa: ARG002
                if exception is not None and of_the_endpoint(exception):
                    errors.append(f"{type(exception).__name__}: {exception}")

        return Listener()

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
        if self.errors:
            raise TrainingError(
                f"{len(self.errors):,} calls of {self.what} were lost to the endpoint, first by {self.errors[0]}. "
                "Its choice would rest on a part of the rows: see that the endpoint answers, then run again"
            )


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

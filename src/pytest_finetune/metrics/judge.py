"""Metrics that ask a model, and metrics that are ``async``."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_finetune.errors import JudgeError, UsageError

if TYPE_CHECKING:
    import dspy


@dataclass(eq=False)
class Judge:
    """The model that a metric asks.

    Attributes:
        model: Its id, as its endpoint names it.
        endpoint: The endpoint's name; None: that of the task.
        temperature: Of every call; 0 asks for the likeliest answer.
        max_tokens: The longest answer, in tokens; None: the endpoint's own limit.
    """

    model: str
    endpoint: str | None = None
    temperature: float | None = 0.0
    max_tokens: int | None = None
    _connect: Callable[[Judge], dspy.LM] | None = field(default=None, repr=False)

    def connect(self, make: Callable[[Judge], dspy.LM]) -> None:
        """Say how the model is reached; nothing is asked, nor started, before the first score.

        Args:
            make: Gives an LM of a `pytest_finetune.calls.Line`.
        """
        self._connect = make
        self.__dict__.pop("_lm", None)

    def said(self) -> list[object]:
        """What of the judge decides scores."""
        return [self.model, self.endpoint, self.temperature, self.max_tokens]

    def decoding(self) -> dict[str, object]:
        """The decoding parameters that are set, in DSPy's names."""
        given = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        return {name: value for name, value in given.items() if value is not None}

    @cached_property
    def _lm(self) -> dspy.LM:
        if self._connect is None:
            raise UsageError(
                f"it asks the model {self.model!r}, which only a run can reach: pytest --finetune-models=models.lock"
            )
        return self._connect(self)

    @contextmanager
    def asked(self, at: str) -> Iterator[None]:
        """Make the model DSPy's own, and tell its failures from those of the metric.

        Args:
            at: The metric and the row, for messages.

        Raises:
            JudgeError: If a call failed for good, or an answer could not be read.
        """
        import dspy
        from dspy.utils.exceptions import AdapterParseError, LMError

        try:
            adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
            lm = self._lm
            with dspy.context(lm=lm, adapter=adapter, trace=[], disable_history=True), lm.engine.readable():
                yield
        except AdapterParseError as error:
            raise JudgeError(f"{at}: the answer of the judge {self.model!r} cannot be read") from error
        except LMError as error:
            raise JudgeError(f"{at}: the judge {self.model!r} gave no answer: {_first_line(error)}") from error


def finished(result: Any) -> Any:
    """What a metric gave, awaited where it is ``async``."""
    if not inspect.isawaitable(result):
        return result
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_awaited(result))
    with ThreadPoolExecutor(max_workers=1) as other:  # this thread's loop is busy with whoever called the metric
        return other.submit(contextvars.copy_context().run, asyncio.run, _awaited(result)).result()


async def _awaited(result: Any) -> Any:
    return await result


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]

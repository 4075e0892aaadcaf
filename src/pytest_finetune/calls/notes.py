"""What is noted while a row is answered, however many calls and threads that takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pytest_finetune.core.records import Usage

NOTES = "pytest_finetune_notes"  # the name under which dspy.context carries the notes of a row into all its threads


@dataclass
class Notes:
    """What happened to one row.

    Attributes:
        until: No request begins after this (``time.monotonic``).
        attempts: Requests sent.
        latency: Seconds waited for answers, back-off left out; None without an answer.
        models: The models that the endpoint says have answered, in order.
        text: What the model said last.
        finish: Why it ended there: ``stop``, ``length``, ``content_filter``.
        refusal: What it said in refusing.
        failure: The error that was left after all retries, whatever the program made of it.
        failing: The name of the model that was asked then.
        replayed: The keys under which its answers are recorded, if they are.
    """

    until: float
    attempts: int = 0
    latency: float | None = None
    models: list[str] = field(default_factory=list)
    text: str | None = None
    finish: str | None = None
    refusal: str | None = None
    failure: Exception | None = None
    failing: str | None = None
    replayed: list[str] = field(default_factory=list)
    _usages: list[Usage | None] = field(default_factory=list)

    @property
    def usage(self) -> Usage | None:
        """What all answers used, if the endpoint told it of each."""
        told = [usage for usage in self._usages if usage is not None]
        return sum(told[1:], told[0]) if told and len(told) == len(self._usages) else None

    @property
    def served_model(self) -> str | None:
        """The models that answered, each once."""
        return ", ".join(dict.fromkeys(self.models)) or None

    def take(self, response: Any, seconds: float, usage: Usage | None) -> None:
        """Note an answer.

        Args:
            response: A ``dspy.lm15.Response``.
            seconds: That it took.
            usage: What it used, if the endpoint told it.
        """
        self.latency = (self.latency or 0.0) + seconds
        self.models.append(response.model)
        self.text, self.finish = response.text, response.finish_reason
        refusals = [part.text for part in response.message.parts if part.type == "refusal"]
        self.refusal = " ".join(refusals) or None
        self._usages.append(usage)

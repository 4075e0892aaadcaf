"""Programs of the shapes that users write."""

from __future__ import annotations

import enum
from datetime import datetime, timezone
from typing import Any, Literal

import dspy
import pydantic
import pytest


class Urgency(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Customer(pydantic.BaseModel):
    name: str
    since: datetime


class ClassifyTicket(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
    """Classify the support ticket."""

    text: str = dspy.InputField()
    customer: Customer | None = dspy.InputField(desc="who wrote it", default=None)
    category: Literal["billing", "technical"] = dspy.OutputField()
    urgency: Urgency = dspy.OutputField()
    tags: list[str] = dspy.OutputField(desc="at most three", max_length=3)


class Pipeline(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    """Predictors in an attribute, in a list, in a dict and in a sub-module, one of them twice."""

    def __init__(self) -> None:
        self.first = dspy.Predict("text -> summary")
        self.again = self.first
        self.steps = [dspy.Predict("summary -> topic: Literal['money', 'bugs']")]
        self.by_language = {"de": dspy.Predict("summary -> translation")}
        self.answer = dspy.ChainOfThought(ClassifyTicket)

    def forward(self, text: str) -> Any:
        return self.answer(text=self.first(text=text).summary)


@pytest.fixture
def classify() -> Any:
    return dspy.ChainOfThought(ClassifyTicket)


@pytest.fixture
def pipeline() -> Any:
    return Pipeline()


@pytest.fixture
def optimized(pipeline: Any) -> Any:
    """A pipeline with all that optimizers leave behind."""
    answer = pipeline.answer.predict
    answer.signature = answer.signature.with_instructions("Read twice.\n\n  Then classify — “exactly”.")
    answer.signature = answer.signature.with_updated_fields("category", desc="the team", prefix="Team:")
    customer = Customer(name="Zoë", since=datetime(2024, 2, 29, 12, tzinfo=timezone.utc))
    answer.demos = [
        dspy.Example(
            text="I was charged twice",
            customer=customer,
            reasoning="money",
            category="billing",
            urgency=Urgency.HIGH,
            tags=["refund", "card"],
            augmented=True,
            ticket_id=17,
        ).with_inputs("text"),
        {"text": "It crashes", "category": "technical", "customer": None, "tags": ("crash",)},
    ]
    pipeline.steps[0].demos = [{"summary": ["a", "b"], "topic": "bugs"}]
    for module in (pipeline, pipeline.answer):
        module._compiled = True  # noqa: SLF001  # what every optimizer of DSPy does
    pipeline.candidate_programs = [{"score": 90.0, "program": dspy.Predict("text -> other")}]
    return pipeline

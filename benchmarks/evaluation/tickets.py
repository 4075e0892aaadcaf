"""The job: support tickets, three stages, and what each stage answers. It follows from a ticket's number.

So the score that every contender must report is known before the run, and a lost row, or an error that was counted as
a wrong answer, shows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

LABELS = ("billing", "shipping", "account", "technical", "other")
PLAIN = "Classify the support ticket."
OPTIMIZED = "Classify the support ticket by what its sender wants to happen next, not by the words it uses."
CHANGED = f"{OPTIMIZED} Take your time."
STUDENT = "student"
TUNED = "student-tuned"

_NUMBER = re.compile(r"#(\d{6})")
_SENTENCES = (
    "I was charged twice for the order I placed last week and want my money back",
    "the parcel has not arrived and the tracking page has shown nothing for six days",
    "I cannot sign in any more since I changed the phone my codes are sent to",
    "the export button answers with a blank page whenever a filter is set",
    "do you have an office in Lyon where one can drop in without an appointment",
)


@dataclass(frozen=True)
class Stage:
    """One way of running the job.

    Attributes:
        name: What claims call it.
        model: The id of the model that serves it.
        instructions: Of its prompt.
        accuracy: The chance that an answer is right.
    """

    name: str
    model: str
    instructions: str
    accuracy: float


STAGES = (
    Stage("baseline", STUDENT, PLAIN, 0.60),
    Stage("prompt_optimized", STUDENT, OPTIMIZED, 0.75),
    Stage("finetuned", TUNED, PLAIN, 0.90),
)


def draw(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts only."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


def label(number: int) -> str:
    """The right answer for a ticket."""
    return LABELS[int(draw("label", number) * len(LABELS))]


def ticket(number: int) -> dict[str, str]:
    """A row of the dataset."""
    sentence = _SENTENCES[int(draw("text", number) * len(_SENTENCES))]
    text = f"Ticket #{number:06d}: {sentence}. Please get back to me soon."
    return {"text": text, "category": label(number)}


def number_in(prompt: str) -> int:
    """The number of the ticket that a prompt is about."""
    return int(_NUMBER.findall(prompt)[-1])


def stage_of(model: str, prompt: str) -> Stage:
    """The stage that asks in this way."""
    baseline, optimized, finetuned = STAGES
    if model == TUNED:
        return finetuned
    return optimized if OPTIMIZED in prompt else baseline


def answer(stage: Stage, number: int) -> str:
    """What a stage's model says, the same at every call."""
    right = label(number)
    if draw("right", stage.name, number) < stage.accuracy:
        return right
    wrong = [other for other in LABELS if other != right]
    return wrong[int(draw("wrong", stage.name, number) * len(wrong))]


def truth(rows: int) -> Mapping[str, int]:
    """The tickets among the first ``rows`` that each stage answers rightly."""
    return {stage.name: sum(answer(stage, n) == label(n) for n in range(rows)) for stage in STAGES}

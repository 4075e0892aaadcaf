"""What a judged claim leaves behind: enough to word every report, and to be sent between processes."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_finetune.core.records import Inconclusive, Measure, Settlement, Verdict


@dataclass(frozen=True, slots=True)
class StageScore:
    """How one stage did on the test rows.

    Args:
        stage: The stage.
        model: The id of the model that answered.
        mean: The mean score.
        lower: Lower bound of its 95 % interval.
        upper: Upper bound.
        n: Rows with a score, unparseable answers (which score 0) included.
        format_errors: How many answers could not be parsed.
        errors: Rows without a score, because the endpoint failed.
        reused: Rows that were already in the store.
        reused_since: When the oldest of these was asked for (seconds since 1970); None without any.
        cost: US dollars of all its answers, at today's prices; None where a price is unknown.
    """

    stage: str
    model: str
    mean: float
    lower: float
    upper: float
    n: int
    format_errors: int
    errors: int
    reused: int
    reused_since: float | None = None
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One claim, judged.

    Args:
        task: The task's name.
        claim: The claim as it is written.
        measure: What it compares.
        verdict: What the statistics say.
        settlement: What that means for the test.
        inconclusive: The rule by which an inconclusive verdict was settled.
        scores: The stages that the claim is about.
    """

    task: str
    claim: str
    measure: Measure
    verdict: Verdict
    settlement: Settlement
    inconclusive: Inconclusive
    scores: tuple[StageScore, ...]

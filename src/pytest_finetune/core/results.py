"""What a judged claim leaves behind: enough to word every report, and to be sent between processes."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_finetune.core.records import Measure, Policy, Scope, Settlement, Verdict


@dataclass(frozen=True, slots=True)
class StageScore:
    """How one stage did on one set of rows.

    Args:
        stage: The stage.
        suite: The suite; None: the test split.
        model: The id of the model that answered.
        mean: The mean score.
        lower: Lower bound of its 95 % interval.
        upper: Upper bound.
        n: Answers with a score, unparseable ones (which score 0) included.
        format_errors: How many answers could not be parsed.
        errors: Answers without a score, because the endpoint failed.
        reused: Answers that were already in the store.
        reused_since: When the oldest of these was asked for (seconds since 1970); None without any.
        cost: US dollars of all its answers, at today's prices; None where a price is unknown.
    """

    stage: str
    suite: str | None
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
class Flip:
    """A row on which the two sides of a claim differ.

    Args:
        row_id: Content hash of the row.
        where: Its file and line.
        inputs: What was asked.
        expected: What the dataset says.
        before: What the right side answered, or why there is no answer.
        after: What the left side answered, likewise.
        difference: Left minus right, in the direction of the claim: negative speaks against it.
    """

    row_id: str
    where: str
    inputs: str
    expected: str
    before: str
    after: str
    difference: float


@dataclass(frozen=True, slots=True)
class Result:
    """One claim, judged.

    Args:
        task: The task's name.
        claim: The claim as it is written, with its slices and its suite.
        measure: What it compares.
        verdict: What the statistics say.
        settlement: What that means for the test.
        policy: How strictly it was judged.
        scope: On which rows.
        seen: How many rows it was judged on, those included that lack a value.
        scores: The stages that the claim is about.
        flips: Rows on which the sides differ, the worst first; not all of them.
        flips_options: What the command ``flips`` must be told to show all of them.
        remarks: What a reader must know, in sentences.
        uses: How many candidates these rows have judged by now, this one included.
        locked: The accepted rows that it compares with, in a claim with ``locked``: their file beside the lock.
    """

    task: str
    claim: str
    measure: Measure
    verdict: Verdict
    settlement: Settlement
    policy: Policy
    scope: Scope
    seen: int
    scores: tuple[StageScore, ...]
    flips: tuple[Flip, ...] = ()
    flips_options: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    uses: int = 1
    locked: str | None = None

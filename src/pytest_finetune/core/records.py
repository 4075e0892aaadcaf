"""What the core speaks about: rows, the evidence paired from them, and the verdict. All frozen, all pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from pytest_finetune.errors import UsageError


class _Word(str, Enum):
    """An enum whose members print, compare and serialise as their plain word, on every Python version."""

    __str__ = str.__str__


class Measure(_Word):
    """What a claim compares: one number per row."""

    SCORE = "score"  # what the task's metric gives, in [0, 1]
    FORMAT_ERRORS = "format_errors"  # 1 where the answer could not be parsed, else 0
    COST = "cost"  # US dollars per row
    TOKENS = "tokens"  # prompt and completion tokens per row
    LATENCY = "latency"  # seconds per row

    @property
    def bounded(self) -> bool:
        """Whether every value lies in [0, 1], so that exact tests and default margins have a meaning."""
        return self in {Measure.SCORE, Measure.FORMAT_ERRORS}


class RowState(_Word):
    """How the evaluation of a row ended."""

    SCORED = "scored"
    FORMAT_ERROR = "format_error"  # the model's fault: scores 0
    ERROR = "error"  # the infrastructure's fault: never a score
    NOT_RUN = "not_run"


class Outcome(_Word):
    """What the statistics say about a claim."""

    PASS = "PASS"  # noqa: S105  # a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class Method(_Word):
    """The test that a verdict comes from."""

    TANGO = "tango"
    BETTING = "betting"
    BINOMIAL = "binomial"
    CLUSTERED_T = "clustered_t"
    PAIRED_T = "paired_t"  # cost, tokens, latency: approximate, since these have no upper bound
    QUANTILE = "quantile"  # a percentile of cost, tokens or latency: approximate
    IDENTITY = "identity"  # both sides are the same program state and model


class Inconclusive(_Word):
    """What an INCONCLUSIVE verdict does to the test."""

    OBSERVED = "observed"  # settled by the observed figures, as the claim is written
    FAIL = "fail"  # only what is certified passes
    WARN = "warn"  # never blocks


class Tier(_Word):
    """How much hangs on a claim."""

    CRITICAL = "critical"  # blocks as its policy says
    SUPPORTING = "supporting"  # blocks only on a statistical FAIL
    ADVISORY = "advisory"  # never blocks


@dataclass(frozen=True, slots=True)
class Usage:
    """What one row used.

    Args:
        prompt_tokens: Tokens sent.
        completion_tokens: Tokens received.
        cost: US dollars, or None where the price is unknown.
    """

    prompt_tokens: int
    completion_tokens: int
    cost: float | None = None

    def __add__(self, other: Usage) -> Usage:
        """The usage of both together; a cost that is unknown once is unknown for all."""
        known = self.cost is not None and other.cost is not None
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            (self.cost or 0.0) + (other.cost or 0.0) if known else None,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One example, answered by one stage, once.

    Args:
        row_id: Content hash of the example.
        stage: The stage that answered.
        repeat: 0 for the first answer.
        state: How the evaluation ended.
        score: What the metric gave, in [0, 1]; None unless ``state`` is scored.
        output: The answer as text (canonical JSON of the output fields, or the raw text of a format error).
        usage: Tokens and cost, where the endpoint told them.
        latency: Seconds from request to answer.
        error: Why there is no score, for format_error and error.
        served_model: The model id that the endpoint says has answered.
    """

    row_id: str
    stage: str
    repeat: int
    state: RowState
    score: float | None = None
    output: str | None = None
    usage: Usage | None = None
    latency: float | None = None
    error: str | None = None
    served_model: str | None = None

    def value(self, measure: Measure) -> float | None:
        """The row's figure for a measure, or None where it is unknown: an error is never a zero."""
        if self.state in {RowState.ERROR, RowState.NOT_RUN}:
            return None
        broken = self.state is RowState.FORMAT_ERROR
        if measure is Measure.SCORE:
            return 0.0 if broken else self.score
        if measure is Measure.FORMAT_ERRORS:
            return float(broken)
        if measure is Measure.LATENCY:
            return self.latency
        if self.usage is None:
            return None
        if measure is Measure.COST:
            return self.usage.cost
        return float(self.usage.prompt_tokens + self.usage.completion_tokens)


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that is to be kept.

    Args:
        key: The digest of all that changes it.
        row: Without its score.
        attempts: Requests it took.
        task: The task's name.
        model: The id of the model that was asked.
    """

    key: str
    row: Row
    attempts: int
    task: str
    model: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One row's two values, each the mean over its repeats.

    Args:
        row_id: Content hash of the example.
        left: The value of the claim's left stage, before any factor.
        right: The value of the claim's right stage, before any factor; the number itself in a claim with one.
        group: The row's cluster (a conversation, a customer), where the dataset has a group field.
        part: The slice that the row belongs to, in a claim with ``by=``.
    """

    row_id: str
    left: float
    right: float
    group: str | None = None
    part: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """The paired rows that a claim looks at.

    Args:
        pairs: In salted hash order, which the betting test depends on; never in order of completion.
        missing: Ids of the rows that lack a value on either side.
        same_model: Both sides are served by the same model.
        same_program: Both sides run the same program state.
        same_outputs: Both sides gave the same answer on every row.
        planned: How many rows there are, where the evaluation may stop before the last; None where it may not.
    """

    pairs: tuple[Pair, ...]
    missing: tuple[str, ...] = ()
    same_model: bool = False
    same_program: bool = False
    same_outputs: bool = False
    planned: int | None = None

    @property
    def n_missing(self) -> int:
        """How many rows lack a value on either side."""
        return len(self.missing)

    @property
    def n_expected(self) -> int:
        """How many rows the dataset has."""
        return len(self.pairs) + len(self.missing)

    @property
    def identity(self) -> bool:
        """Both sides are the same program state on the same model."""
        return self.same_model and self.same_program

    @property
    def groups(self) -> tuple[str, ...] | None:
        """Each pair's cluster, or None where no cluster has more than one row."""
        names = tuple(pair.row_id if pair.group is None else pair.group for pair in self.pairs)
        return names if len(set(names)) < len(names) else None


@dataclass(frozen=True, slots=True)
class Policy:
    """How strictly claims are judged.

    Args:
        margin: How much worse still counts as "at least as good", in [0, 1) of the score. A margin written in
            the claim takes its place; it applies neither to numbers nor to cost, tokens and latency.
        alpha: One-sided error rate of PASS and of FAIL, in (0, 0.5).
        inconclusive: What an INCONCLUSIVE verdict does to the test.
        tier: How much hangs on the claim.

    Raises:
        UsageError: A figure lies outside its range.
    """

    margin: float = 0.0
    alpha: float = 0.05
    inconclusive: Inconclusive = Inconclusive.OBSERVED
    tier: Tier = Tier.CRITICAL

    def __post_init__(self) -> None:
        if not 0 <= self.margin < 1:
            raise UsageError(f"margin must be in [0, 1), not {self.margin!r}: 0.02 allows 2 points less.")
        if not 0 < self.alpha < 0.5:
            raise UsageError(f"alpha must be in (0, 0.5), not {self.alpha!r}: 0.05 is the usual choice.")


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows a claim looks at.

    Args:
        suite: Another dataset of the task; None: its test split.
        by: The field by which the rows are sliced; the claim must hold in every slice. None: all rows are one.
        repeats: Answers to each row, which are averaged before rows are paired.
        max_rows: At most so many rows, the first in salted hash order; None: all.

    Raises:
        UsageError: A figure lies outside its range.
    """

    suite: str | None = None
    by: str | None = None
    repeats: int = 1
    max_rows: int | None = None

    def __post_init__(self) -> None:
        for name in ("repeats", "max_rows"):
            figure = getattr(self, name)
            if figure is not None and figure < 1:
                raise UsageError(f"{name} must be at least 1, not {figure!r}.")

    def __str__(self) -> str:
        """As it follows the claim's text: ``" by category on safety"``."""
        return (f" by {self.by}" if self.by else "") + (f" on {self.suite}" if self.suite else "")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the statistics say about a claim, and what would settle it.

    ``estimate``, ``lower`` and ``upper`` speak about the difference of the two sides, turned such that
    positive favours the claim: PASS says ``lower >= -margin``, FAIL says ``upper <= -margin``.
    By identity the true difference is 0, and so are both bounds, whatever was observed.

    Args:
        outcome: PASS, FAIL or INCONCLUSIVE.
        method: The test it comes from.
        left: Mean of the left side, factor included.
        right: Mean of the right side, factor included; or the number.
        estimate: The observed difference.
        lower: Lower confidence bound at one-sided ``alpha``; ``-inf`` where too few units allow none.
        upper: Upper confidence bound at one-sided ``alpha``; ``inf`` where too few units allow none.
        margin: The margin that was judged.
        alpha: One-sided error rate of each of PASS and FAIL.
        n: Paired rows.
        wins: Rows on which the left side has the better value, in the direction of the claim.
        losses: Rows on which it has the worse one.
        ties: Rows on which both are equal.
        rows_needed: About how many rows in all would settle an INCONCLUSIVE claim, if the difference stays as
            observed; None where it is settled, where no number would do (no difference, no margin), and where
            a single unit tells nothing.
        certifiable_margin: Smallest margin that n such rows certify with power 0.8 for equal stages; None for
            numbers and for unbounded measures.
        p_differ: Two-sided McNemar mid-p of "both sides are right equally often", for independent paired binary
            scores whose number was fixed.
        ratio: Bounds of left over right, each at one-sided ``alpha``, in a claim with a factor, or on an unbounded
            measure of two stages.
        planned: How many rows there are, where the evaluation might have stopped before the last.
        parts: The verdict in each slice of a claim with ``by=``, from the worst to the best. The figures above are
            those of all rows; the outcome follows from the slices.
    """

    outcome: Outcome
    method: Method
    left: float
    right: float
    estimate: float
    lower: float
    upper: float
    margin: float
    alpha: float
    n: int
    wins: int
    losses: int
    ties: int
    rows_needed: int | None = None
    certifiable_margin: float | None = None
    p_differ: float | None = None
    ratio: tuple[float, float] | None = None
    planned: int | None = None
    parts: tuple[Part, ...] = ()

    @property
    def identity(self) -> bool:
        """The claim holds because both sides are the same program state and model."""
        return self.method is Method.IDENTITY

    @property
    def observed(self) -> bool:
        """Whether the observed figures fulfil the claim as it is written (up to rounding of floats)."""
        if self.parts:
            return all(part.verdict.observed for part in self.parts)
        return self.estimate >= -self.margin or math.isclose(self.estimate, -self.margin, abs_tol=1e-9)


@dataclass(frozen=True, slots=True)
class Part:
    """One slice of the rows, judged.

    Args:
        name: The value of the field that the claim is sliced by.
        verdict: FAIL if it is significant after Holm's correction over all slices; PASS at full alpha, since the
            claim holds only if every slice does.
    """

    name: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a verdict means for the test.

    Args:
        held: The claim counts as held.
        certified: The statistics say so, not only the observed figures.
        blocking: The test fails.
    """

    held: bool
    certified: bool
    blocking: bool

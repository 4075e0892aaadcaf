"""What is known before anything is spent: the calls that rows take, what these cost, and what they can certify."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from pytest_finetune.core import stats
from pytest_finetune.core.evidence import MIN_ROWS
from pytest_finetune.core.records import Evidence

MARGINS = (0.01, 0.02, 0.05)
GUESSES = (0.1, 0.2, 0.35)
"""Shares of rows on which two stages may differ, where no recorded rows tell it."""

POWER = 0.8
_PER_CENT = 100
_DRAWS = 100_000  # rows that a simulation draws in all: about half a second
_FEWEST_RUNS, _MOST_RUNS = 20, 300


@dataclass(frozen=True, slots=True)
class Design:
    """How many rows there are, and how they will be judged.

    Attributes:
        n: Rows.
        alpha: One-sided error rate of a verdict.
        margins: For which of them the needed rows are told.
        per_unit: Rows that would count as one if the rows of a group were all alike (Kish); 1 without groups.
        stop_early: Rows are judged as they come.
    """

    n: int
    alpha: float
    margins: tuple[float, ...] = MARGINS
    per_unit: float = 1.0
    stop_early: bool = False


@dataclass(frozen=True, slots=True)
class Outlook:
    """What rows can certify with power 0.8, if two stages are as good as each other, and differ on some rows.

    Attributes:
        between: The stages whose recorded rows differ so; ``None``: a guess.
        differ: The share of rows on which they differ.
        certifiable: The smallest margin; ``None``: there are too few rows for any.
        needed: For each margin, the rows that it takes.
    """

    between: tuple[str, str] | None
    differ: float
    certifiable: float | None
    needed: Mapping[float, int]


@dataclass(frozen=True, slots=True)
class Asking:
    """What a stage takes on one set of rows, each figure as it is expected.

    Attributes:
        stage: Its name.
        model: The id of its model; of one that is yet to be tuned, what its price is found by.
        answers: Rows times repeats.
        asked: Those that the store lacks.
        calls: Requests that these take.
        prompt_tokens: Sent with them.
        completion_tokens: Received.
        cost: US dollars; ``None``: the price is unknown.
        recorded: From how many recorded rows tokens are known; 0: they are an estimate from the prompts.
        claimed: A claim looked at these rows of it when the task was locked, or the task is not locked yet.
        share: Of the rows, that is asked for until every claim is decided; 1 in a run that does not stop early.
        sent: Tokens of one answer's prompts: the mean of the recorded rows, or an estimate.
        received: Tokens of one answer, likewise.
        scores: Of the recorded rows, a format error counting 0.
    """

    stage: str
    model: str
    answers: int
    asked: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    recorded: int
    claimed: bool = True
    share: float = 1.0
    sent: float = 0.0
    received: float = 0.0
    scores: tuple[float, ...] = ()

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.prompt_tokens + self.completion_tokens

    def until(self, share: float) -> Asking:
        """What it takes where this share of the rows is enough."""
        return replace(
            self,
            calls=round(self.calls * share),
            prompt_tokens=round(self.prompt_tokens * share),
            completion_tokens=round(self.completion_tokens * share),
            cost=None if self.cost is None else self.cost * share,
            share=share,
        )


@dataclass(frozen=True, slots=True)
class RowsPlan:
    """One set of rows of a task.

    Attributes:
        suite: The suite; ``None``: the test split.
        rows: How many there are.
        groups: How many groups these are in; ``None`` where no group has two of them.
        stages: What each stage takes.
        outlooks: What the rows can certify.
    """

    suite: str | None
    rows: int
    groups: int | None
    stages: tuple[Asking, ...]
    outlooks: tuple[Outlook, ...]

    @property
    def deciding(self) -> Outlook:
        """The outlook that decides about a ladder, since every rung of it must hold; of guesses the middle one."""
        told = [outlook for outlook in self.outlooks if outlook.between is not None]
        return max(told, key=lambda outlook: max(outlook.needed.values())) if told else self.outlooks[1]


@dataclass(frozen=True, slots=True)
class Training:
    """What the job of a retrain takes.

    Attributes:
        tokens: That are trained on, over all epochs; ``None``: they cannot be known.
        cost: US dollars; ``None``: they, or the price, are unknown.
        measured: The last job took as many; else they are an estimate.
        asked: Rows that the model is asked about for its diagnosis, at most.
        asking: US dollars that this costs; ``None``: the price is unknown.
    """

    tokens: int | None = None
    cost: float | None = None
    measured: bool = False
    asked: int = 0
    asking: float | None = 0.0


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What a task takes.

    Attributes:
        task: Its name.
        endpoint: The name of its endpoint.
        locked: Its stages are pinned, and are planned as they are pinned.
        drift: Why the lock's stages cannot be run any more, if so; they are planned as they would be built.
        sets: Its test split, and each of its suites.
        training: Its next job.
        judges: The models that score its answers; what they cost is not planned.
        bars: The scores that claims held the fine-tuned stage to when the task was locked.
    """

    task: str
    endpoint: str
    locked: bool
    drift: str | None
    sets: tuple[RowsPlan, ...]
    training: Training
    judges: tuple[str, ...] = ()
    bars: tuple[float, ...] = ()

    @property
    def stages(self) -> tuple[Asking, ...]:
        """What each stage takes on each set of rows."""
        return tuple(stage for rows in self.sets for stage in rows.stages)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run takes.

    Attributes:
        tasks: One after the other.
        lock: The name of the lock that it is for; ``None``: there is none yet.
        margin: The one that was asked about.
        alpha: One-sided error rate of a verdict.
        stop_early: Calls, tokens and costs are what a run takes on average that stops early.
    """

    tasks: tuple[TaskPlan, ...]
    lock: str | None
    margin: float
    alpha: float
    stop_early: bool = False


@dataclass(frozen=True, slots=True)
class Total:
    """What several stages take together.

    Attributes:
        calls: Requests.
        tokens: Sent and received.
        cost: US dollars; ``None``: a price is unknown.
        unpriced: The models whose price that is.
    """

    calls: int
    tokens: int
    cost: float | None
    unpriced: tuple[str, ...]

    @classmethod
    def of(cls, asked: Iterable[Asking]) -> Total:
        """Add up."""
        stages = tuple(asked)
        unpriced = tuple(dict.fromkeys(stage.model for stage in stages if stage.cost is None))
        cost = None if unpriced else math.fsum(stage.cost or 0.0 for stage in stages)
        return cls(sum(stage.calls for stage in stages), sum(stage.tokens for stage in stages), cost, unpriced)


# --- what rows can certify ------------------------------------------------------------------------------------


def outlooks_of(design: Design, compared: Mapping[tuple[str, str], Evidence]) -> tuple[Outlook, ...]:
    """What the rows can certify: at the differences of recorded rows where there are any, else at `GUESSES`.

    The last outlook is that of stages which differ on no row at all: no rows can do with less.

    Args:
        design: The rows.
        compared: Recorded rows of two stages, paired.
    """
    told = [_recorded(design, between, evidence) for between, evidence in compared.items()]
    guessed = [] if told else [_outlook(design, guess(share)) for share in GUESSES]
    return (*told, *guessed, _outlook(design, [0.0]))


def _recorded(design: Design, between: tuple[str, str], evidence: Evidence) -> Outlook:
    differences = [pair.left - pair.right for pair in evidence.pairs]
    graded = any(value not in (0, 1) for pair in evidence.pairs for value in (pair.left, pair.right))
    alike = _correlation(differences, evidence.groups)
    return _outlook(design, differences, between=between, graded=graded, correlation=alike)


def _outlook(
    design: Design,
    differences: Sequence[float],
    *,
    between: tuple[str, str] | None = None,
    graded: bool = False,
    correlation: float = 1.0,
) -> Outlook:
    """What follows if the differences of the rows to come are like these, but 0 on average.

    The mean square of a difference is ψ where answers are right or wrong, and takes its place where they are graded.
    Rows in groups are counted in units of ``per_unit`` rows, each with the standard deviation of its mean.
    """
    size, grouped = design.per_unit, design.per_unit > 1
    sd = stats.discordant_sd(fmean(difference * difference for difference in differences))
    unit_sd = stats.clustered_sd(sd, size, correlation) / math.sqrt(size)
    betting = not grouped and (graded or design.stop_early)
    fewest = stats.MIN_UNITS if grouped else MIN_ROWS
    units, alpha = int(design.n / size), design.alpha

    def needed(margin: float) -> int:
        rows = stats.rows_needed(margin, unit_sd, alpha=alpha, power=POWER)
        rows = stats.betting_rows(rows) if betting else rows
        return math.ceil(size * max(rows, stats.min_rows(margin, alpha=alpha, betting=betting), fewest))

    margin = 1.0
    if units >= fewest:
        margin = stats.certifiable_margin(units, unit_sd, alpha=alpha, power=POWER, betting=betting)
    return Outlook(
        between=between,
        differ=sum(difference != 0 for difference in differences) / len(differences),
        certifiable=margin if margin < 1 else None,
        needed={each: needed(each) for each in design.margins},
    )


def _correlation(differences: Sequence[float], groups: Sequence[str] | None) -> float:
    """How alike rows of a group are, from the design effect that they show; 1, the worst, where they show none."""
    if groups is None:
        return 1.0
    clustered, units = stats.cluster_variance(differences, groups)
    plain, n = stats.cluster_variance(differences)
    if plain == 0 or not math.isfinite(clustered):
        return 1.0
    return min(max((clustered / plain - 1) / (n / units - 1), 0.0), 1.0)


def guess(share: float) -> list[float]:
    """Differences of which this share is not 0, and which are 0 on average."""
    half = round(share * _PER_CENT)
    return [1.0] * half + [-1.0] * half + [0.0] * 2 * (_PER_CENT - half)


def share_looked_at(fresh: stats.Sequential, differences: Sequence[float], n: int, looks: int) -> float:
    """The share of the rows that is asked for until a claim is decided, on average over simulated runs.

    Args:
        fresh: The test that follows the claim; it is copied.
        differences: What rows are drawn from, with replacement.
        n: How many rows there are.
        looks: How often they are looked at.
    """
    step = max(1, -(-n // looks))
    runs = max(_FEWEST_RUNS, min(_DRAWS // n, _MOST_RUNS))
    draw = random.Random(0)  # noqa: S311  # seeded, so that a plan is the same twice
    used = []
    for _ in range(runs):
        test = copy.deepcopy(fresh)
        for difference in draw.choices(differences, k=n):
            if test.update(difference) is not stats.State.OPEN:
                break
        used.append(min(-(-test.rows // step) * step, n) / n)
    return fmean(used)

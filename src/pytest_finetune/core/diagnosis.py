"""What a fine-tuned model suffers from, by its scores, its losses and its rows; and what the field does about it.

The order of the remedies follows OpenAI's guide "Fine-tuning best practices" (iterate on data quality, then on
data quantity, then on hyperparameters); which sign calls for which of them, and the thresholds, are our choice. A
difference counts where it is larger than chance makes it at one-sided 5 %, and than `SMALL` or `WIDE`. For a mean m
of scores in [0, 1], the variance of a score is at most m (1 - m), since x² <= x (Bhatia and Davis, A Better Bound on
the Variance, American Mathematical Monthly 107(4), 2000, 353-357, have the general form); the two means are taken as
independent, which overstates chance where they are of the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from math import sqrt
from statistics import fmean, stdev

ENOUGH = 200
"""Traces that should survive: fewer teach little beside what a prompt already says."""

SMALL = 0.02
"""A difference of scores that nobody would act upon."""

WIDE = 0.05
"""What a model may score higher on its own rows than on others, since every model does a little."""

UNREADABLE = 0.02
"""The share of answers that cannot be parsed, from which on a format is unstable."""

_Z = 1.645  # one-sided 5 %
_RISE = 1.1  # a loss that has risen by a tenth from its best, or fallen by a tenth in the last part of a fit
_PARTS = 5  # of a loss curve, each averaged, since losses of single batches are noise
_LEARNT = 0.9  # of the score of the answers that it was trained on, a model that has learnt them reaches so much


class Kind(str, Enum):
    """What can be wrong."""

    TOO_FEW_TRACES = "too few traces"
    OVERFITTING = "overfitting"
    UNDERFITTING = "underfitting"
    NO_GAIN = "no gain over prompts"
    UNSTABLE_FORMAT = "unstable format"
    FORGETTING = "forgetting"


class Fix(str, Enum):
    """What can be done about it."""

    STRONG_TEACHER = "strong teacher"
    LENIENT_METRIC = "lenient metric"
    GOLD_LABELS = "gold labels"
    MORE_ROWS = "more rows"
    FEWER_EPOCHS = "fewer epochs"
    BEST_CHECKPOINT = "best checkpoint"
    LOWER_RATE = "lower rate"
    MORE_EPOCHS = "more epochs"
    HIGHER_RATE = "higher rate"
    LARGER_MODEL = "larger model"
    CHECK_LABELS = "check labels"
    KEEP_PROMPTS = "keep prompts"
    MORE_SEEDS = "more seeds"
    BETTER_TOGETHER = "better together"
    LONGER_ANSWERS = "longer answers"
    JSON_ADAPTER = "json adapter"
    MIX = "mix"


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean score, higher better, over so many rows."""

    value: float
    n: int


@dataclass(frozen=True, slots=True)
class Step:
    """One point of a loss curve; ``valid`` is None where the endpoint gave none."""

    step: int
    train: float
    valid: float | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known of a fine-tuned model; what is not known is None or empty.

    Attributes:
        recipe: How it was built.
        train: Its score on rows that it was trained on.
        dev: Its score on dev rows.
        test: Its score on test rows.
        prompts_dev: The score of the prompt-optimized program on dev rows.
        prompts_test: The same on test rows.
        unreadable: The share of its answers that could not be parsed.
        prompts_unreadable: The same of the prompt-optimized program.
        taught: The score of the answers that it was trained on: 1 for gold labels.
        kept: Rows whose traces were trained on, and rows that were asked; None where no traces were.
        losses: By step.
        epochs: As the endpoint resolved them.
        seeds: The dev scores of the models of several seeds.
        suites: For each guard suite, the score of the program that the model replaces, and its own.
    """

    recipe: str
    train: Mean | None = None
    dev: Mean | None = None
    test: Mean | None = None
    prompts_dev: Mean | None = None
    prompts_test: Mean | None = None
    unreadable: Mean | None = None
    prompts_unreadable: Mean | None = None
    taught: float = 1.0
    kept: tuple[int, int] | None = None
    losses: Sequence[Step] = ()
    epochs: int | None = None
    seeds: Sequence[float] = ()
    suites: Mapping[str, tuple[Mean, Mean]] = field(default_factory=dict)

    @property
    def held_out(self) -> Mean | None:
        """Its score on rows that it was not trained on: the test rows', where these were asked."""
        return self.test or self.dev


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Attributes:
        kind: What.
        evidence: The figures that say so, by name.
        fixes: What helps, the first thing to try first.
        about: The suite, where it is about one.
    """

    kind: Kind
    evidence: Mapping[str, float]
    fixes: tuple[Fix, ...]
    about: str | None = None


def diagnose(observed: Observed) -> tuple[Finding, ...]:
    """Find what is wrong with a fine-tuned model: what its rows lack first, then what its training did."""
    return tuple(
        finding
        for look in (_traces, _format, _overfitting, _underfitting, _no_gain, _forgetting)
        for finding in look(observed)
    )


def _traces(observed: Observed) -> Iterator[Finding]:
    if observed.kept is None or observed.kept[0] >= ENOUGH:
        return
    kept, asked = observed.kept
    lost_many = 2 * kept < asked
    teacher = [Fix.LENIENT_METRIC] if observed.recipe == "distill" else [Fix.STRONG_TEACHER, Fix.LENIENT_METRIC]
    fixes = [*teacher, Fix.GOLD_LABELS, Fix.MORE_ROWS] if lost_many else [Fix.MORE_ROWS, *teacher]
    yield Finding(Kind.TOO_FEW_TRACES, {"kept": kept, "asked": asked}, tuple(fixes))


def _format(observed: Observed) -> Iterator[Finding]:
    now, before = observed.unreadable, observed.prompts_unreadable
    if now is None or now.value <= UNREADABLE or (before is not None and now.value <= before.value):
        return
    evidence = {"unreadable": now.value, "n": now.n} | ({"prompts": before.value} if before else {})
    yield Finding(
        Kind.UNSTABLE_FORMAT, evidence, (Fix.MORE_ROWS, Fix.LONGER_ANSWERS, Fix.MORE_EPOCHS, Fix.JSON_ADAPTER)
    )


def _overfitting(observed: Observed) -> Iterator[Finding]:
    evidence: dict[str, float] = {}
    if observed.train and observed.held_out and _clearly_above(observed.train, observed.held_out, WIDE):
        evidence |= {"train": observed.train.value, "held_out": observed.held_out.value}
    evidence |= _risen(observed.losses)
    if evidence:
        if observed.epochs is not None:
            evidence["epochs"] = observed.epochs
        fewer = [Fix.BEST_CHECKPOINT, Fix.FEWER_EPOCHS] if observed.epochs != 1 else []
        yield Finding(Kind.OVERFITTING, evidence, (Fix.MORE_ROWS, *fewer, Fix.LOWER_RATE))


def _underfitting(observed: Observed) -> Iterator[Finding]:
    train = observed.train
    if train is None or train.value >= _LEARNT * observed.taught or next(_overfitting(observed), None):
        return
    evidence = {"train": train.value, "taught": observed.taught} | _falling(observed.losses)
    if observed.epochs is not None:
        evidence["epochs"] = observed.epochs
    more = (Fix.MORE_EPOCHS, Fix.HIGHER_RATE)
    checks = (Fix.CHECK_LABELS, Fix.LARGER_MODEL)
    yield Finding(Kind.UNDERFITTING, evidence, more + checks if "falling" in evidence else checks + more)


def _no_gain(observed: Observed) -> Iterator[Finding]:
    pairs = ((observed.test, observed.prompts_test), (observed.dev, observed.prompts_dev))
    now, before = next(((now, before) for now, before in pairs if now and before), (None, None))
    if now is None or before is None:
        return
    noise = 2 * stdev(observed.seeds) if len(observed.seeds) > 1 else 0.0
    gain = now.value - before.value
    if len(observed.seeds) > 1 and now is observed.dev:
        gain = fmean(observed.seeds) - before.value  # the best of several is lucky
    if gain > noise and gain > 0:
        return
    evidence = {"finetuned": now.value, "prompts": before.value, "gain": gain}
    evidence |= {"noise": noise} if observed.seeds else {}
    teacher = () if observed.recipe == "distill" else (Fix.STRONG_TEACHER,)
    together = () if observed.recipe == "better_together" else (Fix.BETTER_TOGETHER,)
    seeds = () if observed.seeds else (Fix.MORE_SEEDS,)
    yield Finding(Kind.NO_GAIN, evidence, (Fix.KEEP_PROMPTS, Fix.MORE_ROWS, *teacher, *together, *seeds))


def _forgetting(observed: Observed) -> Iterator[Finding]:
    for suite, (before, now) in sorted(observed.suites.items()):
        if _clearly_above(before, now):
            evidence = {"before": before.value, "now": now.value, "n": now.n}
            fixes = (Fix.MIX, Fix.FEWER_EPOCHS, Fix.LOWER_RATE, Fix.KEEP_PROMPTS)
            yield Finding(Kind.FORGETTING, evidence, fixes, about=suite)


def _clearly_above(high: Mean, low: Mean, least: float = SMALL) -> bool:
    pooled = (high.value * high.n + low.value * low.n) / (high.n + low.n)
    chance = _Z * sqrt(max(0.0, pooled * (1 - pooled)) * (1 / high.n + 1 / low.n))
    return high.value - low.value > max(least, chance)


def _risen(losses: Sequence[Step]) -> dict[str, float]:
    """The best and the last validation loss, where it rises while the training loss still falls."""
    parts = _averaged(losses)
    valid = [part.valid for part in parts if part.valid is not None]
    if len(valid) < _PARTS:
        return {}
    best = valid.index(min(valid))
    rises = valid[-1] > _RISE * valid[best] and parts[-1].train < parts[best].train
    return {"best_loss": valid[best], "best_step": parts[best].step, "last_loss": valid[-1]} if rises else {}


def _falling(losses: Sequence[Step]) -> dict[str, float]:
    """The last two training losses, where the fit ended while it still fell."""
    parts = _averaged(losses)
    if len(parts) < _PARTS or parts[-2].train <= _RISE * parts[-1].train:
        return {}
    return {"falling": parts[-2].train, "last_train": parts[-1].train}


def _averaged(losses: Sequence[Step]) -> list[Step]:
    """A curve in parts of equal length; none if there are too few steps."""
    if len(losses) < 2 * _PARTS:
        return []
    cuts = [round(part * len(losses) / _PARTS) for part in range(_PARTS + 1)]
    return [_mean_of(losses[start:end]) for start, end in pairwise(cuts)]


def _mean_of(steps: Sequence[Step]) -> Step:
    valid = [step.valid for step in steps if step.valid is not None]
    return Step(steps[-1].step, fmean(step.train for step in steps), fmean(valid) if valid else None)

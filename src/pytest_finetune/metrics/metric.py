"""The one shape of every metric, and the check of every score."""

from __future__ import annotations

import contextlib
import inspect
import math
import reprlib
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, SupportsFloat

from pytest_finetune.core.fingerprint import canonical_json, digest, source_fingerprint
from pytest_finetune.errors import FinetuneError, UsageError
from pytest_finetune.metrics.judge import Judge, finished

Scorer = Callable[..., Any]
"""``(example, prediction, trace=None) -> bool | float | dspy.Prediction(score=…)``, plain or ``async``."""

_SLACK = 1e-9  # sums of floats may miss 0 and 1 by this much


@dataclass(frozen=True, eq=False)
class Metric:
    """A score in [0, 1] for one prediction.

    Three ways to use it:

    * ``score`` is the value as its author defined it.
    * Calling the metric gives what is gated, reported, and maximised by DSPy's optimizers: the same value, or
      ``1 - score`` where lower is better.
    * ``accepts`` says whether an answer is good enough to train on.

    Attributes:
        name: how reports call it.
        function: what computes the score; see ``as_metric``.
        higher_is_better: False where 0 is best. What is kept, claimed and reported is then ``1 - score``.
        binary: True if only 0 and 1 occur, False if others do, None if that is not known before scoring.
        version: stands for the function in ``fingerprint``; None where its source does.
        bootstrap: a metric of its own for ``accepts``; None where this one is asked.
        threshold: the least score (the highest, where lower is better) that ``accepts`` takes.
        parts: the metrics of a composite, with their weights.
        judge: the model that the function asks; see ``judged``.
    """

    name: str
    function: Scorer
    higher_is_better: bool = True
    binary: bool | None = None
    version: str | None = None
    bootstrap: Metric | None = None
    threshold: float | None = None
    parts: tuple[tuple[Metric, float], ...] = ()
    judge: Judge | None = None

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
        """Score for DSPy: higher is always better here.

        Raises:
            UsageError: as ``score`` does.
        """
        value = self.score(example, prediction, trace)
        return value if self.higher_is_better else 1.0 - value

    def score(self, example: Any, prediction: Any, trace: Any = None, *, where: str = "") -> float:
        """Score one prediction.

        Args:
            example: the row, with the expected values.
            prediction: what the program gave.
            trace: what DSPy hands to a metric while it bootstraps; else None.
            where: the row's name for messages, as ``row 3f2a… (tickets.jsonl:17)``.

        Raises:
            UsageError: naming the metric and the row, if the function fails or its result is not in [0, 1].
            JudgeError: if the model that it asks gave no usable answer.
        """
        at = f"metric {self.name}, {where}" if where else f"metric {self.name}"
        try:
            with self.judge.asked(at) if self.judge else contextlib.nullcontext():
                result = finished(self.function(example, prediction, trace))
        except UsageError as error:
            raise UsageError(f"{at}: {error}") from error
        except FinetuneError:  # of the judge, or of the run that may not ask it
            raise
        except Exception as error:
            raise UsageError(f"{at}: raised {type(error).__name__}: {error}{_raised_at(error)}") from error
        return _checked(result, at)

    def accepts(self, example: Any, prediction: Any, trace: Any = None) -> bool:
        """Say whether the answer may become a demonstration or a training row.

        DSPy takes any score but 0 for a yes; this compares with ``threshold``. Unless one is set it is 1 for a
        binary metric and 0.5 for others.
        """
        judge = self.bootstrap or self
        if self.threshold is None:
            least = 1.0 if judge.binary else 0.5
        else:
            least = self.threshold if judge.higher_is_better else 1.0 - self.threshold
        return judge(example, prediction, trace) >= least - _SLACK

    def for_bootstrapping(self, metric: Metric | Scorer | None = None, *, threshold: float | None = None) -> Metric:
        """Give the same metric with a more lenient judge of what may be trained on.

        Args:
            metric: judges in place of this one.
            threshold: the least score that passes (the highest, where lower is better).
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise UsageError(f"metric {self.name}: threshold={threshold!r}: scores lie between 0 and 1")
        return replace(self, bootstrap=as_metric(metric) if metric else None, threshold=threshold)

    def fingerprint(self) -> str:
        """Give the SHA-256 of what decides scores: the function's source or version, and the direction.

        Raises:
            UsageError: if the function's source cannot be read and no ``version`` was given.
        """
        said = {"source": self._source(), "higher_is_better": self.higher_is_better}
        return digest(said if self.judge is None else {**said, "judge": self.judge.said()})

    @property
    def judges(self) -> tuple[Judge, ...]:
        """The models that have to be there before this metric can score or accept anything."""
        own = () if self.judge is None else (self.judge,)
        inner = [metric for metric, _ in self.parts] + ([self.bootstrap] if self.bootstrap else [])
        return own + tuple(judge for metric in inner for judge in metric.judges)

    def _source(self) -> object:
        if self.parts:
            return [[metric.fingerprint(), weight] for metric, weight in self.parts]
        return source_fingerprint(self.function) if self.version is None else [self.name, self.version]


def _checked(result: Any, at: str) -> float:
    value = getattr(result, "score", result)
    try:
        number = float(value) if isinstance(value, SupportsFloat) else math.nan
    except (TypeError, ValueError):  # a dspy.Prediction without a score
        number = math.nan
    if not -_SLACK <= number <= 1 + _SLACK:
        raise UsageError(f"{at}: gave {reprlib.repr(result)}; a score is a bool or a number from 0 to 1")
    return min(1.0, max(0.0, number))


def _raised_at(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f" ({Path(last.filename).name}:{last.lineno})"


def as_metric(
    metric: Metric | Scorer,
    *,
    name: str | None = None,
    higher_is_better: bool = True,
    binary: bool | None = None,
    version: str | None = None,
) -> Metric:
    """Make a metric of a function; a metric is given back as it is.

    Args:
        metric: ``(example, prediction, trace=None) -> bool | float | dspy.Prediction(score=…)``, in [0, 1]. It may
            be ``async``.
        name: how reports call it. Default: the function's own.
        higher_is_better: False where 0 is best.
        binary: True if only 0 and 1 occur, False if others do.
        version: stands for lambdas, callable objects, and what a model judges, where a change cannot be seen
            in the source; change it when the scores change.

    Raises:
        UsageError: if it cannot be called with an example, a prediction and a trace.
    """
    if isinstance(metric, Metric):
        return metric
    if not callable(metric):
        raise UsageError(f"metric={metric!r} is not a function: give metrics.exact_match(…) or a def")
    name = name or str(getattr(metric, "__name__", type(metric).__name__))
    try:
        inspect.signature(metric).bind(None, None, None)
    except (TypeError, ValueError):
        raise UsageError(f"metric {name} must take (example, prediction, trace=None)") from None
    return Metric(name, metric, higher_is_better=higher_is_better, binary=binary, version=version)


def judged(
    metric: Scorer,
    *,
    model: str,
    endpoint: str | None = None,
    temperature: float | None = 0.0,
    max_tokens: int | None = None,
    **options: Any,
) -> Metric:
    """Make a metric of a function that asks a model with DSPy.

    Within the function, ``dspy.settings.lm`` is the judge: a ``dspy.Predict`` that is called there asks it. Its
    answers are recorded, so that a row is judged once; they count towards ``--ft-max-cost``. Where the judge fails,
    or its answer cannot be read, the row has no score: that is never a 0. The model, its endpoint's name, its
    decoding and the function's source, with the signatures it names in its own module, are part of a score.

    Args:
        metric: ``(example, prediction, trace=None) -> bool | float | dspy.Prediction(score=…)``, plain or ``async``.
        model: The id of the model that judges.
        endpoint: The name of its endpoint; None: that of the task.
        temperature: Of every call.
        max_tokens: The longest answer, in tokens.
        options: Those of ``as_metric``.

    Raises:
        UsageError: As ``as_metric`` does.
    """
    return replace(as_metric(metric, **options), judge=Judge(model, endpoint, temperature, max_tokens))


def built_in(name: str, function: Scorer, *, binary: bool, version: int = 1, **settings: object) -> Metric:
    """Make one of our own metrics: its settings say what it does, and ``version`` moves when its code does.

    Args:
        name: of the metric.
        function: computes the score.
        binary: whether only 0 and 1 occur.
        version: to be raised with every change of the scores.
        settings: what the user chose.
    """
    shown = ", ".join(f"{key}={value!r}" if key != "field" else str(value) for key, value in settings.items())
    return Metric(
        f"{name}({shown})",
        function,
        binary=binary,
        version=canonical_json([name, version, settings]).decode(),
    )


def composite(
    parts: Mapping[Metric | Scorer, float] | tuple[Metric | Scorer, float], *more: tuple[Metric | Scorer, float]
) -> Metric:
    """Weigh several metrics into one; where lower is better, ``1 - score`` is taken.

    Args:
        parts: metric -> weight; or the first of several ``(metric, weight)`` pairs.
        more: the other pairs.

    Raises:
        UsageError: without metrics, or with a weight that is not positive.
    """
    pairs = list(parts.items()) if isinstance(parts, Mapping) else [parts, *more]
    weighted = [(as_metric(metric), float(weight)) for metric, weight in pairs]
    if not weighted or not all(math.isfinite(weight) and weight > 0 for _, weight in weighted):
        raise UsageError("composite: give at least one metric, each with a weight above 0")
    total = math.fsum(weight for _, weight in weighted)
    shares = tuple((metric, weight / total) for metric, weight in weighted)

    def weighted_mean(example: Any, prediction: Any, trace: Any = None) -> float:
        return math.fsum(share * metric(example, prediction, trace) for metric, share in shares)

    name = " + ".join(f"{weight:g} {metric.name}" for metric, weight in weighted)
    return Metric(name, weighted_mean, binary=False, parts=shares)

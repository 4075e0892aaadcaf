"""Metrics that are async, and metrics that ask a model; how a judge is asked is tested with a server."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest

from pytest_finetune import metrics
from pytest_finetune.errors import UsageError
from pytest_finetune.metrics import Metric

EXAMPLE = dspy.Example(text="Hi", mood="good").with_inputs("text")
RIGHT = dspy.Prediction(mood="good")


async def slowly(example: Any, prediction: Any, trace: Any = None) -> bool:  # noqa: ARG001  # DSPy's shape
    await asyncio.sleep(0)
    return bool(example.mood == prediction.mood)


def says_one(example: Any, prediction: Any, trace: Any = None) -> float:  # noqa: ARG001  # DSPy's shape
    return 1.0


def test_an_async_metric_is_awaited() -> None:
    metric = metrics.as_metric(slowly)
    assert (metric(EXAMPLE, RIGHT), metric(EXAMPLE, dspy.Prediction(mood="bad"))) == (1.0, 0.0)
    assert metric.accepts(EXAMPLE, RIGHT)


def test_an_async_metric_is_awaited_also_where_a_loop_runs() -> None:
    async def within() -> float:
        return metrics.as_metric(slowly)(EXAMPLE, RIGHT)

    assert asyncio.run(within()) == 1.0


def test_a_judge_is_part_of_what_a_score_is() -> None:
    judges: list[dict[str, Any]] = [
        {"model": "a"},
        {"model": "b"},
        {"model": "a", "endpoint": "openai"},
        {"model": "a", "temperature": 0.5},
        {"model": "a", "max_tokens": 9},
    ]
    prints = {metrics.judged(says_one, **judge).fingerprint() for judge in judges}
    assert len(prints) == len(judges)
    assert metrics.as_metric(says_one).fingerprint() not in prints
    assert metrics.judged(says_one, model="a").fingerprint() in prints


def test_without_a_run_a_judge_says_what_reaches_it() -> None:
    metric = metrics.judged(says_one, model="large")
    with pytest.raises(UsageError, match="metric says_one: it asks the model 'large', which only a run can reach"):
        metric(EXAMPLE, RIGHT)


def test_the_judges_of_composites_and_of_bootstrapping_are_found() -> None:
    one, two = (metrics.judged(says_one, model=name) for name in ("one", "two"))
    metric: Metric = metrics.composite((one, 1), (metrics.exact_match("mood"), 1)).for_bootstrapping(two)
    assert [judge.model for judge in metric.judges] == ["one", "two"]
    assert metrics.exact_match("mood").judges == ()

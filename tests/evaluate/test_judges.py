"""Metrics that ask a model, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest
from tests.evaluate.colours import QUICK, Name, rows, stage

from pytest_finetune import metrics
from pytest_finetune.calls import Budget, Calling, Line, Traffic
from pytest_finetune.calls.records import Replay
from pytest_finetune.core.pricing import SANDBOX_PRICES
from pytest_finetune.core.records import RowState
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import EndpointError
from pytest_finetune.evaluate import evaluate
from pytest_finetune.metrics import Metric
from pytest_finetune.sandbox import Fault, FaultKind, Sandbox
from pytest_finetune.store import Calls, Store

JUDGE = "sandbox-large"


class Grade(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
    """Say how well the colour fits the thing."""

    thing: str = dspy.InputField()
    colour: str = dspy.InputField()
    fit: Literal["well", "badly"] = dspy.OutputField()


def fits(example: Any, prediction: Any, trace: Any = None) -> bool:  # noqa: ARG001  # DSPy's shape
    grade = dspy.Predict(Grade)(thing=example.thing, colour=prediction.colour)
    return bool(grade.fit == "well")


async def fits_slowly(example: Any, prediction: Any, trace: Any = None) -> bool:  # noqa: ARG001  # DSPy's shape
    grade = await dspy.Predict(Grade).acall(thing=example.thing, colour=prediction.colour)
    return bool(grade.fit == "well")


@pytest.fixture
def line(sandbox: Sandbox, path: Path, store: Store) -> Iterator[Line]:  # noqa: ARG001  # it makes the file
    with Calls(path) as calls:
        calling = Calling(Traffic(8), QUICK, 5.0, Budget([SANDBOX_PRICES]), Replay(calls, "judge"))
        yield Line.to(Endpoint("sandbox", sandbox.base_url), calling)


def judge_by(line: Line, function: Any = fits, **options: Any) -> Metric:
    metric = metrics.judged(function, model=JUDGE, **options)
    for judge in metric.judges:
        judge.connect(lambda judge: line.lm(judge.model, **judge.decoding()))
    return metric


def asked(sandbox: Sandbox) -> int:
    count: int = sandbox.request_counts()["by_model"].get(JUDGE, 0)
    return count


@pytest.mark.parametrize("function", [fits, fits_slowly])
def test_each_row_is_judged_once(sandbox: Sandbox, store: Store, line: Line, function: Any) -> None:
    metric, run = judge_by(line, function), stage("baseline", sandbox.base_url)
    first = evaluate([run], rows(30), metric, store)["baseline"]
    assert {row.state for row in first} == {RowState.SCORED}
    assert {row.score for row in first} <= {0.0, 1.0}
    assert asked(sandbox) == 30
    assert evaluate([run], rows(30), metric, store)["baseline"] == first
    assert asked(sandbox) == 30


def test_what_a_judge_said_is_found_again_by_another_metric_that_asks_the_same(
    sandbox: Sandbox, store: Store, line: Line
) -> None:
    run = stage("baseline", sandbox.base_url)
    evaluate([run], rows(30), judge_by(line), store)
    evaluate([run], rows(30), judge_by(line, higher_is_better=False), store)
    assert asked(sandbox) == 30


def test_an_answer_of_the_judge_that_cannot_be_read_is_no_score_and_is_asked_for_again(
    sandbox: Sandbox, store: Store, line: Line
) -> None:
    metric, run = judge_by(line), stage("baseline", sandbox.base_url)
    sandbox.set_faults(Fault(kind=FaultKind.GARBLE, model=JUDGE, times=1))
    found = evaluate([run], rows(30), metric, store)["baseline"]
    (lost,) = [row for row in found if row.state is RowState.ERROR]
    assert lost.score is None
    assert lost.output is not None
    assert "the answer of the judge 'sandbox-large' cannot be read" in (lost.error or "")
    found = evaluate([run], rows(30), metric, store)["baseline"]
    assert {row.state for row in found} == {RowState.SCORED}
    assert (asked(sandbox), sandbox.request_counts()["total"]) == (31, 61)


def test_a_judge_that_is_down_ends_the_evaluation_and_no_answer_is_lost(
    sandbox: Sandbox, store: Store, line: Line
) -> None:
    metric, run = judge_by(line), stage("baseline", sandbox.base_url)
    sandbox.set_faults(Fault(kind=FaultKind.SERVER_ERROR, model=JUDGE))
    with pytest.raises(EndpointError, match="8 rows in a row got no score from the model that judges"):
        evaluate([run], rows(40), metric, store, concurrency=4)
    sandbox.set_faults()
    found = evaluate([run], rows(40), metric, store)["baseline"]
    assert {row.state for row in found} == {RowState.SCORED}
    assert sandbox.request_counts()["by_model"]["sandbox-small"] == 40


def test_faults_of_the_judge_change_no_score(sandbox: Sandbox, store: Store, line: Line) -> None:
    run = stage("baseline", sandbox.base_url)
    calm = evaluate([run], rows(60), judge_by(line), store)["baseline"]
    sandbox.set_faults(
        Fault(kind=FaultKind.RATE_LIMIT, rate=0.1, seconds=0.05),
        Fault(kind=FaultKind.SERVER_ERROR, rate=0.1),
        Fault(kind=FaultKind.DROP, rate=0.1),
    )
    stormy = evaluate([run], rows(60), judge_by(line, temperature=0.0, max_tokens=50), store)["baseline"]
    assert [row.score for row in stormy] == [row.score for row in calm]


class Namer(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    """A program that is async only."""

    def __init__(self) -> None:
        super().__init__()
        self.name = dspy.Predict(Name)

    async def aforward(self, thing: str) -> dspy.Prediction:
        return await self.name.acall(thing=thing)


def test_a_program_that_is_async_only_gives_the_same_answers(sandbox: Sandbox, store: Store) -> None:
    data, metric = rows(30), metrics.exact_match("colour")
    stages = [stage("plain", sandbox.base_url), stage("async", sandbox.base_url, Namer())]
    found = evaluate(stages, data, metric, store)
    assert [row.score for row in found["plain"]] == [row.score for row in found["async"]]
    assert {row.state for row in found["async"]} == {RowState.SCORED}

from __future__ import annotations

import math
import re
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from pytest_finetune import metrics
from pytest_finetune.errors import UsageError
from pytest_finetune.metrics import Metric, as_metric, composite

EXAMPLE = dspy.Example(text="I was charged twice", category="billing").with_inputs("text")
RIGHT = dspy.Prediction(category="billing")
WRONG = dspy.Prediction(category="technical")
ROW = "row 3f2a77d01c9be455 (tickets.jsonl:17)"


def giving(value: Any, **options: Any) -> Metric:
    def fixed(example: Any, prediction: Any, trace: Any = None) -> Any:  # noqa: ARG001  # the value is all that matters
        return value

    return as_metric(fixed, **options)


def length_error(example: Any, prediction: Any, trace: Any = None) -> float:  # noqa: ARG001  # DSPy's shape
    return min(1.0, abs(len(example.category) - len(prediction.category)) / 10)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, 1.0),
        (False, 0.0),
        (0, 0.0),
        (1, 1.0),
        (0.25, 0.25),
        (dspy.Prediction(score=0.5, feedback="half"), 0.5),
        (dspy.Prediction(score=True), 1.0),
        (1 + 1e-12, 1.0),
        (-1e-12, 0.0),
    ],
)
def test_scores(value: object, expected: float) -> None:
    score = giving(value).score(EXAMPLE, RIGHT)
    assert (score, type(score)) == (expected, float)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "0.9",
        {"score": 1},
        [1],
        1.5,
        -0.5,
        math.nan,
        math.inf,
        dspy.Prediction(answer="x"),
        dspy.Prediction(score=None),
    ],
    ids=repr,
)
def test_anything_else_is_an_error_that_names_the_row(value: object) -> None:
    message = rf"^metric fixed, {re.escape(ROW)}: gave .*; a score is a bool or a number from 0 to 1$"
    with pytest.raises(UsageError, match=re.compile(message, re.DOTALL)):
        giving(value).score(EXAMPLE, RIGHT, where=ROW)


@given(st.floats(0, 1))
def test_every_number_from_0_to_1_is_kept(value: float) -> None:
    assert giving(value).score(EXAMPLE, RIGHT) == value


def test_messages(snapshot: SnapshotAssertion) -> None:
    def broken(example: Any, prediction: Any, trace: Any = None) -> bool:  # noqa: ARG001  # DSPy's shape
        raise KeyError("category")

    cases = [
        (giving(None), RIGHT),
        (giving("x" * 200), RIGHT),
        (as_metric(broken), RIGHT),
        (metrics.exact_match("label"), dspy.Prediction(label="x")),
        (metrics.exact_match("category"), dspy.Prediction(reasoning="because", answer="x")),
        (metrics.exact_match("category"), dspy.Prediction()),
        (metrics.exact_match("category"), None),
        (composite((giving(2), 1), (metrics.exact_match("category"), 1)), RIGHT),
    ]
    messages = []
    for metric, prediction in cases:
        with pytest.raises(UsageError) as caught:
            metric.score(EXAMPLE, prediction, where=ROW)
        messages.append(re.sub(r"py:\d+", "py:LINE", str(caught.value)))
    assert messages == snapshot


def test_a_metric_is_a_dspy_metric() -> None:
    def program(text: str) -> dspy.Prediction:
        return dspy.Prediction(category="billing" if "charged" in text else "technical")

    rows = [EXAMPLE, dspy.Example(text="hello", category="billing").with_inputs("text")]
    evaluate = dspy.Evaluate(
        devset=rows, metric=metrics.exact_match("category"), num_threads=1, display_progress=False
    )
    assert evaluate(program).score == 50.0


def test_where_lower_is_better_scores_stay_and_dspy_maximises_their_complement() -> None:
    metric = as_metric(length_error, higher_is_better=False)
    assert (metric.score(EXAMPLE, WRONG), metric(EXAMPLE, WRONG)) == (0.2, 0.8)


def test_the_trace_is_handed_on() -> None:
    seen = []

    def curious(example: Any, prediction: Any, trace: Any = None) -> bool:  # noqa: ARG001  # DSPy's shape
        seen.append(trace)
        return True

    as_metric(curious)(EXAMPLE, RIGHT, ["step"])
    as_metric(curious).score(EXAMPLE, RIGHT)
    assert seen == [["step"], None]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (giving(0.49), False),
        (giving(0.5), True),
        (giving(0.5, binary=True), False),
        (giving(1, binary=True), True),
        (giving(0.4, higher_is_better=False), True),
        (giving(0.6, higher_is_better=False), False),
        (giving(1, higher_is_better=False, binary=True), False),
        (giving(0.3).for_bootstrapping(threshold=0.3), True),
        (giving(0.3).for_bootstrapping(threshold=0.31), False),
        (giving(0.3, higher_is_better=False).for_bootstrapping(threshold=0.3), True),
        (giving(0.3, higher_is_better=False).for_bootstrapping(threshold=0.29), False),
        (giving(0.0).for_bootstrapping(giving(1)), True),
        (giving(1.0).for_bootstrapping(giving(0.2)), False),
        (giving(1.0).for_bootstrapping(giving(0.2), threshold=0.2), True),
    ],
)
def test_what_may_be_trained_on(metric: Metric, expected: bool) -> None:
    assert metric.accepts(EXAMPLE, RIGHT) is expected


def test_a_bootstrapping_metric_leaves_scores_alone() -> None:
    metric = metrics.exact_match("category")
    lenient = metric.for_bootstrapping(lambda example, prediction, trace=None: True)  # noqa: ARG005
    assert (lenient.score(EXAMPLE, WRONG), lenient.accepts(EXAMPLE, WRONG)) == (0.0, True)
    assert lenient.fingerprint() == metric.fingerprint()


def test_a_threshold_out_of_range_is_refused() -> None:
    with pytest.raises(UsageError, match="threshold=80: scores lie between 0 and 1"):
        metrics.exact_match("category").for_bootstrapping(threshold=80)


def test_a_metric_stays_itself() -> None:
    metric = metrics.exact_match("category")
    assert as_metric(metric) is metric
    assert (metric.name, metric.binary, metric.higher_is_better) == ("exact_match(category)", True, True)
    assert (as_metric(length_error).name, as_metric(length_error).binary) == ("length_error", None)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("exact_match", "metric='exact_match' is not a function"),
        (lambda example: True, "metric <lambda> must take"),  # noqa: ARG005
        (lambda example, prediction: True, r"metric <lambda> must take \(example, prediction, trace=None\)"),  # noqa: ARG005
    ],
)
def test_what_is_no_metric_is_refused_at_once(function: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        as_metric(function)


def test_a_composite_weighs_its_parts() -> None:
    metric = composite({giving(1.0, name="a"): 3, giving(0.5, name="b", higher_is_better=False): 1})
    assert metric.score(EXAMPLE, RIGHT) == 0.875
    assert (metric.name, metric.binary, metric.higher_is_better) == ("3 a + 1 b", False, True)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.floats(1e-6, 1e6)), min_size=1, max_size=5))
def test_a_composite_stays_between_0_and_1(parts: list[tuple[float, float]]) -> None:
    metric = composite(*((giving(value), weight) for value, weight in parts))
    assert 0 <= metric.score(EXAMPLE, RIGHT) <= 1


@pytest.mark.parametrize("parts", [{}, {length_error: 0}, {length_error: -1}, {length_error: math.nan}])
def test_impossible_weights_are_refused(parts: dict[Any, float]) -> None:
    with pytest.raises(UsageError, match="give at least one metric, each with a weight above 0"):
        composite(parts)


def test_fingerprints_tell_metrics_and_settings_apart() -> None:
    different = [
        metrics.exact_match("category"),
        metrics.exact_match("other"),
        metrics.contains("category"),
        metrics.numeric("category", tolerance=0.1),
        metrics.numeric("category", tolerance=0.2),
        as_metric(length_error),
        as_metric(length_error, higher_is_better=False),
        as_metric(lambda e, p, trace=None: 1, version="1"),  # noqa: ARG005
        as_metric(lambda e, p, trace=None: 1, version="2"),  # noqa: ARG005
        composite((metrics.exact_match("category"), 1), (length_error, 1)),
        composite((metrics.exact_match("category"), 1), (length_error, 2)),
    ]
    assert len({metric.fingerprint() for metric in different}) == len(different)


def test_a_metric_made_again_has_the_same_fingerprint() -> None:
    assert metrics.exact_match("category").fingerprint() == metrics.exact_match("category").fingerprint()
    doubled = [composite((metrics.exact_match("a"), w), (length_error, w)).fingerprint() for w in (1, 2)]
    assert doubled[0] == doubled[1]


def test_a_lambda_asks_for_a_version() -> None:
    metric = as_metric(lambda e, p, trace=None: 1)  # noqa: ARG005
    assert metric.score(EXAMPLE, RIGHT) == 1.0
    with pytest.raises(UsageError, match="or pass version="):
        metric.fingerprint()

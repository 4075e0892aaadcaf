from __future__ import annotations

import enum
import math
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pytest_finetune import metrics
from pytest_finetune.errors import UsageError
from pytest_finetune.metrics import Metric

TEXT = st.text(st.characters(codec="utf-8"))


def score(metric: Metric, expected: Any, answer: Any) -> float:
    return metric.score(dspy.Example(x=expected), dspy.Prediction(x=answer))


class Colour(enum.Enum):
    RED = "red"


class Person(BaseModel):
    name: str
    age: int | None = None


@pytest.mark.parametrize(
    ("expected", "answer", "value"),
    [
        ("billing", " “Billing”. ", 1),
        ("billing", "**billing**", 1),
        ("feature request", "Feature \n Request!", 1),
        ("\ufb01ne", "fine", 1),
        ("STRASSE", "straße", 1),
        ("billing", "billing issue", 0),
        ("C", "C++", 0),
        ("5", "-5", 0),
        ("5", ".5", 0),
        ("?", "!", 0),
        ("5", 5, 1),
        (5, 5.0, 1),
        (True, "true", 1),
        (1, True, 0),
        (None, None, 1),
        ("none", None, 0),
        (None, "None", 0),
        ("red", Colour.RED, 1),
        (["Paris", "City of Light"], "paris", 1),
        (["a", "b"], ["A", "b."], 1),
        (["a", "b"], ["b", "a"], 0),
        (["a"], "b", 0),
        ({"name": "Ann", "age": 3}, Person(name="ann", age=3), 1),
        ({"name": "Ann"}, {"name": "Ann", "age": 3}, 0),
        ("nan", math.nan, 1),
    ],
)
def test_exact_match(expected: object, answer: object, value: float) -> None:
    assert score(metrics.exact_match("x"), expected, answer) == value


@given(TEXT)
def test_every_text_matches_itself(text: str) -> None:
    assert score(metrics.exact_match("x"), text, text) == 1


@pytest.mark.parametrize(
    ("expected", "answer", "value"),
    [
        ("The Eiffel Tower", "eiffel tower.", 1),
        ("Eiffel Tower", "the tower in Paris", 0.4),
        ("a b b", "b b c", 0.8),
        ("yes", "no", 0),
        ("", "", 1),
        ("", "no", 0),
        ("yes", None, 0),
        (["Paris", "the capital"], "Capital", 1),
        ("it's", "its", 1),
    ],
)
def test_token_f1(expected: object, answer: object, value: float) -> None:
    assert score(metrics.token_f1("x"), expected, answer) == pytest.approx(value)


@given(TEXT, TEXT)
def test_token_f1_is_symmetric_and_at_most_1(one: str, other: str) -> None:
    metric = metrics.token_f1("x")
    assert 0 <= score(metric, one, other) == score(metric, other, one) <= 1


@pytest.mark.parametrize(
    ("settings", "expected", "answer", "value"),
    [
        ({}, 3, 3.0, 1),
        ({}, 3, "3.00", 1),
        ({}, 3, 3.1, 0),
        ({"tolerance": 0.5}, 3, 3.5, 1),
        ({"tolerance": 0.5}, 3, 3.6, 0),
        ({"relative": 0.1}, -100, -110, 1),
        ({"relative": 0.1}, -100, -111, 0),
        ({"relative": 0.1, "tolerance": 20}, 100, 120, 1),
        ({}, "1,234.5", "1234.5", 1),
        ({}, 15, "1,5", 0),
        ({}, 3, "three", 0),
        ({}, 1, True, 0),
        ({}, 3, None, 0),
        ({"tolerance": 1e9}, 3, math.nan, 0),
        ({"tolerance": 1e9}, 3, "inf", 0),
    ],
)
def test_numeric(settings: dict[str, float], expected: object, answer: object, value: float) -> None:
    assert score(metrics.numeric("x", **settings), expected, answer) == value


@pytest.mark.parametrize(
    ("expected", "answer", "value"),
    [
        (["a", "b"], ["B", "a", "a"], 1),
        (["a", "b"], ["a"], 2 / 3),
        (["a", "b"], ["a", "c"], 0.5),
        (["a"], "A.", 1),
        ([], [], 1),
        ([], ["a"], 0),
        (["a"], None, 0),
        ([{"name": "Ann", "age": None}], [Person(name="Ann")], 1),
    ],
)
def test_set_f1(expected: object, answer: object, value: float) -> None:
    assert score(metrics.set_f1("x"), expected, answer) == pytest.approx(value)


@given(st.lists(st.sampled_from("abcd")), st.lists(st.sampled_from("abcd")))
def test_set_f1_is_symmetric(one: list[str], other: list[str]) -> None:
    metric = metrics.set_f1("x")
    assert score(metric, one, other) == score(metric, other, one)


@pytest.mark.parametrize(
    ("expected", "answer", "value"),
    [
        ("Paris", "It is paris, of course.", 1),
        ("no", "I know.", 0),
        ("C++", "use c++ here", 1),
        (["Rome", "Paris"], "in Paris", 1),
        ("Paris", None, 0),
    ],
)
def test_contains(expected: object, answer: object, value: float) -> None:
    assert score(metrics.contains("x"), expected, answer) == value


@pytest.mark.parametrize(("answer", "value"), [("AB-12", 1), ("see AB-12", 1), ("ab-12", 0), (None, 0), (12, 0)])
def test_regex(answer: object, value: float) -> None:
    assert score(metrics.regex(r"[A-Z]{2}-\d+", "x"), None, answer) == value


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ('{"a": 1}', 1),
        ("[1]", 1),
        ({"a": 1}, 1),
        ("{a: 1}", 0),
        ('```json\n{"a": 1}\n```', 0),
        ("NaN", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_json_valid(answer: object, value: float) -> None:
    assert score(metrics.json_valid("x"), None, answer) == value


@pytest.mark.parametrize(
    ("fields", "expected", "answer", "value"),
    [
        (None, '{"name": "Ann", "age": 3}', '{"age": 3.0, "name": "ANN"}', 1),
        (None, {"name": "Ann", "age": 3}, Person(name="Ann", age=4), 0.5),
        (["name"], {"name": "Ann", "age": 3}, {"name": "Ann"}, 1),
        (None, {"name": None}, {}, 0),
        (None, {"name": "Ann"}, "no JSON", 0),
        (None, {"name": "Ann"}, "[1]", 0),
    ],
)
def test_json_fields(fields: list[str] | None, expected: object, answer: object, value: float) -> None:
    assert score(metrics.json_fields("x", fields), expected, answer) == value


@pytest.mark.parametrize(
    ("metric", "expected", "message"),
    [
        (metrics.numeric("x"), "three", "field 'x' of the example is not a number: 'three'"),
        (metrics.contains("x"), "", "field 'x' of the example is empty"),
        (metrics.json_fields("x"), "[]", r"must be an object with the fields to compare \(at least one\)"),
        (metrics.json_fields("x", ["b"]), {"a": 1}, r"must be an object with the fields to compare \(b\)"),
        (metrics.exact_match("x"), math.nan, "nan is not a number that can be kept"),
    ],
)
def test_rows_that_cannot_be_scored_are_errors(metric: Metric, expected: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        score(metric, expected, "1")


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="tolerance and relative are 0 or more"):
        metrics.numeric("x", tolerance=-1)
    with pytest.raises(UsageError, match="unterminated character set"):
        metrics.regex("[a", "x")


def test_names_show_the_settings() -> None:
    assert metrics.numeric("price", tolerance=0.5).name == "numeric(price, tolerance=0.5, relative=0.0)"
    assert metrics.regex("^a", "x").name == "regex(pattern='^a', x)"

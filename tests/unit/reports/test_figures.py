from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tests.unit.reports.cases import RESULTS, bar, judged

from pytest_finetune.core.records import Measure
from pytest_finetune.reports.figures import amount, compared, figures, shift, span


@pytest.mark.parametrize(
    ("value", "measure", "words"),
    [
        (0.8125, Measure.SCORE, "0.812"),
        (0.8, Measure.SCORE, "0.8"),
        (1.0, Measure.SCORE, "1"),
        (0.0, Measure.SCORE, "0"),
        (0.00008, Measure.COST, "$0.0000800"),
        (3.3566, Measure.COST, "$3.36"),
        (0.0, Measure.COST, "$0"),
        (1.2345, Measure.LATENCY, "1.23 s"),
        (323.14, Measure.TOKENS, "323.1"),
        (12345.6, Measure.TOKENS, "12,346"),
    ],
)
def test_a_figure_has_its_unit_and_never_an_exponent(value: float, measure: Measure, words: str) -> None:
    assert amount(value, measure) == words


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        (0.81, 0.85, "0.81 < 0.85, n=200"),
        (0.9, 0.85, "0.9 > 0.85, n=200"),
        (0.85, 0.85 + 1e-16, "0.85 = 0.85, n=200"),
        (0.85, 0.8503, "0.85 < 0.8503, n=200"),
    ],
)
def test_figures_that_differ_look_different(left: float, right: float, words: str) -> None:
    verdict = replace(RESULTS["bar failed"].verdict, left=left, right=right)
    assert compared(verdict, Measure.SCORE) == words


def test_the_figures_are_those_of_the_slice_that_decides() -> None:
    assert figures(RESULTS["a slice failed"]) == "0.5 < 1, n=40 in billing"
    assert figures(RESULTS["slices undecided"]) == "0.833 < 0.917, n=12 in tenant 0"
    assert figures(RESULTS["slices passed"]) == "1 > 0.762, n=290"
    assert figures(judged("finetuned >= 0.85", bar(166, 200))) == "0.83 < 0.85, n=200"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0621, "0.062 better"),
        (-0.0621, "0.062 worse"),
        (0.0001, "equal"),
        (0.0, "equal"),
        (-math.inf, "any amount worse"),
    ],
)
def test_a_difference_says_which_way_it_goes(value: float, words: str) -> None:
    assert shift(value, Measure.SCORE) == words


def test_rounding_noise_of_a_cost_is_no_difference() -> None:
    assert shift(1e-18, Measure.COST) == "equal"
    assert shift(1e-8, Measure.COST) == "$0.0000000100 better"


@pytest.mark.parametrize(
    ("lower", "upper", "words"),
    [
        (-0.09, -0.03, "0.09 to 0.03 worse"),
        (0.03, 0.09, "0.03 to 0.09 better"),
        (-0.01, 0.03, "0.01 worse to 0.03 better"),
        (-0.01, 0.0, "0.01 worse to equal"),
        (0.01, math.inf, "0.01 to any amount better"),
        (-math.inf, math.inf, "unbounded"),
    ],
)
def test_an_interval_says_its_side_once(lower: float, upper: float, words: str) -> None:
    assert span(lower, upper, Measure.SCORE) == words

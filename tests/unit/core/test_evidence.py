from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.cases import ABOVE, claim, evidence

from pytest_finetune.core.evidence import MAX_MISSING, MIN_ROWS, check_evidence, check_metric, pair_rows, remarks
from pytest_finetune.core.records import Evidence, Measure, Pair, Row, RowState, Usage
from pytest_finetune.errors import EvidenceError


def row(row_id: str, score: float | None = 1.0, **changes: object) -> Row:
    made = Row(row_id, "finetuned", 0, RowState.SCORED, score, output=f"answer {score}")
    return replace(made, **changes)  # type: ignore[arg-type]  # each caller names fields of Row


def lost(rows: int) -> tuple[str, ...]:
    return tuple(f"lost {i}" for i in range(rows))


# --- pairing ---


def test_rows_are_paired_in_the_given_order_and_repeats_averaged() -> None:
    left = [row("b", 1.0), row("a", 1.0), row("a", 0.0, repeat=1)]
    right = [row("a", 1.0), row("b", 0.0)]
    paired = pair_rows(claim(ABOVE), left, right, row_ids=["b", "a"], groups={"a": "g"}, parts={"b": "billing"})
    assert paired == Evidence((Pair("b", 1.0, 0.0, None, "billing"), Pair("a", 0.5, 1.0, "g", None)))


def test_an_error_is_a_missing_pair_and_a_format_error_a_zero() -> None:
    left = [
        row("a", None, state=RowState.ERROR, error="503"),
        row("b", None, state=RowState.FORMAT_ERROR, output="not json"),
        row("c", None, state=RowState.NOT_RUN),
        row("d", 1.0),
        row("d", None, repeat=1, state=RowState.ERROR),
    ]
    paired = pair_rows(claim("finetuned >= 0.85"), left, row_ids=["a", "b", "c", "d", "e"])
    assert (paired.pairs, paired.missing) == ((Pair("b", 0.0, 0.85),), ("a", "c", "d", "e"))
    assert (paired.n_missing, paired.n_expected) == (4, 5)


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        ("cost", 0.25),
        ("tokens", 30.0),
        ("latency", 1.5),
        ("latency_p95", 1.5),
        ("format_errors", 0.0),
        ("score", 0.5),
    ],
)
def test_each_measure_reads_its_figure(measure: str, value: float) -> None:
    made = row("a", 0.5, usage=Usage(10, 20, 0.25), latency=1.5)
    paired = pair_rows(claim(f"{measure}(finetuned) <= 1"), [made], row_ids=["a"])
    assert paired.pairs == (Pair("a", value, 1.0),)


def test_a_format_error_counts_in_its_own_measure() -> None:
    broken = row("a", None, state=RowState.FORMAT_ERROR)
    assert [broken.value(measure) for measure in (Measure.FORMAT_ERRORS, Measure.SCORE)] == [1.0, 0.0]


def test_an_unknown_cost_is_missing_not_zero() -> None:
    made = [row("a", usage=Usage(10, 20)), row("b")]
    assert pair_rows(claim("cost(finetuned) <= 1"), made, row_ids=["a", "b"]).missing == ("a", "b")


@given(st.lists(st.sampled_from("abcdef"), max_size=12), st.lists(st.sampled_from("abcdef"), max_size=12))
def test_every_row_is_paired_or_missing_and_keeps_its_place(left: list[str], right: list[str]) -> None:
    paired = pair_rows(claim(ABOVE), map(row, left), map(row, right), row_ids="fbdace")
    both = {*left} & {*right}
    assert [pair.row_id for pair in paired.pairs] == [name for name in "fbdace" if name in both]
    assert list(paired.missing) == [name for name in "fbdace" if name not in both]


def test_identical_outputs_are_noticed() -> None:
    left, right = [row("a"), row("b")], [row("b"), row("a")]
    assert pair_rows(claim(ABOVE), left, right, row_ids=["a", "b"]).same_outputs
    changed = [row("a"), row("b", output="other")]
    assert not pair_rows(claim(ABOVE), left, changed, row_ids=["a", "b"]).same_outputs
    assert not pair_rows(claim("finetuned >= 0.5"), left, row_ids=["a", "b"]).same_outputs
    unkept = [row("a", output=None), row("b", output=None)]
    assert not pair_rows(claim(ABOVE), unkept, unkept, row_ids=["a", "b"]).same_outputs


def test_a_row_that_both_refuse_does_not_hide_that_all_others_are_the_same() -> None:
    left, right = ([row(name, 1.0, output="red") for name in "abc"] for _ in range(2))
    refused = [row("d", 0.0, output=None)]
    assert pair_rows(claim(ABOVE), [*left, *refused], [*right, *refused], row_ids=list("abcd")).same_outputs
    answered = [row("d", 0.0, output="blue")]
    assert not pair_rows(claim(ABOVE), [*left, *refused], [*right, *answered], row_ids=list("abcd")).same_outputs


def test_repeats_are_identical_one_by_one_however_they_came_in() -> None:
    first, second = row("a", output="x"), row("a", output="y", repeat=1)
    swapped = [row("a", output="y"), row("a", output="x", repeat=1)]
    assert pair_rows(claim(ABOVE), [first, second], [second, first], row_ids=["a"]).same_outputs
    assert not pair_rows(claim(ABOVE), [first, second], swapped, row_ids=["a"]).same_outputs


# --- what no verdict may rest on ---


@pytest.mark.parametrize("n", [0, 1, MIN_ROWS - 1])
def test_too_few_rows_are_an_error_that_counts_them(n: int) -> None:
    with pytest.raises(EvidenceError, match=f"rows to judge it on: {n}, where a verdict needs 10"):
        check_evidence(claim(ABOVE), evidence([0.5] * n, 1.0))


def test_ten_rows_are_enough() -> None:
    check_evidence(claim(ABOVE), evidence([0.5] * MIN_ROWS, 1.0))


def test_more_than_two_percent_missing_is_an_error_that_names_rows() -> None:
    check_evidence(claim(ABOVE), evidence([0.5] * 98, 1.0, missing=lost(2)))
    with pytest.raises(EvidenceError) as caught:
        check_evidence(claim(ABOVE), evidence([0.5] * 98, 1.0, missing=lost(3)))
    assert str(caught.value) == (
        "'finetuned >= baseline': 3 of 101 rows have no score on both sides (first: lost 0, lost 1, lost 2); a "
        "verdict allows 2%. A provider's error is never a score: run again, which asks only for the missing rows."
    )
    with pytest.raises(EvidenceError, match=r"10 of 10 rows have no cost on the left side .* its price is unknown"):
        check_evidence(claim("cost(finetuned) <= 1"), evidence([], 1.0, missing=lost(10)))


@given(st.integers(0, 400), st.integers(0, 20))
def test_the_share_of_missing_rows_decides(n: int, missing: int) -> None:
    made = evidence([0.5] * n, 1.0, missing=lost(missing))
    if n + missing >= MIN_ROWS and missing <= MAX_MISSING * (n + missing):
        check_evidence(claim(ABOVE), made)
    else:
        with pytest.raises(EvidenceError):
            check_evidence(claim(ABOVE), made)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1.5, -0.1])
def test_a_score_out_of_range_is_an_error_that_names_the_row(bad: float) -> None:
    with pytest.raises(EvidenceError, match=r"row 9 has the score .* in \[0, 1\]: mend the metric"):
        check_evidence(claim(ABOVE), evidence([*[1.0] * 9, bad], 1.0))
    with pytest.raises(EvidenceError, match="row 0 has the score"):
        check_evidence(claim(ABOVE), evidence([1.0] * 10, bad))


def test_a_cost_may_exceed_one_but_must_be_finite() -> None:
    check_evidence(claim("cost(finetuned) <= 9"), evidence([7.5] * 10, 9.0))
    for bad in (math.inf, -0.01):
        with pytest.raises(EvidenceError, match=r"row 9 has the cost .* of at least 0"):
            check_evidence(claim("cost(finetuned) <= 9"), evidence([*[7.5] * 9, bad], 9.0))


def test_different_models_with_identical_outputs_are_an_error_except_against_locked() -> None:
    same = replace(evidence([1.0] * 40, 1.0), same_outputs=True)
    with pytest.raises(EvidenceError, match="two different models gave identical outputs on all 40 rows"):
        check_evidence(claim(ABOVE), same)
    check_evidence(claim(ABOVE), replace(same, same_model=True))
    check_evidence(claim("finetuned >= locked"), same)


def test_a_metric_constant_over_stages_is_an_error() -> None:
    rows = [row("a"), row("b"), row("a", stage="baseline"), row("b", None, state=RowState.ERROR)]
    with pytest.raises(EvidenceError, match="the metric gave 1 to every row of baseline, finetuned"):
        check_metric(rows)
    check_metric(rows[:2])
    check_metric([*rows, row("b", 0.0, stage="baseline")])
    check_metric([])


# --- what a reader must know ---

UNHEEDED = "Both sides gave identical outputs on every row, although their programs differ"


@pytest.mark.parametrize(
    ("text", "made", "starts"),
    [
        (ABOVE, Evidence((), same_model=True, same_outputs=True), [UNHEEDED]),
        (ABOVE, Evidence((), same_model=True, same_program=True, same_outputs=True), []),
        (ABOVE, Evidence((), same_model=True), []),
        ("finetuned >= locked", Evidence((), same_model=True, same_outputs=True), []),
        (ABOVE, evidence([1.0] * 99, 1.0, missing=lost(1)), ["1 of 100 rows lack a value and were left out."]),
        (
            ABOVE,
            replace(evidence([1.0] * 98, 1.0, missing=lost(2)), same_model=True, same_outputs=True),
            [UNHEEDED, "2 of 100 rows lack a value and were left out."],
        ),
    ],
)
def test_remarks(text: str, made: Evidence, starts: list[str]) -> None:
    found = remarks(claim(text), made)
    assert len(found) == len(starts)
    assert all(remark.startswith(start) for remark, start in zip(found, starts, strict=True))

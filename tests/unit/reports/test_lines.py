from __future__ import annotations

import re
from dataclasses import replace

import pytest
from syrupy.assertion import SnapshotAssertion
from tests.unit.core.cases import ABOVE, LATENCIES, evidence, flips, sliced
from tests.unit.reports.cases import BY, LADDER, RESULTS, WARN, judged

from pytest_finetune.core.records import Inconclusive, Outcome
from pytest_finetune.core.results import Result
from pytest_finetune.reports.lines import WIDTH, explanation, failure

EVERY = pytest.mark.parametrize("result", RESULTS.values(), ids=list(RESULTS))


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def told(result: Result) -> str:
    return "\n".join(failure(result))


def test_the_cases_are_of_every_outcome() -> None:
    assert {result.verdict.outcome for result in RESULTS.values()} == set(Outcome)
    assert {result.policy.inconclusive for result in RESULTS.values()} == set(Inconclusive)


@EVERY
def test_every_kind_of_verdict(result: Result, snapshot: SnapshotAssertion) -> None:
    assert told(result) == snapshot


@EVERY
def test_the_first_line_starts_with_the_figures_and_the_others_are_short(result: Result) -> None:
    first, *others = failure(result)
    assert re.match(r"\$?[\d.,]+( s)? [<=>] \$?[\d.,]+( s)?, n=\d+", first)
    assert f"{result.claim!r} of task 'tickets' " in first
    assert [line for line in others if len(line) > WIDTH] == []
    assert others == list(explanation(result))


@EVERY
def test_it_says_what_was_claimed_and_seen_and_what_to_do(result: Result) -> None:
    verdict, text = result.verdict, told(result)
    labels = [line.partition(":")[0] for line in explanation(result) if re.match(r"[A-Z][a-z]+: ", line)]
    wanted = ["Claimed", "Why"] if verdict.identity else ["Claimed", "Seen", "Rows", "Why", "Test"]
    if verdict.outcome is not Outcome.PASS:
        wanted += ["Next"]
    assert [label for label in labels if label in wanted] == wanted
    if not verdict.identity:
        assert f"{verdict.wins} won, {verdict.losses} lost, {verdict.ties} equal" in text
        assert f"{verdict.n:,}" in text
    if verdict.rows_needed is not None and verdict.planned is None:
        more = verdict.rows_needed - verdict.n
        assert f"add about {more:,} rows: {verdict.rows_needed:,} test rows in all would settle it" in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fail", "does not hold: certified worse than the margin allows"),
        ("fail", "0.2 worse (90 % interval: 0.274 to 0.126 worse)"),
        ("fail", "build anew: pytest --ft-retrain --ft-task tickets"),
        ("held as observed", "is held, not certified"),
        ("held as observed", "So: what was seen decides: held."),
        ("held as observed", "margin 0.06 can be certified with these rows"),
        ("held as observed", "better or worse at all: p = 0.8770 (McNemar's mid-p)"),
        ("not held as observed", "So: what was seen decides: not held."),
        ("only certified passes", "So: only what is certified passes (inconclusive='fail')."),
        ("warned", "So: it does not block (inconclusive='warn')."),
        ("supporting", "So: a supporting claim blocks only where it is certified not to hold."),
        ("advisory, failed", "So: an advisory claim never blocks."),
        ("on the edge", "no number of rows settles that"),
        ("better is asked for", "at least 0.05 better is asked for"),
        ("share of the teacher", "finetuned keeps 0.967 to 1.01 of teacher's score; at least 0.95 is claimed."),
        ("cost, passed", "$0.000107 against $0.000214 on 60 rows"),
        ("cost, passed", "finetuned takes 0.0493 to 0.0507 of teacher's cost; at most 0.1 is claimed."),
        ("tokens of a row", "1,804 against 2,000 on 50 rows, 196.2 better"),
        ("latency at a percentile", "finetuned's latency at percentile 95 is at most 1.2 times baseline's."),
        ("latency, too few rows", "(90 % interval: unbounded)"),
        ("one group", "add rows of other groups"),
        ("identity", "the claim holds by identity"),
        ("identity with noise", "one model gave two answers to one question"),
        ("locked, drifted", "at least the accepted rows', less 0.01."),
        ("locked, drifted", "find what has changed since it was accepted"),
        ("a slice failed", "0.5 < 1, n=40 in billing: 'finetuned >= baseline by category'"),
        ("a slice failed", "Slices: 1 of 3 hold, certified; the others:"),
        ("a slice failed", "  billing: 0.5 < 1, n=40, does not hold"),
        ("slices undecided", "  … and 3 more"),
        ("on a suite", '"finetuned >= baseline" --on safety'),
        ("decided early", "on the first 210 of 611 rows"),
        ("decided early", "decided after 210 of 611 rows."),
        ("stopped as futile", "stopped early, since the other rows could hardly decide it."),
        ("stopped as futile", '"finetuned >= baseline" --max-rows 320'),
        ("alpha spent", "judged 3 candidates: this one at alpha 0.00338 instead of 0.05 (spend_alpha)."),
        ("third candidate", "these rows have judged 3 candidates, each with its chance of luck"),
        ("rows missing", "Note: 2 of 402 rows lack a value and were left out."),
    ],
)
def test_the_fact_that_matters_is_told(name: str, words: str) -> None:
    assert words in told(RESULTS[name])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pass", "Next:"),
        ("pass", "Note:"),
        ("pass", "Flipped"),
        ("to the end", "611"),
        ("to the end", "decided after"),
    ],
)
def test_nothing_is_told_that_does_not_matter(name: str, words: str) -> None:
    assert words not in told(RESULTS[name])


def test_rows_that_were_not_asked_are_tried_before_new_ones_are_wanted() -> None:
    early = RESULTS["stopped as futile"]
    result = replace(early, verdict=replace(early.verdict, rows_needed=500))
    assert "Next: leave out --ft-stop-early: about 500 rows would settle it (611 there are)." in told(result)


def test_a_margin_is_offered_only_where_it_would_help() -> None:
    far = judged(ABOVE, flips(5, 12, 60))  # 0.117 worse, where equal stages could certify 0.168
    assert "Or: margin 0.17 can be certified" in told(far)
    allowed = replace(far, verdict=replace(far.verdict, margin=0.2))
    broken = replace(far, verdict=replace(far.verdict, estimate=-0.2))
    assert all("Or: margin" not in told(result) for result in (allowed, broken))


@pytest.mark.parametrize(
    ("text", "left", "words"),
    [
        ("finetuned >= 0.85", [1.0] * 166 + [0.0] * 34, "Or: at least 0.78 is what these rows certify."),
        ("format_errors(finetuned) <= 0.02", [1.0] * 3 + [0.0] * 197, "Or: at most 0.04 is what these rows certify."),
        ("latency(finetuned) <= 2.05", LATENCIES[:60], "Or: at most 2.13 s is what these rows certify."),
        ("finetuned >= 0.03", [1.0] + [0.0] * 99, None),
    ],
)
def test_the_number_that_the_rows_do_certify_is_told(text: str, left: list[float], words: str | None) -> None:
    number = float(text.rsplit(maxsplit=1)[-1])
    result = judged(text, evidence(left, number))
    assert result.verdict.outcome is Outcome.INCONCLUSIVE
    told_of = [line for line in explanation(result) if line.startswith("Or: ")]
    assert told_of == ([] if words is None else [words])
    if words is not None:
        certified = judged(text.replace(f"{number:g}", words.split()[3]), evidence(left, float(words.split()[3])))
        assert certified.verdict.outcome is Outcome.PASS


def test_a_certifiable_margin_is_rounded_up() -> None:
    result = judged(ABOVE, flips(5, 5, 150))
    assert result.verdict.certifiable_margin == pytest.approx(0.0526, abs=1e-4)
    assert "Or: margin 0.06 can be certified" in told(result)
    exact = replace(result, verdict=replace(result.verdict, certifiable_margin=0.07))
    assert "Or: margin 0.07 can be certified" in told(exact)


def test_what_data_and_models_say_does_not_steer_the_terminal() -> None:
    slices = sliced(flips(0, 20, 40, "\x1b[31mred\nnext"), flips(5, 5, 40, "b\u202ex"))
    result = judged(ABOVE, slices, WARN, scope=BY)
    flip = replace(result.flips[0], after='{"a": "\x1b]0;"}')
    result = replace(result, remarks=("a remark\r\x07",), flips=(flip,))
    lines = list(failure(result))
    assert [line for line in lines if not line.isprintable()] == []
    assert "   [31mred next: 0.5 < 1, n=40, does not hold: certified worse than the margin allows" in lines


def test_slices_that_nothing_settles() -> None:
    equal = judged(ABOVE, sliced(flips(5, 5, 40, "a"), flips(3, 3, 40, "b")), replace(LADDER, margin=0.0), scope=BY)
    assert "no number of rows settles every slice" in told(equal)

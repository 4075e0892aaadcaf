from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.core.cases import ABOVE, LATENCIES, evidence, flips, identical, sliced, verdict_on
from tests.unit.core.stats.agreement import allowed

from pytest_finetune.core import stats
from pytest_finetune.core.gate import settle
from pytest_finetune.core.records import Evidence, Method, Outcome, Policy, Settlement, Verdict

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


def outcomes_of(verdict: Verdict) -> list[tuple[str, Outcome]]:
    return [(part.name, part.verdict.outcome) for part in verdict.parts]


def test_a_sliced_claim_passes_if_every_slice_does_at_full_alpha() -> None:
    verdict = verdict_on(ABOVE, sliced(*(flips(1, 0, 100, part) for part in "abc")), 0.02)  # each has p = 0.035
    assert (verdict.outcome, verdict.n, verdict.wins, verdict.rows_needed) == (PASS, 300, 3, None)
    assert outcomes_of(verdict) == [("a", PASS), ("b", PASS), ("c", PASS)]
    assert verdict.parts[1].verdict == verdict_on(ABOVE, flips(1, 0, 100), 0.02)


def test_one_bad_slice_fails_what_all_rows_together_pass() -> None:
    slices = flips(60, 0, 200, "a"), flips(0, 20, 40, "b"), flips(5, 5, 40, "c")
    verdict = verdict_on(ABOVE, sliced(*slices), 0.02)
    assert outcomes_of(verdict) == [("b", FAIL), ("c", INCONCLUSIVE), ("a", PASS)]
    assert (verdict.outcome, verdict.rows_needed, verdict.certifiable_margin) == (FAIL, None, None)
    together = verdict_on(ABOVE, flips(65, 25, 280), 0.02)
    assert together.outcome is PASS
    assert together.certifiable_margin == pytest.approx(0.0817, abs=1e-4)
    assert replace(together, outcome=FAIL, certifiable_margin=None, parts=verdict.parts) == verdict


def test_a_slice_fails_only_if_it_is_significant_among_all_slices() -> None:
    bad = flips(2, 9, 60, "bad")  # p = 0.0201
    assert verdict_on(ABOVE, sliced(bad, flips(9, 3, 60, "a"))).outcome is FAIL
    among = verdict_on(ABOVE, sliced(bad, flips(9, 3, 60, "a"), flips(9, 3, 60, "b")))
    assert (among.outcome, among.parts[0].name) == (INCONCLUSIVE, "bad")
    doubtful = among.parts[0].verdict
    assert (doubtful.outcome, doubtful.upper < 0, doubtful.observed) == (INCONCLUSIVE, True, False)
    assert (doubtful.rows_needed, among.rows_needed) == (79, 237)


def test_slices_are_told_from_the_worst_to_the_best() -> None:
    slices = flips(5, 3, 40, "c"), flips(3, 5, 40, "b"), flips(3, 5, 40, "a"), flips(1, 1, 40, "d")
    assert [part.name for part in verdict_on(ABOVE, sliced(*slices)).parts] == ["a", "b", "d", "c"]


def test_no_number_of_rows_settles_slices_of_which_one_cannot_be_settled() -> None:
    open_slice = flips(3, 5, 40, "a")
    assert verdict_on(ABOVE, sliced(open_slice, flips(5, 2, 40, "b"))).rows_needed == 1002  # twice the 501 of a
    assert verdict_on(ABOVE, sliced(open_slice, flips(5, 5, 40, "b"))).rows_needed is None


def test_slices_of_percentiles_are_judged_each_by_itself() -> None:
    made = evidence(LATENCIES, 2.5, parts=["short" if value < 2 else "long" for value in LATENCIES])
    verdict = verdict_on("latency_p90(a) <= 2.5", made)
    assert outcomes_of(verdict) == [("long", FAIL), ("short", PASS)]
    assert [part.verdict.left for part in verdict.parts] == [2.88, 1.88]


def test_each_slice_of_identical_stages_holds_by_identity() -> None:
    made = identical(sliced(flips(0, 9, 20, "a"), flips(9, 0, 20, "b")))
    verdict = verdict_on(ABOVE, made)
    assert (verdict.outcome, verdict.identity) == (PASS, True)
    assert all(part.verdict.identity for part in verdict.parts)
    drifted = verdict_on("finetuned >= locked", made)
    assert outcomes_of(drifted) == [("a", FAIL), ("b", PASS)]


def test_a_doubtful_slice_blocks_though_all_rows_together_would_not() -> None:
    made = sliced(flips(20, 10, 60, "a"), flips(3, 5, 40, "b"))
    verdict = verdict_on(ABOVE, made)
    assert verdict.outcome is INCONCLUSIVE
    assert verdict.estimate == pytest.approx(0.08)
    assert settle(verdict, Policy()) == Settlement(held=False, certified=False, blocking=True)


def test_a_slice_that_does_not_fail_alone_does_not_fail_among_others() -> None:
    doubtful = evidence([0.0] * 6 + [0.5] * 4, 0.5, parts=["b"] * 10)  # p = 0.051, and 0.037 where bets aim higher
    assert verdict_on("finetuned >= 0.5", doubtful).outcome is INCONCLUSIVE
    among = verdict_on("finetuned >= 0.5", sliced(evidence([0.1] * 20, 0.5, parts=["a"] * 20), doubtful))
    assert outcomes_of(among) == [("a", FAIL), ("b", INCONCLUSIVE)]


def test_the_bets_on_each_slice_aim_at_what_the_correction_asks_for() -> None:
    slices = [evidence([score] * 12, 0.5, parts=[name] * 12) for name, score in (("a", 0.1), ("b", 0.9), ("c", 0.9))]
    verdict = verdict_on("finetuned >= 0.5", sliced(*slices))  # p of a: 0.027 where bets aim at 0.05, else 0.011
    assert outcomes_of(verdict)[0] == ("a", FAIL)


def test_slices_of_a_run_that_may_stop_early_are_bet_on() -> None:
    made = replace(sliced(flips(3, 5, 40, "a"), flips(5, 2, 40, "b")), planned=120)
    parts = verdict_on(ABOVE, made).parts
    assert [(part.verdict.method, part.verdict.planned) for part in parts] == [(Method.BETTING, 120)] * 2


def test_equal_slices_fail_no_more_often_than_alpha() -> None:
    rng, repeats, slices = random.Random(5), 240, "abcd"
    parts = [part for part in slices for _ in range(25)]
    failed = significant = 0
    for _ in range(repeats):
        verdict = verdict_on("cost(finetuned) <= 1", evidence([rng.gauss(1, 0.1) for _ in parts], 1.0, parts=parts))
        failed += verdict.outcome is FAIL
        significant += any(part.verdict.upper < 0 for part in verdict.parts)
    assert 0 < failed / repeats < allowed(repeats) < significant / repeats  # Holm's correction makes the difference


# --- properties ---

COUNTS = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 40))
SLICES = st.lists(COUNTS, min_size=1, max_size=4)
MARGINS = st.sampled_from([0.0, 0.05, 0.2])


def slices_of(counts: list[tuple[int, int, int]]) -> dict[str, Evidence]:
    return {
        name: flips(won, lost, won + lost + tied, name)
        for name, (won, lost, tied) in zip("abcd", counts, strict=False)
    }


def whole(made: Evidence) -> Evidence:
    return replace(made, pairs=tuple(replace(pair, part=None) for pair in made.pairs))


@settings(max_examples=20, deadline=None)
@given(SLICES, MARGINS)
def test_a_sliced_verdict_follows_from_its_slices_alone(counts: list[tuple[int, int, int]], margin: float) -> None:
    slices = slices_of(counts)
    verdict = verdict_on(ABOVE, sliced(*slices.values()), margin)
    alone = {name: verdict_on(ABOVE, whole(made), margin) for name, made in slices.items()}
    p_values = [stats.tango_p(lost, won, won + lost + tied, margin) for won, lost, tied in counts]
    significant = stats.holm([min(p, 1.0) for p in p_values])
    failed = {name for name, fails in zip(slices, significant, strict=True) if fails}
    assert {part.name for part in verdict.parts if part.verdict.outcome is FAIL} == failed
    passed = all(each.outcome is PASS for each in alone.values())
    assert verdict.outcome is (FAIL if failed else PASS if passed else INCONCLUSIVE)
    for part in verdict.parts:
        kept = replace(part.verdict, outcome=alone[part.name].outcome, rows_needed=alone[part.name].rows_needed)
        assert kept == alone[part.name]


@settings(max_examples=20, deadline=None)
@given(SLICES)
def test_a_failed_slice_still_fails_without_the_slices_that_show_no_difference(
    counts: list[tuple[int, int, int]],
) -> None:
    telling = {name: made for name, made in slices_of(counts).items() if any(p.left != p.right for p in made.pairs)}
    mixed = sliced(*telling.values(), flips(0, 0, 30, "same"), flips(0, 0, 5, "too"))
    failed = {name for name, outcome in outcomes_of(verdict_on(ABOVE, mixed)) if outcome is FAIL}
    remaining = verdict_on(ABOVE, sliced(*telling.values())) if telling else verdict_on(ABOVE, mixed)
    assert failed <= {name for name, outcome in outcomes_of(remaining) if outcome is FAIL}


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0.0, 0.1, 0.4, 0.6, 1.0]), min_size=1, max_size=30), min_size=1, max_size=4)
)
def test_no_slice_contradicts_its_bounds(scores: list[list[float]]) -> None:
    slices = [evidence(each, 0.5, parts=[name] * len(each)) for name, each in zip("abcd", scores, strict=False)]
    for part in verdict_on("finetuned >= 0.5", sliced(*slices)).parts:
        verdict = part.verdict
        assert verdict.lower <= verdict.estimate <= verdict.upper
        assert verdict.outcome is not FAIL or verdict.upper <= 0
        assert (verdict.outcome is PASS) == (verdict.lower >= 0)


@settings(max_examples=20, deadline=None)
@given(COUNTS, MARGINS)
def test_a_single_slice_is_judged_as_all_rows(counts: tuple[int, int, int], margin: float) -> None:
    (made,) = slices_of([counts]).values()
    alone, one = verdict_on(ABOVE, whole(made), margin), verdict_on(ABOVE, made, margin)
    assert one.parts[0].verdict == alone
    assert (one.outcome, one.rows_needed) == (alone.outcome, alone.rows_needed)

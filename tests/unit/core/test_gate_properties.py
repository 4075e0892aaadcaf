from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.core.cases import ABOVE, SHARE, claim, evidence, verdict_on

from pytest_finetune.core import stats
from pytest_finetune.core.gate import judge, signed_difference, stopping_test
from pytest_finetune.core.records import Evidence, Method, Outcome, Policy, Verdict

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
MIRROR = {PASS: FAIL, FAIL: PASS, INCONCLUSIVE: INCONCLUSIVE}
BOUNDS = ("estimate", "lower", "upper")

BINARY = st.sampled_from([0.0, 1.0])
GRADED = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.8, 1.0])
SECONDS = st.floats(min_value=0.01, max_value=20)
Pairs = list[tuple[float, float]]


@dataclass(frozen=True)
class Kind:
    """What leads to a method: the measure, its values, how many rows make a group, and whether a run may stop."""

    measure: str
    values: st.SearchStrategy[float]
    in_a_group: int = 1
    spare: int | None = None

    def pairs(self) -> st.SearchStrategy[Pairs]:
        least = 40 if self.in_a_group > 1 or self.values is SECONDS else 1
        shifted = st.tuples(self.values, self.values) | st.tuples(self.values, st.just(1.0))
        return st.lists(st.tuples(self.values, self.values) | shifted, min_size=least, max_size=60)

    def evidence(self, pairs: Sequence[tuple[float, float]]) -> Evidence:
        groups = [f"g{i // self.in_a_group}" for i in range(len(pairs))] if self.in_a_group > 1 else None
        made = evidence([a for a, _ in pairs], [b for _, b in pairs], groups)
        return made if self.spare is None else replace(made, planned=len(pairs) + self.spare)


KINDS = {
    "tango": Kind("score", BINARY),
    "betting": Kind("score", GRADED),
    "early": Kind("score", BINARY, spare=30),
    "clustered_t": Kind("score", GRADED, in_a_group=2),
    "paired_t": Kind("cost", SECONDS),
    "quantile": Kind("latency_p75", SECONDS),
}
each_kind = pytest.mark.parametrize("name", KINDS)
few = settings(max_examples=20, deadline=None)


@each_kind
@few
@given(data=st.data())
def test_swapping_the_sides_mirrors_the_verdict(name: str, data: st.DataObject) -> None:
    kind, m = KINDS[name], KINDS[name].measure
    pairs = data.draw(kind.pairs())
    verdict = verdict_on(f"{m}(a) >= {m}(b) - 0.05", kind.evidence(pairs))
    swapped = verdict_on(f"{m}(a) >= {m}(b) + 0.05", kind.evidence([(b, a) for a, b in pairs]))
    assert swapped.outcome is MIRROR[verdict.outcome]
    assert (swapped.lower, swapped.upper) == pytest.approx((-verdict.upper, -verdict.lower), abs=1e-9)
    assert (swapped.wins, swapped.losses) == (verdict.losses, verdict.wins)
    assert swapped.p_differ == verdict.p_differ


@each_kind
@few
@given(data=st.data())
def test_a_claim_says_the_same_from_left_and_from_right(name: str, data: st.DataObject) -> None:
    kind, m = KINDS[name], KINDS[name].measure
    pairs = data.draw(kind.pairs())
    forward = verdict_on(f"{m}(a) >= {m}(b) - 0.05", kind.evidence(pairs))
    backward = verdict_on(f"{m}(b) <= {m}(a) + 0.05", kind.evidence([(b, a) for a, b in pairs]))
    assert (backward.outcome, backward.method, backward.wins) == (forward.outcome, forward.method, forward.wins)
    for bound in BOUNDS:
        assert getattr(backward, bound) == pytest.approx(getattr(forward, bound), abs=1e-9)


def assert_agrees_with_its_bounds(verdict: Verdict) -> None:
    assert verdict.lower - 1e-9 <= verdict.estimate <= verdict.upper + 1e-9
    assert verdict.wins + verdict.losses + verdict.ties == verdict.n
    if verdict.outcome is PASS:
        assert verdict.lower >= -verdict.margin
    elif verdict.outcome is FAIL:
        assert verdict.upper <= -verdict.margin
    else:
        assert verdict.lower <= -verdict.margin <= verdict.upper


@each_kind
@few
@given(data=st.data(), margin=st.sampled_from([0.0, 0.02, 0.3]), factor=st.sampled_from(["", "0.9 * "]))
def test_a_verdict_never_contradicts_its_bounds(name: str, data: st.DataObject, margin: float, factor: str) -> None:
    kind, m = KINDS[name], KINDS[name].measure
    made = kind.evidence(data.draw(kind.pairs()))
    assert_agrees_with_its_bounds(verdict_on(f"{m}(a) >= {factor}{m}(b)", made, margin))
    assert_agrees_with_its_bounds(verdict_on(f"{factor}{m}(a) <= {m}(b) - {margin}", made))


@few
@given(st.lists(BINARY, min_size=1, max_size=60) | st.lists(GRADED, min_size=1, max_size=60), st.booleans())
def test_a_verdict_on_a_number_never_contradicts_its_bounds(scores: list[float], early: bool) -> None:
    made = evidence(scores, 0.7, planned=80 if early else None)
    assert_agrees_with_its_bounds(verdict_on("finetuned >= 0.7", made))
    assert_agrees_with_its_bounds(verdict_on("finetuned <= 0.7", made))


@pytest.mark.parametrize("name", ["tango", "clustered_t", "paired_t", "quantile"])
@few
@given(data=st.data())
def test_the_order_of_rows_does_not_matter_where_their_number_is_fixed(name: str, data: st.DataObject) -> None:
    kind, m = KINDS[name], KINDS[name].measure
    made = kind.evidence(data.draw(kind.pairs()))
    shuffled = replace(made, pairs=tuple(data.draw(st.permutations(made.pairs))))
    text = f"{m}(a) <= {m}(b)"
    assert verdict_on(text, shuffled, 0.02) == verdict_on(text, made, 0.02)


# --- ratios ---


@few
@given(st.lists(st.tuples(GRADED, GRADED), min_size=1, max_size=40), st.sampled_from([1, 2]))
def test_the_ratio_agrees_with_the_verdict_on_a_share(pairs: Pairs, in_a_group: int) -> None:
    made = Kind("score", GRADED, in_a_group).evidence(pairs)
    verdict = verdict_on(SHARE, made)
    assert verdict.ratio is not None
    lower, upper = verdict.ratio
    if verdict.right:
        assert lower <= 0.95 * verdict.left / verdict.right + 1e-9
        assert upper >= 0.95 * verdict.left / verdict.right - 1e-9
    assert (verdict.outcome is PASS) == (lower >= 0.95)
    assert (verdict.outcome is FAIL) == (upper <= 0.95)


@few
@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=20, max_size=60), st.sampled_from(["1", "0.5", "1.5"]))
def test_the_ratio_of_costs_agrees_with_the_verdict(pairs: Pairs, share: str) -> None:
    verdict = verdict_on(f"cost(a) <= {share} * cost(b)", KINDS["paired_t"].evidence(pairs))
    assert verdict.ratio is not None
    lower, upper = verdict.ratio
    assert lower <= float(share) * verdict.left / verdict.right <= upper
    assert (verdict.outcome is PASS) == (upper <= float(share))
    assert (verdict.outcome is FAIL) == (lower >= float(share))


# --- stopping early ---


def stopped(text: str, scores: Sequence[float], bar: float, planned: int) -> tuple[stats.State, Verdict]:
    """Follow a claim until its test stops, and judge the rows seen by then."""
    test = stopping_test(claim(text), Policy(), planned)
    assert test is not None
    made = evidence(scores, bar, planned=planned)
    for pair in made.pairs:
        if test.state is stats.State.OPEN:
            test.update(signed_difference(claim(text), pair))
    verdict = judge(claim(text), replace(made, pairs=made.pairs[: test.rows]), Policy())
    decision = test.decision()
    assert (verdict.lower, verdict.upper) == (decision.lower, decision.upper)
    return test.state, verdict


ENDS = {stats.State.ABOVE: PASS, stats.State.BELOW: FAIL, stats.State.UNDECIDED: INCONCLUSIVE}
SCORES = st.lists(BINARY, min_size=80, max_size=80)


@few
@given(SCORES, SCORES, st.sampled_from(["a >= 0.5", "a <= 0.5", "a >= 0.8", "a <= 0.2"]))
def test_a_verdict_reached_early_stands_whatever_follows(first: list[float], then: list[float], text: str) -> None:
    bar = claim(text).right
    assert isinstance(bar, float)
    state, verdict = stopped(text, first, bar, 80)
    assert verdict.outcome is ENDS[state]
    assert (verdict.method, verdict.planned) == (Method.BETTING, 80)
    assert stopped(text, first[: verdict.n] + then[verdict.n :], bar, 80) == (state, verdict)


def test_a_run_stops_once_the_claim_is_decided() -> None:
    state, verdict = stopped("a >= 0.5", [1.0] * 80, 0.5, 80)
    assert (state, verdict.outcome, verdict.n, verdict.planned) == (stats.State.ABOVE, PASS, 14, 80)
    state, verdict = stopped("a <= 0.5", [1.0] * 80, 0.5, 80)
    assert (state, verdict.outcome, verdict.n, verdict.planned) == (stats.State.BELOW, FAIL, 14, 80)
    state, verdict = stopped("a >= 0.5", [1.0, 0.0] * 40, 0.5, 80)
    assert (state, verdict.outcome, verdict.n) == (stats.State.UNDECIDED, INCONCLUSIVE, 40)  # futile from half on


@pytest.mark.parametrize("text", ["cost(a) <= 1", "latency_p95(a) <= latency_p95(b)", "tokens(a) <= tokens(b)"])
def test_what_has_no_upper_bound_is_judged_on_all_rows(text: str) -> None:
    assert stopping_test(claim(text), Policy(), 80) is None


@few
@given(st.lists(st.tuples(BINARY, BINARY), min_size=1, max_size=60))
def test_the_chance_to_stop_early_changes_the_method_and_what_follows_from_it_alone(pairs: Pairs) -> None:
    made = KINDS["tango"].evidence(pairs)
    whole, early = verdict_on(ABOVE, made, 0.02), verdict_on(ABOVE, replace(made, planned=len(pairs)), 0.02)
    assert (whole.method, early.method) == (Method.TANGO, Method.BETTING)
    same = ("left", "right", "estimate", "margin", "alpha", "n", "wins", "losses", "ties", "observed")
    assert [getattr(early, name) for name in same] == [getattr(whole, name) for name in same]
    assert {early.outcome, whole.outcome} != {PASS, FAIL}

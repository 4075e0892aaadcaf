"""What rows can certify, before they are asked."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_finetune.core import stats
from pytest_finetune.core.plan import Asking, Design, Outlook, RowsPlan, Total, guess, outlooks_of, share_looked_at
from pytest_finetune.core.records import Evidence, Pair

PAIR = ("finetuned", "baseline")
BASELINE = Asking("baseline", "small", 200, 200, 200, 40_000, 2_000, 0.01, 200)


def outlooks(n: int, **design: object) -> tuple[Outlook, ...]:
    return outlooks_of(Design(n, 0.05, **design), {})  # type: ignore[arg-type]  # each test knows its fields


def recorded(*pairs: tuple[float, float], groups: list[str] | None = None) -> Evidence:
    named: list[str | None] = [*groups] if groups else [None] * len(pairs)
    return Evidence(
        tuple(
            Pair(str(number), left, right, group)
            for number, ((left, right), group) in enumerate(zip(pairs, named, strict=True))
        )
    )


def told(design: Design, evidence: Evidence) -> Outlook:
    found = outlooks_of(design, {PAIR: evidence})
    assert [outlook.between for outlook in found] == [PAIR, None]
    return found[0]


# The published table: 2.49 times the root of the share that differs, over the root of n.
@pytest.mark.parametrize(
    ("n", "margins"), [(100, [0.079, 0.111, 0.147]), (250, [0.050, 0.070, 0.093]), (1000, [0.025, 0.035, 0.047])]
)
def test_without_records_three_guesses_and_the_best_case_are_told(n: int, margins: list[float]) -> None:
    *guessed, best = outlooks(n)
    assert [outlook.differ for outlook in guessed] == [0.1, 0.2, 0.35]
    assert [outlook.certifiable for outlook in guessed] == pytest.approx(margins, abs=0.0006)
    assert all(outlook.between is None for outlook in guessed)
    assert (best.differ, best.needed) == (0, {0.01: 299, 0.02: 149, 0.05: 59})
    assert best.certifiable == pytest.approx(1 - 0.05 ** (1 / n))


def test_recorded_rows_take_the_place_of_guesses() -> None:
    evidence = recorded(*[(1, 0)] * 30, *[(0, 1)] * 10, *[(1, 1)] * 60)
    outlook = told(Design(100, 0.05), evidence)
    assert outlook.differ == 0.4
    assert outlook.needed[0.02] == stats.rows_needed(0.02, stats.discordant_sd(0.4)) == 6183
    assert outlook.certifiable == pytest.approx(stats.certifiable_margin(100, stats.discordant_sd(0.4)))


def test_graded_scores_and_rows_judged_as_they_come_take_the_betting_test() -> None:
    binary, graded = recorded(*[(1, 0), (0, 1)] * 50), recorded(*[(1, 0), (0, 1)] * 49, (0.5, 1), (1, 0.5))
    plain = told(Design(500, 0.05), binary)
    early = told(Design(500, 0.05, stop_early=True), binary)
    assert early.needed[0.05] == stats.betting_rows(plain.needed[0.05]) > plain.needed[0.05]
    assert told(Design(500, 0.05), graded).needed[0.05] > plain.needed[0.05]


@given(st.integers(1, 100).map(lambda n: n / 100), st.sampled_from([0.01, 0.02, 0.05, 0.1]))
def test_the_rows_that_a_margin_takes_certify_it(share: float, margin: float) -> None:
    evidence = recorded(*[(1, 0), (0, 1)] * round(50 * share), *[(1, 1)] * (100 - 2 * round(50 * share)))
    needed = told(Design(100, 0.05, (margin,)), evidence).needed[margin]
    enough, fewer = (told(Design(n, 0.05), evidence).certifiable for n in (needed, needed - 2))
    assert enough is not None
    assert enough <= margin + 1e-9
    assert fewer is None or fewer > margin - 1e-4


@given(st.integers(10, 5000), st.integers(10, 5000), st.floats(0.01, 0.3))
def test_more_rows_and_a_larger_alpha_never_certify_less(n: int, m: int, alpha: float) -> None:
    few, many = sorted((n, m))
    for one, other in zip(outlooks(few), outlooks(many), strict=True):
        assert (other.certifiable or 1) <= (one.certifiable or 1)
    for one, other in zip(outlooks(n), outlooks_of(Design(n, alpha), {}), strict=True):
        assert ((other.certifiable or 1) <= (one.certifiable or 1)) is (alpha >= 0.05) or one == other


class TestGroups:
    def test_rows_that_are_all_alike_count_as_one(self) -> None:
        draw = random.Random(3)
        pairs = [draw.choice([(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]) for _ in range(100)]
        evidence = recorded(*(pair for pair in pairs for _ in range(5)), groups=[str(n // 5) for n in range(500)])
        grouped = told(Design(500, 0.05, per_unit=5.0), evidence)
        single = told(Design(100, 0.05), recorded(*pairs))
        assert grouped.certifiable == pytest.approx(single.certifiable)
        assert grouped.needed[0.02] == pytest.approx(5 * single.needed[0.02], abs=5)

    def test_rows_that_have_nothing_in_common_count_each(self) -> None:
        draw = random.Random(3)
        pairs = [draw.choice([(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]) for _ in range(2000)]
        evidence = recorded(*pairs, groups=[str(n // 5) for n in range(2000)])
        grouped = told(Design(2000, 0.05, per_unit=5.0), evidence)
        single = told(Design(2000, 0.05), recorded(*pairs))
        assert grouped.certifiable == pytest.approx(single.certifiable, rel=0.05)

    def test_without_records_the_worst_is_taken(self) -> None:
        assert [outlook.certifiable for outlook in outlooks(500, per_unit=5.0)] == pytest.approx(
            [outlook.certifiable for outlook in outlooks(100)]
        )

    def test_records_without_a_difference_do_not_tell_how_alike_rows_are(self) -> None:
        evidence = recorded(*[(1, 1)] * 100, groups=[str(n // 5) for n in range(100)])
        assert told(Design(500, 0.05, per_unit=5.0), evidence).certifiable == outlooks(100)[-1].certifiable

    def test_too_few_groups_certify_nothing(self) -> None:
        assert {outlook.certifiable for outlook in outlooks(95, per_unit=5.0)} == {None}
        assert outlooks(95, per_unit=5.0)[-1].needed[0.05] == 5 * 59
        assert outlooks(95, per_unit=5.0, margins=(0.5,))[-1].needed == {0.5: 5 * stats.MIN_UNITS}


def test_too_few_rows_certify_nothing() -> None:
    assert {outlook.certifiable for outlook in outlooks(9)} == {None}
    assert {outlook.certifiable for outlook in outlooks(0)} == {None}


def test_of_a_ladder_the_worst_rung_decides_and_of_guesses_the_middle_one() -> None:
    calm, wild = recorded(*[(1, 0)] * 5, *[(1, 1)] * 45), recorded(*[(0, 1)] * 20, *[(1, 1)] * 30)
    found = outlooks_of(Design(50, 0.05), {("a", "b"): calm, ("b", "c"): wild})
    assert RowsPlan(None, 50, None, (), found).deciding.between == ("b", "c")
    assert RowsPlan(None, 50, None, (), outlooks(50)).deciding.differ == 0.2


class TestStoppingEarly:
    def share(self, differences: list[float], n: int, margin: float = 0.05) -> float:
        return share_looked_at(stats.Sequential(horizon=n, d0=-margin), differences, n, 20)

    @pytest.mark.parametrize(("n", "margin", "share"), [(200, 0.05, 0.69), (500, 0.05, 0.64), (500, 0.02, 0.68)])
    def test_equal_stages_take_the_share_that_the_statistics_page_tells(
        self, n: int, margin: float, share: float
    ) -> None:
        test = stats.Sequential(horizon=n, d0=-margin)
        assert share_looked_at(test, guess(0.2), n, looks=n) == pytest.approx(share, abs=0.04)

    def test_rows_to_spare_are_spared(self) -> None:
        assert self.share([0.0], 2000) < 0.2 < self.share([0.0], 100)

    def test_what_is_plain_is_seen_soon(self) -> None:
        assert self.share([1.0], 400) == self.share([-1.0], 400) == 0.05

    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 60), st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=5))
    def test_it_is_a_share_of_the_looks(self, n: int, differences: list[float]) -> None:
        assert 0 < self.share(differences, n) <= 1


def test_a_share_of_the_rows_takes_a_share_of_everything() -> None:
    half = BASELINE.until(0.5)
    assert (half.calls, half.tokens, half.cost, half.share) == (100, 21_000, 0.005, 0.5)
    assert (half.answers, half.asked) == (200, 200)


def test_a_total_with_an_unknown_price_is_unknown() -> None:
    unknown = Asking("teacher", "mystery", 200, 200, 400, 1_000, 10, None, 0)
    assert Total.of([BASELINE, BASELINE]) == Total(400, 84_000, 0.02, ())
    assert Total.of([BASELINE, unknown, unknown]) == Total(1_000, 44_020, None, ("mystery",))
    assert unknown.until(0.5).cost is None

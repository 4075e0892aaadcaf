from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_finetune.core.records import (
    Evidence,
    Inconclusive,
    Method,
    Outcome,
    Pair,
    Part,
    Policy,
    Scope,
    Tier,
    Usage,
    Verdict,
)
from pytest_finetune.errors import UsageError


@pytest.mark.parametrize(
    ("scope", "text"),
    [
        (Scope(), ""),
        (Scope(by="category"), " by category"),
        (Scope(suite="safety"), " on safety"),
        (Scope(suite="safety", by="category", repeats=3, max_rows=200), " by category on safety"),
    ],
)
def test_a_scope_follows_the_text_of_its_claim(scope: Scope, text: str) -> None:
    assert str(scope) == text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scope(repeats=0), "repeats must be at least 1, not 0"),
        (lambda: Scope(max_rows=0), "max_rows must be at least 1, not 0"),
        (lambda: Scope(max_rows=-1), "max_rows must be at least 1, not -1"),
        (lambda: Policy(margin=-0.1), r"margin must be in \[0, 1\), not -0.1"),
        (lambda: Policy(margin=1.0), r"margin must be in \[0, 1\), not 1.0"),
        (lambda: Policy(alpha=0.0), r"alpha must be in \(0, 0.5\), not 0.0"),
        (lambda: Policy(alpha=0.5), r"alpha must be in \(0, 0.5\), not 0.5"),
    ],
)
def test_a_figure_out_of_its_range_is_a_usage_error(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_what_a_policy_is_if_nothing_is_said() -> None:
    assert Policy() == Policy(margin=0.0, alpha=0.05, inconclusive=Inconclusive.OBSERVED, tier=Tier.CRITICAL)


def test_usage_adds_up_and_an_unknown_cost_stays_unknown() -> None:
    assert Usage(1, 2, 0.25) + Usage(10, 20, 0.5) == Usage(11, 22, 0.75)
    assert Usage(1, 2, 0.25) + Usage(10, 20) == Usage(11, 22, None)
    assert Usage(1, 2) + Usage(10, 20, 0.0) == Usage(11, 22, None)


def test_groups_count_only_where_one_has_several_rows() -> None:
    alone = (Pair("a", 1.0, 1.0, "g"), Pair("b", 1.0, 0.0))
    assert Evidence(alone).groups is None
    assert Evidence((*alone, Pair("c", 0.0, 0.0, "g"))).groups == ("g", "b", "g")


def verdict(estimate: float, margin: float = 0.0, parts: tuple[Part, ...] = ()) -> Verdict:
    return Verdict(
        outcome=Outcome.INCONCLUSIVE,
        method=Method.TANGO,
        left=0.5 + estimate,
        right=0.5,
        estimate=estimate,
        lower=-1.0,
        upper=1.0,
        margin=margin,
        alpha=0.05,
        n=100,
        wins=0,
        losses=0,
        ties=100,
        parts=parts,
    )


@pytest.mark.parametrize(
    ("estimate", "margin", "observed"),
    [
        (0.0, 0.0, True),
        (-0.01, 0.0, False),
        (-0.02, 0.02, True),
        (0.5 - 0.52, 0.02, True),  # -0.020000000000000018
        (0.3 - (0.1 + 0.2), 0.0, True),  # -5.6e-17
        (-0.021, 0.02, False),
        (0.04, -0.05, False),
        (0.05, -0.05, True),
    ],
)
def test_the_observed_figures_fulfil_a_claim_up_to_its_margin(estimate: float, margin: float, observed: bool) -> None:
    assert verdict(estimate, margin).observed is observed


def test_a_sliced_claim_is_fulfilled_if_each_slice_fulfils_it() -> None:
    good, bad = Part("a", verdict(0.2)), Part("b", verdict(-0.01))
    assert not verdict(0.1, parts=(bad, good)).observed
    assert verdict(-0.01, parts=(good,)).observed

from __future__ import annotations

import math
import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_finetune.core.stats import holm, holm_adjusted, spent_alpha


def closed_test(p_values: list[float], at: int) -> float:
    """Adjusted p-value of one null by testing every intersection that it is part of, each by Bonferroni."""
    others = [p for i, p in enumerate(p_values) if i != at]
    families = [family for size in range(len(p_values)) for family in combinations(others, size)]
    return max(min((len(family) + 1) * min(p_values[at], *family, 1.0), 1.0) for family in families)


@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_is_closed_testing_with_bonferroni(p_values: list[float]) -> None:
    expected = tuple(closed_test(p_values, at) for at in range(len(p_values)))
    assert holm_adjusted(p_values) == pytest.approx(expected)
    assert holm(p_values, 0.1) == tuple(p <= 0.1 for p in holm_adjusted(p_values))


def test_holm_keeps_the_order_of_the_claims() -> None:
    assert holm_adjusted([0.03, 0.001, 0.02, 0.9]) == pytest.approx((0.06, 0.004, 0.06, 0.9))
    assert holm([0.03, 0.001, 0.02, 0.9]) == (False, True, False, False)
    assert holm([0.012, 0.001, 0.02, 0.9]) == (True, True, True, False)
    assert holm([]) == ()


@pytest.mark.parametrize("wrong", [math.nan, -0.1, 1.5])
def test_what_is_no_p_value_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=r"a p-value lies in \[0, 1\]"):
        holm([0.01, wrong])


def test_the_levels_of_all_candidates_add_up_to_alpha() -> None:
    assert spent_alpha(0.05, 1) == pytest.approx(0.0304, abs=5e-5)
    assert spent_alpha(0.05, 20) == pytest.approx(0.05 * 6 / (math.pi * 20) ** 2)
    assert 0.0499 < sum(spent_alpha(0.05, k) for k in range(1, 2000)) < 0.05
    with pytest.raises(ValueError, match="the first candidate is number 1"):
        spent_alpha(0.05, 0)


def test_spending_bounds_the_chance_that_any_of_many_bad_candidates_passes() -> None:
    rng, repeats = random.Random(3), 4000
    passed = sum(any(rng.random() <= spent_alpha(0.05, k) for k in range(1, 21)) for _ in range(repeats))
    assert 0.035 < passed / repeats < 0.055

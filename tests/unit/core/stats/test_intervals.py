from __future__ import annotations

import pytest
from scipy import stats as oracle
from statsmodels.stats.proportion import proportion_confint

from pytest_finetune.core.stats import score_interval


def test_score_interval_is_wilsons_for_binary_and_t_for_graded_scores() -> None:
    binary = [1.0] * 128 + [0.0] * 22
    assert score_interval(binary) == pytest.approx(proportion_confint(128, 150, method="wilson"))
    graded = [0.2, 0.4, 0.9, 0.5, 0.6]
    expected = oracle.ttest_1samp(graded, 0).confidence_interval(0.95)
    assert score_interval(graded) == pytest.approx((expected.low, expected.high))
    assert score_interval([0.5]) == (0.0, 1.0)

"""How many fine-tuned models a set of rows has judged, and what each of them costs in alpha."""

from __future__ import annotations

import math
import re

import pytest
from tests.workflow.gating import Gating, claim

BETTER = claim("finetuned >= baseline")


def adopt_another_model(gating: Gating) -> None:
    """The same training file under another id: another candidate, that answers alike."""
    text = gating.project.lock.read_text(encoding="utf-8")
    gating.project.write("models.lock", re.sub(r'model = "(ft:[^"]+)"', r'model = "\1-again"', text))


def test_a_candidate_counts_once_however_often_it_is_judged(gating: Gating) -> None:
    sliced, bar = claim("finetuned >= 0.1", by="department"), claim("finetuned >= 0.1", max_rows=20)
    assert [result.uses for result in gating.judge(BETTER, sliced, bar)] == [1, 1, 1]
    assert [result.uses for result in gating.judge(BETTER)] == [1]
    adopt_another_model(gating)
    few = claim("finetuned >= baseline", max_rows=20)
    assert [result.uses for result in gating.judge(few)] == [2]
    assert gating.asked == {"tuned": 20}


def test_claims_without_the_finetuned_stage_judge_no_candidate(gating: Gating) -> None:
    gating.sql("DELETE FROM candidate")
    gating.judge_others(BETTER, 1)
    without, with_it = gating.judge(claim("prompt_optimized >= baseline"), BETTER)
    assert (without.uses, with_it.uses) == (1, 2)


def test_the_kth_candidate_is_judged_at_its_share_of_alpha(gating: Gating) -> None:
    (usual,) = gating.judge(BETTER)
    assert usual.verdict.alpha == 0.05
    gating.judge_others(BETTER, 2)
    for _ in range(2):  # this candidate was the first, and remains it
        (spent,) = gating.judge(BETTER, spend_alpha=True)
        assert spent.uses == 1
        assert spent.verdict.alpha == pytest.approx(6 * 0.05 / math.pi**2)
    adopt_another_model(gating)
    (fourth,) = gating.judge(claim("finetuned >= baseline", max_rows=20), spend_alpha=True)
    assert fourth.uses == 4
    assert fourth.verdict.alpha == pytest.approx(6 * 0.05 / (math.pi**2 * 16))
    assert fourth.policy.alpha == 0.05

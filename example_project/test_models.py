"""What must hold of the models, before a change is merged; beside it, a test as there are many."""

from __future__ import annotations

from typing import get_args

import pytest
from finetune_tasks import CATEGORIES, ClassifyTicket


@pytest.mark.ft_ladder("tickets", min_score=0.8)
def test_each_stage_is_worth_its_effort() -> None: ...


@pytest.mark.ft_claim("distilled", "finetuned >= 0.95 * teacher", "tokens(finetuned) <= 0.2 * tokens(teacher)")
def test_the_small_model_is_as_good_as_its_teacher_and_cheaper() -> None: ...


def test_every_category_is_described() -> None:
    described = [part.split(":")[0].strip() for part in CATEGORIES.split(";")]
    assert described == list(get_args(ClassifyTicket.output_fields["category"].annotation))

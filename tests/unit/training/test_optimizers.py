from __future__ import annotations

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_finetune import metrics
from pytest_finetune.errors import MissingExtra
from pytest_finetune.training.bootstrap import count_kept
from pytest_finetune.training.optimizers import check_optimizer, draw, for_dspy, for_gepa
from pytest_finetune.training.runs import LostCalls


def example(**fields: Any) -> Any:
    import dspy

    return dspy.Example(text="x", **fields).with_inputs("text")


def test_a_missing_package_is_told_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "optuna" else SimpleNamespace())
    with pytest.raises(MissingExtra, match="the optimizer 'miprov2' needs optuna: pip install optuna"):
        check_optimizer("miprov2", {})
    check_optimizer("labeled_few_shot", {"k": 3})


def test_drawn_rows_depend_on_the_seed_alone() -> None:
    rows = [example(number=number) for number in range(50)]
    assert draw(rows, 60, 1) == rows
    assert draw(rows, 10, 1) == draw(rows, 10, 1)
    assert draw(rows, 10, 1) != draw(rows, 10, 2)
    assert len(draw(rows, 10, 1)) == 10


def test_dspy_is_told_the_score_and_while_bootstrapping_whether_it_passes() -> None:
    judge = for_dspy(metrics.token_f1("answer"), LostCalls("it"))
    gold, half = example(answer="one two three four"), example(answer="one two five six")
    low = example(answer="one five six seven")
    assert judge(gold, half) == 0.5
    assert judge(gold, half, []) is True
    assert judge(gold, low) == 0.25
    assert judge(gold, low, []) is False


def test_gepa_hears_the_metric_s_own_words_or_what_was_expected() -> None:
    import dspy

    def with_words(row: Any, prediction: Any, _: Any = None) -> Any:
        return dspy.Prediction(score=row.answer == prediction.answer, feedback="look closer")

    gold, wrong = example(answer="a"), example(answer="b")
    spoken = for_gepa(metrics.as_metric(with_words), LostCalls("it"))(gold, wrong, None, "self", [])
    assert (spoken.score, spoken.feedback) == (0.0, "look closer")
    silent = for_gepa(metrics.exact_match("answer"), LostCalls("it"))(gold, gold, None, None, None)
    assert (silent.score, silent.feedback) == (1.0, "Score 1. Expected: answer='a'.")


def test_kept_rows_are_counted_by_label() -> None:
    kept = count_kept(["b", "a", "b", "c"], [True, False, False, True])
    assert list(kept.items()) == [("a", (0, 1)), ("b", (1, 2)), ("c", (1, 1))]

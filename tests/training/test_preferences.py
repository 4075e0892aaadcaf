"""Preference training: pairs of answers to one prompt, of which the metric prefers one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from tests.training.conftest import Report, make_task
from tests.training.test_recipes import build, plain, prompted, score

from pytest_finetune import Mix
from pytest_finetune.dataset import Dataset
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import TrainingError, UsageError
from pytest_finetune.programs import attach, predictors
from pytest_finetune.training.building import Finetuned
from pytest_finetune.training.preferences import compare
from pytest_finetune.training.runs import Run


def rows_of(built: Finetuned) -> list[dict[str, Any]]:
    (trained,) = built.models.values()
    return [json.loads(line) for line in trained.training_file.splitlines()]


def said(row: dict[str, Any], which: str) -> str:
    (message,) = row[which]
    assert message["role"] == "assistant"
    return str(message["content"])


def test_a_model_is_trained_on_pairs_of_answers_to_its_own_prompt(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = make_task(recipe="dpo", seed=401, hyperparameters={"n_epochs": 3, "beta": 0.2})
    optimized = prompted(task, endpoint, report)
    built = build(task, endpoint, journal, report, optimized=optimized)
    (trained,) = built.models.values()
    assert trained.job.hyperparameters == {**trained.job.hyperparameters, "n_epochs": 3, "beta": 0.2}
    assert trained.job.validation_file is None

    gold = {row.fields["thing"]: row.fields["colour"] for row in task.dataset.rows("train")}
    rows = rows_of(built)
    for row in rows:
        _, user = row["input"]["messages"]
        (thing,) = (thing for thing in gold if thing in user["content"])
        right = f"[[ ## colour ## ]]\n{gold[thing]}\n"
        assert (right in said(row, "preferred_output"), right in said(row, "non_preferred_output")) == (True, False)
    assert len(rows) == len(built.trained_on) == sum(count for count, _ in built.kept.values()) >= 10
    assert f"The metric prefers one of two answers on {len(rows)} of 60 training rows." in report
    assert built.taught == 1.0
    assert score(task, built.program) > score(task, plain(task, endpoint).program)

    again = build(task, endpoint, journal, report, optimized=optimized)
    assert again.model == built.model
    assert any(sentence.startswith("Taking up the answers of sandbox-small and") for sentence in report)


def test_the_teacher_is_the_better_one_where_there_is_one(endpoint: Endpoint, journal: Path, report: Report) -> None:
    task = make_task(recipe="dpo", seed=402, teacher="sandbox-large")
    teacher = attach(prompted(task, endpoint, report).program, endpoint.lm("sandbox-large"))
    build(task, endpoint, journal, report, teacher=teacher)
    assert "Asking sandbox-small and sandbox-large about 60 training rows each." in report


def test_where_the_answers_do_not_differ_nothing_is_uploaded(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    with pytest.raises(
        TrainingError, match=r"0 rows are left .* nothing was uploaded\. Next: a teacher, whose answers"
    ):
        build(make_task(recipe="dpo", recipe_options={"source": "baseline"}), endpoint, journal, report)
    assert not journal.exists()


def test_rows_of_other_work_are_no_pairs(endpoint: Endpoint, journal: Path, report: Report) -> None:
    rows = [{"thing": f"a {number}", "colour": "red"} for number in range(20)]
    task = make_task(recipe="dpo", mix=Mix(Dataset.from_examples(rows, inputs=["thing"]), share=0.5))
    with pytest.raises(UsageError, match="which rows of mix= are not"):
        build(task, endpoint, journal, report)


def preferring(_: Any) -> Any:
    """A recipe of the user's own that trains on pairs which it has made."""

    class Preferring(dspy.teleprompt.Teleprompter):  # type: ignore[misc]  # dspy ships no types
        def compile(self, student: Any, *, trainset: Any) -> Any:
            (predictor,) = student.predictors()
            adapter, rows = dspy.settings.adapter, []
            for example in trainset:
                other = "red" if example.colour != "red" else "blue"
                texts = [
                    f"[[ ## colour ## ]]\n{colour}\n\n[[ ## completed ## ]]\n" for colour in (example.colour, other)
                ]
                good, bad = ([{"role": "assistant", "content": text}] for text in texts)
                asked = adapter.format(predictor.signature, [], {"thing": example.thing})
                pair = {"input": {"messages": asked}, "preferred_output": good, "non_preferred_output": bad}
                rows.append(pair)
            predictor.lm = student.get_lm().finetune(rows, "chat", {"beta": 0.3}).result()
            return student

    return Preferring()


def test_a_recipe_of_the_users_own_may_train_on_pairs(endpoint: Endpoint, journal: Path, report: Report) -> None:
    task = make_task(recipe=preferring, seed=403)
    built = build(task, endpoint, journal, report)
    (trained,) = built.models.values()
    assert trained.job.hyperparameters["beta"] == 0.3
    assert trained.job.validation_file is None
    assert score(task, built.program) > 0.8


class Steps(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    def __init__(self) -> None:
        super().__init__()
        self.find = dspy.Predict("text -> product")
        self.choose = dspy.Predict("product -> team")


def run(program: dspy.Module, product: str, team: str, *, answered: bool = True) -> Run:
    parts = predictors(program)
    trace = (
        (parts["find"], {"text": "t"}, {"product": product}),
        (parts["choose"], {"product": product}, {"team": team}),
    )
    example = dspy.Example(text="t", team="a").with_inputs("text")
    return Run(example, dspy.Prediction(team=team) if answered else None, trace)


@pytest.mark.parametrize(
    ("ours", "theirs", "pairs"),
    [
        (("p", "a"), ("p", "b"), [("choose", "a", "b")]),  # the same first step: the second one differs
        (("p", "b"), ("p", "a"), [("choose", "a", "b")]),  # whichever program was right
        (("p", "a"), ("q", "b"), [("find", "p", "q")]),  # what follows has another prompt
        (("p", "a"), ("q", "a"), []),  # the metric sees no difference
        (("p", "b"), ("p", "c"), []),  # both are wrong
    ],
)
def test_a_pair_has_one_prompt_and_two_answers(
    ours: tuple[str, str], theirs: tuple[str, str], pairs: list[tuple[str, str, str]]
) -> None:
    from pytest_finetune import metrics

    first, second = Steps(), Steps()
    metric = metrics.exact_match("team")
    (found,) = compare([run(first, *ours)], [run(second, *theirs)], (first, second), metric)
    told = [(good[0], *good[2].values(), *bad[2].values()) for good, bad in found.pairs]
    assert told == pairs
    (lost,) = compare([run(first, *ours, answered=False)], [run(second, *theirs)], (first, second), metric)
    assert lost.pairs == ()

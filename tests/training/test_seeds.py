"""The field's own examples, against the sandbox: what each recipe gains, and what the sandbox cannot learn.

Their tables stand in ``docs/recipes.md``, and each test holds its own to what comes out.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import dspy
import pytest
from tests.training.conftest import Report, hurried, make_program, make_rows

from pytest_finetune import Dataset, Task, metrics
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.programs import attach
from pytest_finetune.training.building import Finetuned
from pytest_finetune.training.optimizers import build_prompt_optimized
from pytest_finetune.training.recipes import build_finetuned
from pytest_finetune.training.runs import mean_score, run_program

Scores = dict[str, float]
SPLITS = {"train": 160, "dev": 40, "test": 80}


def split(rows: list[dict[str, Any]], inputs: list[str]) -> Dataset:
    """The rows as they come: 160 to train on, 40 for dev, 80 to test."""
    ends = {"train": (0, 160), "dev": (160, 200), "test": (200, 280)}
    return Dataset.from_examples({name: rows[start:end] for name, (start, end) in ends.items()}, inputs=inputs)


def distinct(make: Callable[[random.Random], dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """Rows of which no two are alike."""
    draw, rows = random.Random(seed), dict[str, dict[str, Any]]()
    while len(rows) < sum(SPLITS.values()):
        row = make(draw)
        rows.setdefault(str(row), row)
    return list(rows.values())


# --- classification ---


def classification() -> Task:
    rows = {name: make_rows(count, seed) for seed, (name, count) in enumerate(SPLITS.items())}
    return Task(
        name="classification",
        program=make_program,
        dataset=Dataset.from_examples(rows, inputs=["thing"]),
        metric=metrics.exact_match("colour"),
        student="sandbox-small",
        optimizer="labeled_few_shot",
        optimizer_options={"k": 12},
    )


# --- retrieval ---

PLACES = ["Arbon", "Belmont", "Corvara", "Dunmore", "Elster", "Fenwick"]
PLACES += ["Gorham", "Halden", "Ivrea", "Jarvis", "Kelso", "Lorne"]
THINGS = ["bridge", "mill", "tower", "theatre", "library", "harbour"]
FIRST = ["Anna", "Bruno", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Irene", "Jonas"]
LAST = ["Keller", "Lindt", "Moser", "Novak", "Orsini", "Petrov", "Quist", "Rossi", "Sommer", "Tanner"]


def corpus() -> list[str]:
    draw = random.Random(3)
    shapes = (
        "The {thing} of {place} was built by {who} in {year}.",
        "{who} designed the {thing} of {place}, which opened in {year}.",
        "In {year} the {thing} of {place} was planned by {who}, who lived nearby.",
    )
    return [
        draw.choice(shapes).format(
            thing=thing, place=place, who=f"{draw.choice(FIRST)} {draw.choice(LAST)}", year=draw.randint(1700, 1990)
        )
        for thing in THINGS
        for place in PLACES
    ]


class Answer(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
    """Answer the question from the passage, in a few words."""

    passage: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Retrieve(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    """Finds the passage that has most words of the question, and answers from it."""

    def __init__(self) -> None:
        super().__init__()
        self.passages = corpus()
        self.answer = dspy.Predict(Answer)

    def find(self, question: str) -> str:
        asked = set(re.findall(r"\w+", question))
        return max(self.passages, key=lambda text: len(asked & set(re.findall(r"\w+", text))))

    def forward(self, question: str) -> Any:
        return self.answer(passage=self.find(question), question=question)


class WithPassages(dspy.teleprompt.Teleprompter):  # type: ignore[misc]  # dspy ships no types
    """Shows the first training rows, each with the passage that is found for it: the data have none."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def compile(self, student: Any, *, trainset: Any) -> Any:
        rows = trainset[: self.most]
        student.answer.demos = [dspy.Example(**row, passage=student.find(row.question)) for row in rows]
        return student


def few_passages(_: Task) -> WithPassages:
    return WithPassages(12)


def many_passages(_: Task) -> WithPassages:
    return WithPassages(100)


def questions() -> list[dict[str, Any]]:
    forms = ["Who made the {0}?", "Who is behind the {0}?", "Whose work is the {0}?", "Who gave us the {0}?"]
    rows = []
    for passage in corpus():
        (thing,) = re.findall(r"the (\w+ of \w+)", passage, re.IGNORECASE)
        (who,) = re.findall(rf"(?:{'|'.join(FIRST)}) (?:{'|'.join(LAST)})", passage)
        rows += [{"question": form.format(thing), "answer": who} for form in forms]
    return random.Random(4).sample(rows, sum(SPLITS.values()))


def retrieval() -> Task:
    return Task(
        name="retrieval",
        program=Retrieve,
        dataset=split(questions(), ["question"]),
        metric=metrics.token_f1("answer"),
        student="sandbox-small",
        teacher="sandbox-large",
        optimizer=few_passages,
        teacher_optimizer=many_passages,
        recipe="distill",
    )


# --- several steps ---

PRODUCTS = {
    "home": ["kettle", "toaster", "lamp", "heater", "blender", "vacuum"],
    "garden": ["mower", "hose", "shears", "barrow", "trimmer", "sprinkler"],
    "sport": ["racket", "kayak", "tent", "saddle", "helmet", "treadmill"],
}
ASKS = ["is broken", "never came", "was sent twice", "lacks a part", "smells of smoke", "makes a noise"]


class Find(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
    """Name the product that the message is about."""

    message: str = dspy.InputField()
    product: str = dspy.OutputField()


class Assign(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
    """Choose the team for the product."""

    product: str = dspy.InputField()
    team: Literal["garden", "home", "sport"] = dspy.OutputField()


class FindAndAssign(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    def __init__(self) -> None:
        super().__init__()
        self.find, self.assign = dspy.Predict(Find), dspy.Predict(Assign)

    def forward(self, message: str) -> Any:
        found = self.find(message=message)
        return dspy.Prediction(product=found.product, team=self.assign(product=found.product).team)


def message(draw: random.Random) -> dict[str, Any]:
    team = draw.choice(sorted(PRODUCTS))
    product = draw.choice(PRODUCTS[team])
    day = draw.choice(["Monday", "Tuesday", "Friday", "Sunday"])
    forms = ("My {0} {1} since {2}.", "Since {2} the {0} {1}, please help.", "Order of {2}: the {0} {1}.")
    return {"message": draw.choice(forms).format(product, draw.choice(ASKS), day), "product": product, "team": team}


def steps() -> Task:
    return Task(
        name="steps",
        program=FindAndAssign,
        dataset=split(distinct(message, 5), ["message"]),
        metric=metrics.exact_match("team"),
        student="sandbox-small",
        optimizer="labeled_few_shot",
        optimizer_options={"k": 12},
        recipe="better_together",
        recipe_options={"strategy": "p -> w -> p"},
    )


# --- a list ---

GOODS = ["flour", "brown sugar", "butter", "wild rice", "sea salt", "honey", "dry yeast", "milk"]
GOODS += ["sour cream", "oats", "green beans", "red lentils", "black pepper", "thyme", "garlic", "olive oil"]


class Extract(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
    """List the goods that are asked for."""

    note: str = dspy.InputField()
    goods: list[str] = dspy.OutputField()


def note(draw: random.Random) -> dict[str, Any]:
    goods = draw.sample(GOODS, draw.randint(3, 5))
    forms = ("{1} {2} of {0}", "{0} ({1} {2})", "some {0}", "{0}, at least {1} {2}", "our usual {0}")
    asked = [draw.choice(forms).format(good, draw.randint(2, 9), draw.choice(["bags", "jars"])) for good in goods]
    start = draw.choice(["Please bring", "We need", "Tomorrow we want", "Send us"])
    end = draw.choice(["before noon", "for the kitchen", "if there is any", "as last week"])
    return {"note": f"{start} {'; '.join(asked)} {end}.", "goods": goods}


def extraction(**changes: Any) -> Task:
    settings: dict[str, Any] = {
        "name": "extraction",
        "program": lambda: dspy.Predict(Extract),
        "dataset": split(distinct(note, 6), ["note"]),
        "metric": metrics.set_f1("goods").for_bootstrapping(threshold=1.0),
        "student": "sandbox-small",
        "optimizer": "labeled_few_shot",
        "optimizer_options": {"k": 3},
    }
    return Task(**{**settings, **changes})


# --- what comes out ---


def build(task: Task, endpoint: Endpoint, journal: Path) -> tuple[Scores, Finetuned]:
    """Every stage of a task, with its score on the test rows, and the fine-tuned one."""
    report, data = Report(), task.dataset
    asked: dict[str, Any] = {"trainset": data.train, "devset": data.dev, "report": report, "concurrency": 8}
    lm = endpoint.lm(task.student, **task.decoding())
    optimized = build_prompt_optimized(task, lm, **asked)
    stages = {"baseline": attach(task.program(), lm), "prompt_optimized": optimized.program}
    if task.teacher:
        strong = endpoint.lm(task.teacher, **task.decoding())
        taught = build_prompt_optimized(task, strong, optimizer=task.teacher_optimizer, **asked)
        stages["teacher"] = taught.program
    tuned = build_finetuned(
        task,
        endpoint,
        optimized,
        journal=journal,
        report=report,
        concurrency=8,
        teacher=stages.get("teacher"),
        patience=hurried(),
    )
    stages["finetuned"] = tuned.program
    return {name: score(task, program) for name, program in stages.items()}, tuned


def score(task: Task, program: Any) -> float:
    runs = run_program(program, task.dataset.test, adapter=task.make_adapter(), concurrency=8)
    return mean_score(runs, task.scorer)


def kept(tuned: Finetuned) -> int:
    return sum(count for count, _ in tuned.kept.values())


PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"


def told(name: str) -> dict[str, list[float]]:
    """The figures of a table of the page, by its rows."""
    section = PAGE.read_text(encoding="utf-8").partition(f"<!-- table: {name} -->\n")[2].partition("\n\n")[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in section.splitlines()[2:]]
    return {cells[0]: [float(cell) for cell in cells[1:] if cell] for cells in rows}


def assert_told(name: str, scores: Mapping[str, float]) -> None:
    """The page says what came out; other versions of NumPy and scikit-learn may learn a little differently."""
    table = told(name)
    assert list(table) == list(scores)
    assert {stage: figures[0] for stage, figures in table.items()} == pytest.approx(scores, abs=0.06)


def test_classification_learns_from_its_own_traces(endpoint: Endpoint, journal: Path) -> None:
    scores, tuned = build(classification(), endpoint, journal)
    assert_told("classification", scores)
    assert scores["baseline"] < scores["prompt_optimized"] < scores["finetuned"]
    assert 60 <= kept(tuned) <= 120


def test_distillation_of_a_retrieval_program_keeps_the_teacher_s_f1(endpoint: Endpoint, journal: Path) -> None:
    task = retrieval()
    scores, tuned = build(task, endpoint, journal)
    assert_told("retrieval", scores)
    assert scores["finetuned"] > scores["baseline"] + 0.3
    assert scores["finetuned"] > 0.9 * scores["teacher"]
    assert tuned.program.answer.demos == []


def test_better_together_gains_on_a_program_of_two_steps(endpoint: Endpoint, journal: Path) -> None:
    scores, tuned = build(steps(), endpoint, journal)
    assert_told("steps", scores)
    assert scores["baseline"] < scores["prompt_optimized"] < scores["finetuned"]
    tried = [one.rpartition(" ")[0] for one in tuned.notes[0].partition(": ")[2].split(", ")]
    assert sorted(tried) == ["baseline", "p", "p -> w", "p -> w -> p"]


def test_a_model_for_each_of_two_steps_learns_what_one_for_both_does(endpoint: Endpoint, journal: Path) -> None:
    came_out: dict[str, list[float]] = {"one": [], "one for each": []}
    for recipe in ("labels", "bootstrap"):
        for name, options in zip(came_out, ({}, {"multitask": False}), strict=True):
            scores, tuned = build(replace(steps(), recipe=recipe, recipe_options=options), endpoint, journal)
            came_out[name].append(scores["finetuned"])
            assert list(tuned.models) == (["find", "assign"] if options else [""])
    table = told("predictors")
    assert list(table) == list(came_out)
    assert [table[name] for name in table] == [pytest.approx(scores, abs=0.06) for scores in came_out.values()]


LENIENT = metrics.set_f1("goods").for_bootstrapping(threshold=0.75)
FIXES: dict[str, dict[str, Any]] = {
    "whole lists": {},
    "strong teacher": {"recipe": "distill", "teacher": "sandbox-large", "teacher_optimizer": "labeled_few_shot"},
    "lenient metric": {"metric": LENIENT},
}


def test_low_bootstrap_success_is_helped_by_a_teacher_and_a_lenient_metric(endpoint: Endpoint, journal: Path) -> None:
    table = told("extraction")
    came_out = {}
    for name, changes in FIXES.items():
        scores, tuned = build(extraction(**changes), endpoint, journal)
        came_out[name] = (kept(tuned), scores["finetuned"])
        assert table[name] == pytest.approx([kept(tuned), scores["prompt_optimized"], scores["finetuned"]], abs=0.06)
    whole, teacher, lenient = came_out.values()
    assert whole[0] < 0.1 * 160 < lenient[0] < teacher[0]
    assert teacher[1] > max(whole[1], lenient[1])


def test_what_is_a_sum_is_not_learnt_by_the_sandbox(endpoint: Endpoint, journal: Path) -> None:
    pairs = random.Random(1).sample([(a, b) for a in range(40) for b in range(40)], sum(SPLITS.values()))
    rows = [{"first": a, "second": b, "total": a + b} for a, b in pairs]
    task = Task(
        name="sums",
        program=lambda: dspy.Predict("first: int, second: int -> total: int"),
        dataset=split(rows, ["first", "second"]),
        metric=metrics.exact_match("total"),
        student="sandbox-small",
        optimizer="labeled_few_shot",
        recipe="labels",
    )
    scores, _ = build(replace(task, optimizer_options={"k": 4}), endpoint, journal)
    assert scores["finetuned"] < 0.5

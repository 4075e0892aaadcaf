"""Whatever is broken on purpose, the gate is red or says clearly why it cannot judge: never green."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator

import pytest
from syrupy.assertion import SnapshotAssertion
from tests.conftest import Project

from pytest_finetune.core.claims import ladder
from pytest_finetune.core.records import Policy
from pytest_finetune.core.results import Result
from pytest_finetune.errors import FinetuneError
from pytest_finetune.workflow.run import Run
from pytest_finetune.workflow.settings import read_settings


def swap_the_finetuned_model_for_its_base(project: Project) -> None:
    model = next(line for line in project.lock.read_text().splitlines() if line.startswith('model = "ft:'))
    project.edit("models.lock", model, 'model = "sandbox-small"')


def swap_the_base_as_well(project: Project) -> None:
    text = project.lock.read_text()
    model = next(line for line in text.splitlines() if line.startswith('model = "ft:'))
    before, after = text.split(model)
    after = after.replace('base = "sandbox-small"', 'base = "sandbox-tiny"', 1)
    project.write("models.lock", f'{before}model = "sandbox-small"{after}')


def weaken_the_baseline(project: Project) -> None:
    project.edit(
        "models.lock", 'stage = "baseline"\nmodel = "sandbox-small"', 'stage = "baseline"\nmodel = "nothing"'
    )


def damage(kind: str) -> Callable[[Project], None]:
    def damage_it(project: Project) -> None:
        for path in (project.path / "models.lock.d").glob(f"{kind}-*"):
            path.write_bytes(path.read_bytes().replace(b"e", b"E", 1))

    damage_it.__name__ = f"damage_the_{kind}_artifacts"
    return damage_it


def shuffle_the_labels_that_were_trained_on(project: Project) -> None:
    path = project.artifact("training")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    labels = [row["messages"][-1] for row in rows]
    for row, label in zip(rows, labels[1:] + labels[:1], strict=True):
        row["messages"][-1] = label
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def lose_the_artifacts(project: Project) -> None:
    for path in (project.path / "models.lock.d").glob("program-*"):
        path.unlink()


def change_the_metric(project: Project) -> None:
    project.edit("finetune_tasks.py", 'metrics.exact_match("department")', "metrics.contains('department')")


def change_the_program(project: Project) -> None:
    project.edit("finetune_tasks.py", "dspy.Predict(Route)", "dspy.ChainOfThought(Route)")


def change_the_instruction(project: Project) -> None:
    project.edit("finetune_tasks.py", "Name the department", "Guess the department")


def change_the_adapter(project: Project) -> None:
    project.edit("finetune_tasks.py", 'student="sandbox-small"', 'student="sandbox-small", adapter="json"')


def change_the_test_data(project: Project) -> None:
    lines = (project.path / "tickets.jsonl").read_text().splitlines()
    easy = [line for line in lines if '"test"' not in line or "password" in line]
    project.write("tickets.jsonl", "\n".join(easy) + "\n")


def correct_labels_to_fit(project: Project) -> None:
    last = (project.path / "tickets.jsonl").read_text().splitlines()[-1]
    other = {**json.loads(last), "department": "account"}
    project.edit("tickets.jsonl", last, json.dumps(other))


def gate_on_what_was_trained_on(project: Project) -> None:
    project.edit("tickets.jsonl", '"split": "train"}', '"split": "TRAIN"}')
    project.edit("tickets.jsonl", '"split": "test"}', '"split": "train"}')
    project.edit("tickets.jsonl", '"split": "TRAIN"}', '"split": "test"}')


def name_another_student(project: Project) -> None:
    project.edit("finetune_tasks.py", 'student="sandbox-small"', 'student="sandbox-large"')


def move_the_lock_to_another_endpoint(project: Project) -> None:
    project.edit("models.lock", 'endpoint = "sandbox"', 'endpoint = "openai https://api.openai.com/v1"')


def damage_the_store(project: Project) -> None:
    (project.path / ".pytest-finetune" / "rows.sqlite").write_bytes(b"SQLite format 3\0" + bytes(4000))


def lose_the_store_and_the_training_file(project: Project) -> None:
    (project.path / ".pytest-finetune" / "rows.sqlite").unlink()
    project.artifact("training").unlink()


SABOTAGE = [
    swap_the_finetuned_model_for_its_base,
    swap_the_base_as_well,
    weaken_the_baseline,
    damage("program"),
    damage("rows"),
    shuffle_the_labels_that_were_trained_on,
    lose_the_artifacts,
    change_the_metric,
    change_the_program,
    change_the_instruction,
    change_the_adapter,
    change_the_test_data,
    correct_labels_to_fit,
    gate_on_what_was_trained_on,
    name_another_student,
    move_the_lock_to_another_endpoint,
    damage_the_store,
    lose_the_store_and_the_training_file,
]
LADDER = ladder(min_score=0.5)


@pytest.fixture
def gate(built: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[Result]]]:
    """Judge the ladder, as the plugin does."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    runs: list[Run] = []

    def judge() -> list[Result]:
        run = Run(read_settings(built.path, options={"models": [str(built.lock)]}, environment={}))
        runs.append(run)
        run.check()
        for claim in LADDER:
            run.expect("tickets", claim)
        return [run.gate.judge("tickets", claim, Policy(margin=0.02)) for claim in LADDER]

    yield judge
    sys.modules.pop("finetune_tasks", None)
    for run in runs:
        run.close()


def test_unbroken_it_holds(gate: Callable[[], list[Result]]) -> None:
    assert [(result.settlement.held, result.settlement.certified) for result in gate()] == [(True, True)] * 3


@pytest.mark.parametrize("sabotage", SABOTAGE, ids=lambda sabotage: sabotage.__name__)
def test_broken_it_is_an_error_that_names_what_differs(
    built: Project,
    gate: Callable[[], list[Result]],
    sabotage: Callable[[Project], None],
    snapshot: SnapshotAssertion,
) -> None:
    sabotage(built)
    with pytest.raises(FinetuneError) as caught:
        gate()
    message = re.sub(
        r"(program|rows|training)-\w+", r"\1-<hash>", str(caught.value).replace(str(built.path), "<project>")
    )
    assert re.sub(r"ft:[\w:-]+|sha256:\w+", "<id>", message) == snapshot


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "n2"])
def test_in_pytest_it_is_an_error_of_each_test_without_a_traceback(built: Project, workers: tuple[str, ...]) -> None:
    change_the_metric(built)
    result = built.gate("-q", *workers)
    result.assert_outcomes(errors=3)
    assert "Traceback" not in result.stdout.str()
    result.stdout.fnmatch_lines(
        ["*tickets/*: what would be run is not what the lock pins:", "  fingerprints.metric: *"]
    )

"""``pytest-finetune check``: the six situations that it must tell apart, through the command, on real projects."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from tests.cli.conftest import Command
from tests.conftest import Project, make_rows, write_sources
from tests.test_example_project import copy_of_project
from tests.training.refusing import refusing

from pytest_finetune.cli import ExitStatus
from pytest_finetune.sandbox import Sandbox

PAGE = Path(__file__).parents[2] / "docs" / "check.md"
CONSTANT = """

def fine(example, prediction, trace=None):
    return 1.0


tickets = task(metric=fine)
"""


@pytest.fixture(autouse=True)
def _afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("finetune_tasks", None)  # the next project's file has the same name


@pytest.fixture
def unbuilt(command: Command, tmp_path: Path) -> Command:
    """The command line in a project of which nothing is built."""
    write_sources(tmp_path)
    return command


@pytest.fixture
def example(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line in a fresh clone of the example project, which is locked."""
    monkeypatch.chdir(copy_of_project(tmp_path))
    return command


def write_rows(folder: Path, rows: Iterable[dict[str, str]]) -> None:
    (folder / "tickets.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def without_figures(text: str) -> str:
    """The words: what was measured depends on the libraries that a model learns by."""
    return re.sub(r"[\d,.]*\d", "#", text)


def test_tiny_data(unbuilt: Command, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    write_rows(tmp_path, make_rows(2, train=30, dev=10, test=60))
    done = unbuilt("check")
    assert (done.status, done.err) == (ExitStatus.CLAIM_FAILED, "")
    assert done.out.startswith("tickets: collect data\n")
    assert done.out == snapshot
    assert not (tmp_path / ".pytest-finetune").exists()


def test_a_weak_baseline_with_good_labels(
    built: Project, command: Command, monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion
) -> None:
    monkeypatch.chdir(built.path)
    held_out = {row["text"] for row in make_rows(7, train=240, dev=40, test=320)}
    more = [row for row in make_rows(9, train=400) if row["text"] not in held_out]
    write_rows(built.path, [*make_rows(7, train=240, dev=40, test=320), *more])
    built.edit("finetune_tasks.py", 'task(teacher="sandbox-large")', "task()")
    assert built.mean("prompt_optimized") < 0.5
    done = command("check", "tickets", "--goal", "0.8")
    assert (done.status, done.err) == (ExitStatus.HELD, "")
    assert done.out.startswith("tickets: fine-tune for quality\n")
    assert without_figures(done.out) == snapshot


def test_prompts_that_already_do(example: Command, snapshot: SnapshotAssertion) -> None:
    done = example("check", "tickets", "--goal", "0.5")
    assert (done.status, done.err) == (ExitStatus.INCONCLUSIVE, "")
    assert done.out.startswith("tickets: stop here: prompts already meet the goal\n")
    assert without_figures(done.out) == snapshot


def test_a_constant_metric(unbuilt: Command, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    with (tmp_path / "finetune_tasks.py").open("a", encoding="utf-8") as file:
        file.write(CONSTANT)
    done = unbuilt("check")
    assert (done.status, done.err) == (ExitStatus.CLAIM_FAILED, "")
    assert done.out.startswith(
        "tickets: mend the task first: as it is, it cannot work\n  why:  gold answers score 1,"
    )
    assert done.out == snapshot


def test_a_leaking_split(unbuilt: Command, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    rows = list(make_rows(4, train=600, dev=40, test=200))
    again = [{**row, "text": f"{row['text'].upper()}!", "split": "test"} for row in rows[:10]]
    write_rows(tmp_path, [*rows, *again])
    done = unbuilt("check")
    assert (done.status, done.err) == (ExitStatus.CLAIM_FAILED, "")
    assert done.out.startswith("tickets: mend the task first: as it is, it cannot work\n  why:  10 of 210 test rows")
    assert done.out == snapshot


def test_a_good_case(example: Command, snapshot: SnapshotAssertion) -> None:
    done = example("check", "tickets", "--calls-per-month", "100000")
    assert (done.status, done.err) == (ExitStatus.HELD, "")
    assert done.out.startswith("tickets: fine-tune for quality\n")
    assert without_figures(done.out) == snapshot


def test_a_volume_that_pays_is_tuned_for_cost(example: Command) -> None:
    done = example("check", "distilled", "--calls-per-month", "100000", "--goal", "0.5")
    assert done.status == ExitStatus.HELD
    assert done.out.startswith("distilled: fine-tune for cost\n")
    assert re.search(r"pays from [\d,]+ calls a month on against prompt_optimized, from [\d,]+ calls a", done.out)
    assert "\n  next: pytest --ft-retrain --ft-task distilled\n" in done.out


def test_the_worst_of_all_tasks_is_the_status(example: Command) -> None:
    done = example("check", "--goal", "0.5")
    assert [line.partition(":")[0] for line in done.out.splitlines() if line and line[0] != " "] == [
        "tickets",
        "distilled",
    ]
    assert done.status == ExitStatus.INCONCLUSIVE


def test_a_sample_is_priced_before_it_is_asked_and_counts(example: Command) -> None:
    done = example("check", "tickets", "--sample", "20")
    assert re.match(r"tickets: asking sandbox-small about 20 training rows, for about \$0\.\d{4}\.\n", done.out)
    assert re.search(r"about [\d,]+ expected: \d+ of 20 sampled answers of prompt_optimized survive", done.out)


def test_a_sample_keeps_to_the_cap(example: Command) -> None:
    done = example("check", "tickets", "--sample", "20", "--max-cost", "0.0001")
    assert done.status == ExitStatus.NOT_EVALUATED
    assert "the sample might pass the cap of $0.0001: raise --max-cost, or ask about fewer rows" in done.err


def test_a_sample_that_is_refused_could_not_be_asked(unbuilt: Command, tmp_path: Path) -> None:
    asked: list[str] = []
    tasks = tmp_path / "finetune_tasks.py"
    text = tasks.read_text(encoding="utf-8").replace('endpoint="sandbox"', 'endpoint="refusing"')
    tasks.write_text(text.replace('recipe="labels"', 'recipe="distill"'), encoding="utf-8")
    with Sandbox() as server, refusing(server, "POST", "/chat/completions", status=400, refused=asked) as url:
        settings = f"[tool.pytest-finetune.endpoints.refusing]\nbase_url = '{url}'\n"
        (tmp_path / "pyproject.toml").write_text(settings, encoding="utf-8")
        done = unbuilt("check", "--sample", "100")
    assert (done.status, "survive" in done.out) == (ExitStatus.NOT_EVALUATED, False)
    assert "the endpoint refused 8 rows in a row" in done.err
    assert 8 <= len(asked) < 100


def test_train_asks_first_whether_it_can_work(unbuilt: Command, tmp_path: Path) -> None:
    write_rows(tmp_path, make_rows(2, train=40, dev=10, test=20))
    done = unbuilt("train")
    assert (done.status, done.out) == (ExitStatus.USAGE, "")
    assert "task 'tickets' cannot work as it is, and nothing was spent:" in done.err
    assert not (tmp_path / ".pytest-finetune").exists()
    done = unbuilt("train", "--skip-check")
    assert done.status == ExitStatus.HELD
    assert "The candidate is in" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tikets"], "there is no task 'tikets'"),
        (["--goal", "1.5"], "Invalid value for '--goal'"),
        (["--sample", "0"], "Invalid value for '--sample'"),
    ],
)
def test_what_cannot_be_checked_is_one_message(unbuilt: Command, arguments: list[str], words: str) -> None:
    done = unbuilt("check", *arguments)
    assert (done.status, done.out) == (ExitStatus.USAGE, "")
    assert words in done.err


def test_the_page_shows_what_the_example_project_s_check_says(example: Command) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (shown,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    line = re.findall(r"^pytest-finetune check.*", text, re.MULTILINE)[0]
    done = example(*shlex.split(line, comments=True)[1:])
    assert without_figures(" ".join(done.out.split())) == without_figures(" ".join(shown.split()))

"""Tasks files of several folders: how their tasks are called, and how they are imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from pytest_finetune.errors import UsageError
from pytest_finetune.workflow.tasks import load_tasks

TASKS = """\
from pytest_finetune import Dataset, Task, metrics


def task(**changes):
    data = Dataset.from_file("data.jsonl", inputs=["text"])
    return Task(program=lambda: None, dataset=data, metric=metrics.exact_match("a"), student="s", **changes)


tickets = task()
"""
GLOB = ("**/tasks_of_it.py",)


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(root: Path, *folders: str, **texts: str) -> None:
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "tasks_of_it.py").write_text(texts.get(folder.rpartition("/")[2], TASKS), encoding="utf-8")


def test_a_task_is_told_by_the_folder_of_its_file_and_its_name(tmp_path: Path) -> None:
    write(tmp_path, ".", "teams/a", "teams/b", b=TASKS + "letters = task(name='mail')\n")
    tasks = load_tasks(tmp_path, GLOB)
    assert list(tasks) == ["tickets", "teams/a/tickets", "teams/b/tickets", "teams/b/mail"]
    assert tasks["teams/b/mail"].name == "mail"
    assert load_tasks(tmp_path, GLOB)["teams/b/mail"] is tasks["teams/b/mail"]


@pytest.mark.parametrize(
    ("folder", "name", "found"),
    [
        ("teams/a", "tickets", "teams/a/tickets"),
        ("teams/a/deep/below", "tickets", "teams/a/tickets"),
        ("teams/c", "tickets", "tickets"),
        ("", "tickets", "tickets"),
        ("teams", "a/tickets", "teams/a/tickets"),
        ("teams/b", "teams/a/tickets", "teams/a/tickets"),
        ("teams/b", "mail", "teams/b/mail"),
    ],
)
def test_a_short_name_means_the_nearest_folder_up_from_the_test(
    tmp_path: Path, folder: str, name: str, found: str
) -> None:
    write(tmp_path, ".", "teams/a", "teams/b", b=TASKS.replace("tickets", "mail"))
    assert load_tasks(tmp_path, GLOB).called(name, PurePosixPath(folder)) == found


@pytest.mark.parametrize(
    ("folder", "name", "message"),
    [
        ("tests", "tickets", ": name one by its id: teams/a/tickets, teams/b/tickets"),
        ("teams/c", "tickets", ": name one by its id: teams/a/tickets, teams/b/tickets"),
        ("teams/a", "mail", ": name one by its id: teams/b/mail"),
        ("teams/c", "../a/tickets", ": did you mean 'teams/a/tickets'?"),
        ("teams/a", "billing", "; there are: teams/a/tickets, teams/b/tickets, teams/b/mail"),
    ],
)
def test_the_task_of_another_folder_is_never_taken(tmp_path: Path, folder: str, name: str, message: str) -> None:
    write(tmp_path, "teams/a", "teams/b", b=TASKS + "mail = task()\n")
    with pytest.raises(UsageError) as refused:
        load_tasks(tmp_path, GLOB).called(name, PurePosixPath(folder))
    assert str(refused.value).endswith(message)


def test_a_name_is_no_path(tmp_path: Path) -> None:
    write(tmp_path, "a", a=TASKS.replace("task()", "task(name='b/tickets')"))
    with pytest.raises(UsageError, match=r"tasks_of_it\.py:6: Task 'b/tickets': a name holds no '/'"):
        load_tasks(tmp_path, GLOB)


def test_files_of_one_name_are_imported_by_their_paths_and_by_no_other_name(tmp_path: Path) -> None:
    write(tmp_path, ".", "teams/a", "teams/b")
    tasks = load_tasks(tmp_path, GLOB)
    assert importlib.import_module("teams.a.tasks_of_it").tickets is tasks["teams/a/tickets"]
    assert importlib.import_module("teams.b.tasks_of_it").tickets is tasks["teams/b/tickets"]
    with pytest.raises(
        ImportError, match=r"write `from teams\.a\.tasks_of_it import …` or `from teams\.b\.tasks_of_it"
    ):
        importlib.import_module("tasks_of_it")
    (tmp_path / "teams" / "b" / "tasks_of_it.py").unlink()
    (tmp_path / "tasks_of_it.py").unlink()
    alone = load_tasks(tmp_path, GLOB)
    assert importlib.import_module("tasks_of_it").tickets is alone["teams/a/tickets"]


def test_nor_may_one_have_been_imported_by_its_name_before(tmp_path: Path) -> None:
    write(tmp_path, "teams/a", "teams/b")
    sys.path.insert(0, str(tmp_path / "teams" / "b"))
    importlib.import_module("tasks_of_it")
    with pytest.raises(UsageError, match=r"teams/b/tasks_of_it\.py was imported as 'tasks_of_it', which several"):
        load_tasks(tmp_path, GLOB)


def test_helpers_of_one_name_are_never_taken_for_each_other(tmp_path: Path) -> None:
    write(tmp_path, "teams/a", "teams/b", b=f"import only_here\n{TASKS}")
    for folder in ("teams/a", "teams/b"):
        (tmp_path / folder / "helpers.py").write_text("", encoding="utf-8")
    only = tmp_path / "teams" / "b" / "only_here.py"
    only.write_text("def lazily():\n    from helpers import label\n", encoding="utf-8")
    message = (
        r"only_here\.py:2: 'helpers' may be .*/b/helpers\.py or .*/a/helpers\.py, .* import it as 'teams\.b\.help"
    )
    with pytest.raises(UsageError, match=message):
        load_tasks(tmp_path, GLOB)
    only.write_text("from teams.b import helpers\nimport json\n", encoding="utf-8")
    assert load_tasks(tmp_path, GLOB)
    assert sys.modules["only_here"].helpers is sys.modules["teams.b.helpers"]


def test_a_task_is_of_one_folder(tmp_path: Path) -> None:
    write(tmp_path, "teams/a", "teams/b", b=f"from teams.a.tasks_of_it import tickets as other\n{TASKS}")
    with pytest.raises(
        UsageError, match=r"the task 'other' is in .*/a/tasks_of_it\.py and in .*/b/tasks_of_it\.py: a"
    ):
        load_tasks(tmp_path, GLOB)
    write(tmp_path, "teams/b", b="import teams.a.tasks_of_it as a\n\nmine = a.task()\n")
    del sys.modules["teams.b.tasks_of_it"]
    assert list(load_tasks(tmp_path, GLOB)) == ["teams/a/tickets", "teams/b/mine"]

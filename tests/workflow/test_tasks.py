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


@pytest.mark.parametrize("change", ["name='sch\\udcf6n'", "student='sch\\udcf6n'"])
def test_what_no_lock_can_hold_is_no_name(tmp_path: Path, change: str) -> None:
    write(tmp_path, "a", a=TASKS + f"import dataclasses\nother = dataclasses.replace(task(), {change})\n")
    with pytest.raises(UsageError, match=r"half a character, in .*: write it as UTF-8"):
        load_tasks(tmp_path, GLOB)


def test_files_of_one_name_are_imported_by_their_paths_and_by_no_other_name(tmp_path: Path) -> None:
    write(tmp_path, ".", "teams/a", "teams/b")
    tasks = load_tasks(tmp_path, GLOB)
    assert importlib.import_module("teams.a.tasks_of_it").tickets is tasks["teams/a/tickets"]
    assert importlib.import_module("teams.b.tasks_of_it").tickets is tasks["teams/b/tickets"]
    with pytest.raises(ImportError) as refused:
        importlib.import_module("tasks_of_it")
    assert str(refused.value) == (
        "several tasks files are called 'tasks_of_it', and each would get the one that came first: take the"
        " task from the fixture ft_task, or import the file that is meant by its path from the rootdir"
        " (teams/a/tasks_of_it.py is 'teams.a.tasks_of_it', teams/b/tasks_of_it.py is 'teams.b.tasks_of_it'), which"
        " must be on sys.path (pythonpath = . in pytest's ini)"
    )
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


@pytest.mark.parametrize("folder", [".", "teams/team-b", "teams/class"])
def test_what_no_import_statement_can_name_is_not_advised(tmp_path: Path, folder: str) -> None:
    write(tmp_path, ".", "teams/team-b", "teams/class")
    assert len(load_tasks(tmp_path, GLOB)) == 3
    with pytest.raises(ImportError) as refused:
        importlib.import_module("tasks_of_it")
    assert str(refused.value).endswith("came first: take the task from the fixture ft_task")
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "_SharedNames"]
    sys.path.insert(0, str(tmp_path / folder))
    importlib.import_module("tasks_of_it")
    with pytest.raises(UsageError) as late:
        load_tasks(tmp_path, GLOB)
    assert str(late.value).endswith("several tasks files are called: take the task from the fixture ft_task")


@pytest.mark.parametrize(
    ("folder", "advice"), [(".", "rename "), ("team-b", "rename "), ("b", "import it as 'b.helpers'")]
)
def test_a_helper_that_no_import_statement_can_name_is_to_be_renamed(
    tmp_path: Path, folder: str, advice: str
) -> None:
    write(tmp_path, folder, "other", **{folder: f"import helpers\n{TASKS}"})
    for each in (folder, "other"):
        (tmp_path / each / "helpers.py").write_text("", encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        load_tasks(tmp_path, GLOB)
    told = str(refused.value).partition("whichever was imported first: ")[2]
    assert told == (f"{advice}{tmp_path / folder / 'helpers.py'}" if advice == "rename " else advice)


def test_the_file_of_one_folder_is_imported_without_those_of_the_others(tmp_path: Path) -> None:
    write(tmp_path, "teams/a", "teams/b", b="import no_such_module\n")
    assert list(load_tasks(tmp_path, GLOB, "teams/a")) == ["teams/a/tickets"]
    assert not {name for name in sys.modules if name.endswith("b.tasks_of_it")}
    assert str(tmp_path / "teams" / "b") not in sys.path
    with pytest.raises(UsageError, match=r"teams/b/tasks_of_it\.py:1: ModuleNotFoundError"):
        load_tasks(tmp_path, GLOB)
    with pytest.raises(UsageError, match=r"there is no tasks file: .* not found in .*/teams/c\. Write"):
        load_tasks(tmp_path, GLOB, "teams/c")


def test_a_folder_that_is_deployed_alone_has_its_tasks_file_at_the_root(tmp_path: Path) -> None:
    write(tmp_path, ".", "teams/b", b="import no_such_module\n")
    assert list(load_tasks(tmp_path, GLOB, "teams/a")) == ["tickets"]
    assert list(load_tasks(tmp_path, GLOB, "")) == ["tickets"]


@pytest.mark.parametrize("imported", [False, True])
def test_another_module_that_is_called_as_the_folder_is_not_run(tmp_path: Path, imported: bool) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "teams_of_it.py").write_text("ran = True\n", encoding="utf-8")
    sys.path.insert(0, str(tmp_path / "lib"))
    if imported:
        importlib.import_module("teams_of_it")
    write(tmp_path, "teams_of_it/a", "teams_of_it/b")
    assert len(load_tasks(tmp_path, GLOB)) == 2
    assert ("teams_of_it" in sys.modules) is imported


def test_a_file_is_an_attribute_of_its_folders_as_after_an_import(tmp_path: Path) -> None:
    write(tmp_path, "teams_of_it/a", "teams_of_it/b")
    tasks = load_tasks(tmp_path, GLOB)
    package = importlib.import_module("teams_of_it")
    assert package.b.tasks_of_it.tickets is tasks["teams_of_it/b/tickets"]


def test_a_folder_is_no_tasks_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tasks_of_it.py").mkdir()
    monkeypatch.chdir(tmp_path / "tasks_of_it.py")
    with pytest.raises(UsageError, match=r"tasks_of_it\.py"):
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

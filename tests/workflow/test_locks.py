"""Where tasks are pinned: which lock a task is in, or would go to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.lock.conftest import make_entry

from pytest_finetune.errors import LockError
from pytest_finetune.lock import Lock, write_lock
from pytest_finetune.workflow.locks import Locks
from pytest_finetune.workflow.settings import read_settings

A, B, ROOT = "teams/a/models.lock", "teams/b/models.lock", "models.lock"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for folder in ("teams/a", "teams/b"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "finetune_tasks.py").write_text("", encoding="utf-8")
    return tmp_path


def locks(root: Path, *given: str, tasks: str = "**/finetune_tasks.py", **settings: Any) -> Locks:
    read = read_settings(root, options={"models": given}, environment={}, called_from=root)
    return Locks(replace(read, tasks=(tasks,)), **settings)


def pin(root: Path, path: str, *tasks: str) -> None:
    write_lock(root / path, Lock(model=tuple(make_entry(task=task) for task in tasks)))


def shown(found: Locks, paths: tuple[Path, ...]) -> list[str]:
    return [found.shown(path) for path in paths]


@pytest.mark.parametrize(
    ("there", "given", "building", "expected"),
    [
        ((A, B), (), False, [A, B]),
        ((A,), (), False, [A, B]),
        ((A, ROOT), (), False, [A, B, ROOT]),
        ((A, B), (B,), False, [B]),
        ((A, B), (B, A, B), False, [B, A]),
        ((A, B), (B,), True, [B, A]),
        ((A, "release.lock"), ("release.lock",), True, ["release.lock"]),
        ((A,), (".pytest-finetune/candidate.lock",), True, [A, B]),
    ],
)
def test_the_locks_of_a_run(
    root: Path, there: tuple[str, ...], given: tuple[str, ...], building: bool, expected: list[str]
) -> None:
    for path in there:
        pin(root, path)
    found = locks(root, *given, building=building)
    assert shown(found, found.paths) == expected


def test_a_project_with_one_tasks_file_at_its_root_has_one_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "finetune_tasks.py").touch()
    found = locks(tmp_path)
    assert shown(found, found.paths) == [ROOT]
    assert found.command == "pytest --finetune-models=models.lock"
    assert found.of("tickets") == tmp_path / ROOT
    assert locks(tmp_path, tasks="none.py").paths == (tmp_path / ROOT,)


@pytest.mark.parametrize(
    ("given", "task", "expected"),
    [
        ((), "teams/a/tickets", A),
        ((), "teams/b/mail", B),
        ((), "teams/a/odd", B),  # it is in there already
        (("teams/a/pilot.lock",), "teams/a/new", "teams/a/pilot.lock"),
        (("teams/a/pilot.lock",), "teams/b/new", B),
        (("release.lock",), "teams/b/new", "release.lock"),
        (("release.lock", A), "teams/a/new", A),
    ],
)
def test_the_lock_that_a_task_is_in_or_would_go_to(
    root: Path, given: tuple[str, ...], task: str, expected: str
) -> None:
    pin(root, A, "teams/a/tickets")
    pin(root, B, "teams/a/odd")
    found = locks(root, *given, building=True)
    assert found.shown(found.of(task)) == expected
    assert found.artifacts(task).folder == root / f"{expected}.d"


def test_a_task_in_two_locks_is_refused_with_both(root: Path) -> None:
    pin(root, A, "teams/a/tickets")
    pin(root, B, "teams/a/tickets")
    with pytest.raises(LockError, match=f"'teams/a/tickets' is in two locks, {A} and {B}: name one of them, or take"):
        locks(root).check_task("teams/a/tickets")


@pytest.mark.parametrize(
    ("given", "task", "message"),
    [
        ((A,), "teams/b/tickets", f"'teams/b/tickets' belongs in {B}, which is not given: add --finetune-models={B}"),
        (
            (A, B),
            "teams/b/mail",
            rf"none of the locks \({A}, {B}\) has task 'teams/b/mail': pytest --ft-retrain --ft-task teams/b/ma",
        ),
    ],
)
def test_a_task_in_none_is_refused_with_what_to_do(
    root: Path, given: tuple[str, ...], task: str, message: str
) -> None:
    pin(root, A, "teams/a/tickets")
    pin(root, B, "teams/b/tickets")
    with pytest.raises(LockError, match=message):
        locks(root, *given).check_task(task)


@pytest.mark.parametrize(("given", "missing"), [((A, B), B), ((), None)])
def test_what_was_given_must_be_there(root: Path, given: tuple[str, ...], missing: str | None) -> None:
    pin(root, A)
    found = locks(root, *given)
    if missing is None:
        found.check()
        return
    with pytest.raises(LockError, match=f"there is no lock at {root / missing}: build the models"):
        found.check()


def test_a_candidate_s_files_are_beside_the_locks_that_its_tasks_are_to_enter(root: Path) -> None:
    pin(root, A, "teams/a/tickets")
    entries = [make_entry(task=task) for task in ("teams/a/tickets", "teams/b/new")]
    building = locks(root, building=True)
    building.keep_candidate(Lock(model=tuple(entries)))
    judging = locks(root, str(building.candidate))
    assert judging.artifacts("teams/a/tickets").folder == root / f"{A}.d"
    assert judging.artifacts("teams/b/new").folder == root / f"{B}.d"
    (building.candidate.parent / "candidate.of").write_text("no JSON", encoding="utf-8")
    with pytest.raises(LockError, match=r"candidate\.of is damaged: build the candidate anew"):
        locks(root, str(building.candidate)).artifacts("teams/b/new")

"""What steps refuse, and what they say, where the tasks file or the lock went another way meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone

import pytest
from tests.conftest import Project

from pytest_finetune.errors import LockError
from pytest_finetune.lock import Entry, Lock, edit_lock, read_lock
from pytest_finetune.lock import life as steps
from pytest_finetune.lock.life import Decision
from pytest_finetune.lock.merge import merge_locks
from pytest_finetune.workflow import life
from pytest_finetune.workflow.drift import drifted
from pytest_finetune.workflow.run import Run
from pytest_finetune.workflow.settings import read_settings

OTHERWISE = (
    "The tasks file would build it otherwise now (data.train): its scores hold, and CI refuses it unless it is gated"
    " with --ft-frozen."
)
ASKS = "The tasks file asks for something else now ({}), so that CI refuses it: take the tasks file and its rows back"


@pytest.fixture
def project(built: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    yield built
    sys.modules.pop("finetune_tasks", None)


def pinned(project: Project) -> Entry:
    return read_lock(project.lock).entry("tickets", "finetuned")


def put(project: Project, entry: Entry) -> None:
    edit_lock(project.lock, lambda lock: lock.with_stage(entry))


def promote(project: Project) -> life.Done:
    return life.promote(read_settings(project.path), "tickets")


def rollback(project: Project) -> tuple[str, ...]:
    return life.rollback(read_settings(project.path), "tickets").remarks


def troubles(project: Project) -> list[str]:
    """What ``lock check`` says."""
    with closing(Run(read_settings(project.path))) as run:
        return [trouble.message for trouble in drifted(run) if trouble.error]


def served_before(project: Project) -> str:
    """Promote what is pinned, then another; give the first."""
    promote(project)
    model = project.accept_another("ft:newer")
    promote(project)
    return model


def test_what_would_be_built_otherwise_is_said_of_what_is_promoted(project: Project) -> None:
    project.edit("tickets.jsonl", '"split": "train"', '"more": 1, "split": "train"')
    assert promote(project).remarks[-1] == OTHERWISE


@pytest.mark.parametrize("step", ["rollback", "retire"])
def test_a_state_that_was_written_by_hand_is_no_ground_to_stand_on(project: Project, step: str) -> None:
    model = served_before(project)
    put(project, pinned(project).model_copy(update={"state": "deprecated"}))
    text = project.lock.read_text(encoding="utf-8")
    with pytest.raises(LockError, match="the lock calls ft:newer deprecated, by its history it is production"):
        getattr(life, step)(read_settings(project.path), "tickets", model)
    assert project.lock.read_text(encoding="utf-8") == text


def test_what_is_gone_back_to_says_what_lets_the_gate_pass(project: Project) -> None:
    for words in (["init"], ["config", "user.name", "Ada"], ["config", "user.email", "a@b.example"]):
        subprocess.run(["git", *words], cwd=project.path, check=True, capture_output=True)
    subprocess.run(["git", "commit", "--allow-empty", "-m", "a"], cwd=project.path, check=True, capture_output=True)
    served_before(project)
    commit = pinned(project).history[-1].commit
    assert commit
    project.edit("tickets.jsonl", '"split": "train"', '"more": 1, "split": "train"')
    at = f"to commit {commit[:7]}, at which it was promoted"
    assert rollback(project) == (f"{ASKS.format('data.train')} {at}, or gate it as it is with --ft-frozen.",)


def test_where_scores_say_nothing_a_frozen_lock_is_no_way(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.path.parent))
    served_before(project)
    project.edit("tickets.jsonl", '"split": "test"', '"more": 1, "split": "test"')
    asks = ASKS.format("data.test")
    assert rollback(project) == (f"{asks} to what they were when it was built.",)


def test_one_goes_back_though_the_tasks_file_is_broken(project: Project) -> None:
    model = served_before(project)
    project.write("finetune_tasks.py", "import nothing_of_the_kind\n")
    sys.modules.pop("finetune_tasks")
    (remark,) = rollback(project)
    assert remark.startswith("Whether it fits the tasks file is not known: ")
    assert pinned(project).model == model


def test_who_takes_a_step_is_named_without_secrets(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.path.parent))
    monkeypatch.setenv("LOGNAME", "sk-abcdefghijklmnopqrstuvwxyz123456")
    (event,) = promote(project).after.history
    assert "sk-abc" not in event.by


def test_a_retired_version_that_is_pinned_is_told(project: Project) -> None:
    assert troubles(project) == []
    model = pinned(project).model
    way = (
        "to build another, change its rows, seed= or hyperparameters= in the tasks file, then"
        " pytest --ft-retrain --ft-task tickets"
    )
    done = life.retire(read_settings(project.path), "tickets", model)
    assert done.remarks == (f"The lock pins it still: {way}.",)
    (told,) = troubles(project)
    assert told.startswith(f"tickets/finetuned: {model} was retired on ")
    assert told.endswith(f" and must not serve again: {way}")


def test_a_pinned_version_that_was_retired_can_be_left_for_an_earlier_one(project: Project) -> None:
    model = served_before(project)
    rollback(project)
    project.accept_another("ft:newer")
    life.retire(read_settings(project.path), "tickets", "ft:newer")
    (told,) = troubles(project)
    assert told.endswith(f"; or go back: pytest-finetune rollback tickets {model}")
    rollback(project)
    assert troubles(project) == []


def test_a_stage_without_anything_in_production_any_more_is_told(project: Project) -> None:
    """One branch went back to what the other retired."""
    model = served_before(project)
    entry, decision = pinned(project), Decision(datetime.now(timezone.utc) + timedelta(minutes=1), "Ada")
    locks = [
        Lock(model=(one,)) for one in (entry, steps.rollback(entry, decision), steps.retire(entry, model, decision))
    ]
    put(project, merge_locks(locks[1], locks[2], locks[0]).lock.models[0])
    (told,) = troubles(project)
    assert told == (
        "tickets/finetuned has nothing in production any more: put the pinned version into production:"
        " pytest-finetune promote tickets"
    )

"""Two branches, one lock: what git merges without help."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.lock.conftest import make_entry

from pytest_finetune.errors import LockError
from pytest_finetune.lock import Entry, Lock, read_lock, update_lock, write_lock
from pytest_finetune.lock.merge import merge_locks

MakeEntry = Callable[..., Entry]
Change = Callable[[MakeEntry], Entry]


def retrained(task: str, letter: str) -> Change:
    """A retrain changes the model, its artifacts, its job and its score."""

    def change(entry: MakeEntry) -> Entry:
        return entry(
            task,
            model=f"ft:small:acme:{task}:{letter}",
            artifacts={"program": f"sha256:{letter * 64}", "rows": f"sha256:{letter * 64}"},
            job={"id": f"ftjob-{letter}", "status": "succeeded", "created_at": 1795241000, "finished_at": 1795242000},
            score={"mean": 0.5, "n": 400},
        )

    return change


def added(task: str) -> Change:
    return lambda entry: entry(task)


def git(folder: Path, *arguments: str) -> int:
    settings = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *settings, *arguments], cwd=folder, capture_output=True, check=False).returncode


def merged(folder: Path, entry: MakeEntry, ours: Change, theirs: Change) -> Path:
    """Branch from a lock of five tasks, change each side, and merge."""
    lock = folder / "models.lock"
    write_lock(lock, Lock(model=tuple(entry(task) for task in ("b", "d", "f", "h", "j"))))
    for arguments in (["init", "-b", "main"], ["add", "."], ["commit", "-m", "base"], ["checkout", "-b", "theirs"]):
        assert git(folder, *arguments) == 0
    update_lock(lock, [theirs(entry)])
    assert git(folder, "commit", "-am", "theirs") == 0
    assert git(folder, "checkout", "main") == 0
    update_lock(lock, [ours(entry)])
    assert git(folder, "commit", "-am", "ours") == 0
    git(folder, "merge", "theirs")
    return lock


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (retrained("b", "1"), retrained("j", "2")),
        (retrained("d", "1"), retrained("f", "2")),
        (added("a"), added("z")),
        (added("c"), added("g")),
        (added("c"), retrained("d", "2")),
        (added("e"), retrained("d", "2")),
    ],
    ids=["distant", "adjacent", "both ends", "added apart", "added before", "added behind"],
)
def test_different_tasks_merge_cleanly(tmp_path: Path, entry: MakeEntry, ours: Change, theirs: Change) -> None:
    base = Lock(model=tuple(entry(task) for task in ("b", "d", "f", "h", "j")))
    lock = merged(tmp_path, entry, ours, theirs)
    assert read_lock(lock) == base.with_entries([ours(entry), theirs(entry)])


def test_the_same_task_is_a_conflict_that_is_told(tmp_path: Path, entry: MakeEntry) -> None:
    lock = merged(tmp_path, entry, retrained("d", "1"), retrained("d", "2"))
    with pytest.raises(LockError, match="a git merge left its conflict markers here"):
        read_lock(lock)


# --- by meaning -------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c")
SIDES = st.dictionaries(st.sampled_from(NAMES), st.tuples(st.sampled_from("123"), st.integers(0, 3)))


def lock_of(side: dict[str, tuple[str, int]]) -> Lock:
    """Each task with the model that serves it, and the hour at which it was trained."""
    entries = []
    for task, (letter, hour) in side.items():
        job = {"id": f"job-{letter}", "status": "succeeded", "finished_at": 1795242000 + 3600 * hour}
        artifacts = {"program": f"sha256:{letter * 64}"}
        entries.append(make_entry(task, model=f"{task}-{letter}-{hour}", job=job, artifacts=artifacts))
    return Lock(model=tuple(entries))


@given(SIDES, SIDES, SIDES)
def test_neither_side_is_preferred(ours: dict[str, Any], theirs: dict[str, Any], base: dict[str, Any]) -> None:
    sides = lock_of(ours), lock_of(theirs)
    assert merge_locks(*sides, lock_of(base)).lock == merge_locks(*sides[::-1], lock_of(base)).lock


@given(SIDES, SIDES)
def test_what_one_side_changed_is_that_sides(ours: dict[str, Any], base: dict[str, Any]) -> None:
    merged = merge_locks(lock_of(ours), lock_of(base), lock_of(base))
    assert (merged.lock, merged.notes) == (lock_of(ours), ())


@given(SIDES, SIDES)
def test_the_later_model_stands_and_no_model_is_lost(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    sides = lock_of(ours), lock_of(theirs)
    merged = merge_locks(*sides).lock
    for task in merged.tasks:
        (entry,) = merged.of_task(task)
        served = [side.entry(task, "finetuned") for side in sides if task in side.tasks]
        kept = {entry.model, *(previous.model for previous in entry.previous)}
        assert kept == {one.model for one in served}
        ends = [one.job.finished_at for one in served if one.job and one.job.finished_at]
        assert entry.job is not None
        assert entry.job.finished_at == max(ends)


def test_git_sees_the_lock_and_its_artifacts_only(tmp_path: Path, entry: MakeEntry) -> None:
    write_lock(tmp_path / "models.lock", Lock(model=(entry(),)))
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    listed = subprocess.run(["git", "ls-files"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert listed.split() == ["models.lock", "models.lock.d/.gitattributes", "models.lock.d/.gitignore"]

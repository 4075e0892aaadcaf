"""Two branches, one lock: what git merges without help."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.lock.lives import LIVES, Action, lived, patient, version

from pytest_finetune.errors import LockError
from pytest_finetune.lock import Entry, Lock, read_lock, render, update_lock, write_lock
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

Sides = tuple[Lock, Lock, Lock]
"""Ours, theirs, and what both came from."""


@st.composite
def branches(draw: st.DrawFn) -> Sides:
    """Two branches; what is done on the other is done at other moments, or at the same ones."""
    base = lived(Lock(), draw(LIVES))
    ours = lived(base, draw(LIVES), start=10)
    return ours, lived(base, draw(LIVES), start=draw(st.sampled_from([10, 14])), by="Grace"), base


def known(*locks: Lock) -> set[tuple[str, object]]:
    """Every version and every event of some locks."""
    entries = [entry for lock in locks for entry in lock.models]
    versions = {(entry.task, version.key) for entry in entries for version in entry.versions}
    return versions | {(entry.task, event) for entry in entries for event in entry.history}


@patient
@given(branches(), st.booleans())
def test_neither_side_is_preferred(sides: Sides, related: bool) -> None:
    ours, theirs, base = sides
    before = base if related else None
    assert merge_locks(ours, theirs, before) == merge_locks(theirs, ours, before)


@patient
@given(branches(), st.booleans())
def test_merging_a_side_again_changes_nothing(sides: Sides, related: bool) -> None:
    ours, theirs, base = sides
    before = base if related else None
    merged = merge_locks(ours, theirs, before).lock
    for side in (ours, theirs, merged):
        assert merge_locks(merged, side, before).lock == merged


@patient
@given(branches(), st.booleans())
def test_no_version_and_no_event_is_lost(sides: Sides, related: bool) -> None:
    ours, theirs, base = sides
    assert known(merge_locks(ours, theirs, base if related else None).lock) == known(ours, theirs)


@patient
@given(branches(), st.booleans())
def test_what_was_promoted_last_serves_and_nothing_that_was_retired(sides: Sides, related: bool) -> None:
    ours, theirs, base = sides
    for entry in merge_locks(ours, theirs, base if related else None).lock.models:
        retired = {event.version for event in entry.history if event.what == "retired"}
        assert {version.key for version in entry.versions if version.state == "retired"} == retired
        promoted = [event.version for event in entry.history if event.what == "production"]
        last = next((key for key in promoted if key not in retired), None)
        left = [event.version for event in entry.history if event.what == "rolled_back"]
        serving = [version.key for version in entry.versions if version.state == "production"]
        assert serving in ([last], [] if last is None or last in left else [last])


@patient
@given(LIVES, LIVES)
def test_what_one_side_changed_is_that_sides(life: list[Action], then: list[Action]) -> None:
    base = lived(Lock(), life)
    ours = lived(base, then, start=10)
    for sides in ((ours, base), (base, ours)):
        merged = merge_locks(*sides, base)
        assert (merged.lock, merged.notes) == (ours, ())


def serving(lock: Lock) -> list[str]:
    return [f"{version.model} {version.state}" for version in lock.entry("a", "finetuned").versions]


PROMOTE = "put the pinned version into production: pytest-finetune promote a"
BEREFT = f"a/finetuned has nothing in production any more: {PROMOTE}"
BASE = lived(Lock(), [("retrain", "a", "1"), ("promote", "a", ""), ("retrain", "a", "2")])


@pytest.mark.parametrize(
    ("ours", "theirs", "versions", "note"),
    [
        (
            [("promote", "a", "")],
            [("retrain", "a", "3")],
            ["ft:3 candidate", "ft:2 production", "ft:1 deprecated"],
            "ft:3 stands, which was trained later; ft:2 is in its history; in production: ft:2",
        ),
        (
            [("promote", "a", "")],
            [("retrain", "a", "3"), ("promote", "a", "")],
            ["ft:3 production", "ft:2 deprecated", "ft:1 deprecated"],
            "ft:3 stands, which was trained later; ft:2 is in its history; in production: ft:3",
        ),
        (
            [("rollback", "a", "1")],
            [("promote", "a", "")],
            ["ft:2 production", "ft:1 deprecated"],
            "ft:2 stands, which was trained later; ft:1 is in its history; in production: ft:2",
        ),
        (
            [("promote", "a", ""), ("retire", "a", "1")],
            [("rollback", "a", "1")],
            ["ft:2 rolled_back", "ft:1 retired"],
            f"ft:2 stands, which was trained later; ft:1 is in its history; {BEREFT}",
        ),
        (
            [("retire", "a", "2")],
            [("promote", "a", "")],
            ["ft:2 retired", "ft:1 production"],
            "ft:2 stands, which was trained later; ft:2 is in its history; in production: ft:1",
        ),
    ],
    ids=["promoted and retrained", "both promoted", "back, then on", "nothing left", "retired though promoted"],
)
def test_two_lives_are_one(ours: list[Action], theirs: list[Action], versions: list[str], note: str) -> None:
    merged = merge_locks(lived(BASE, ours, start=10), lived(BASE, theirs, start=20, by="Grace"), BASE)
    assert serving(merged.lock) == versions
    assert merged.notes == (f"a: both sides changed it. {note}",)


def test_what_the_other_side_went_back_from_does_not_stand() -> None:
    gated = Lock(model=(version("a", "2").model_copy(update={"score": None}),))
    theirs = BASE.with_entries(gated.models)
    merged = merge_locks(lived(BASE, [("rollback", "a", "1")], start=10), theirs, BASE)
    assert serving(merged.lock) == ["ft:1 production", "ft:2 rolled_back"]
    assert merged.notes[0].startswith("a: both sides changed it. ft:1 stands, since the other is not to serve;")


def test_one_model_with_other_decodings_is_two_versions() -> None:
    base = lived(Lock(), [("retrain", "a", "1")])
    hot, hotter = (version("a", "1").model_copy(update={"decoding": {"temperature": each}}) for each in (0.3, 0.9))
    merged = merge_locks(base.with_entries([hot]), base.with_entries([hotter]), base).lock.entry("a", "finetuned")
    assert sorted(one.decoding["temperature"] for one in merged.versions) == [0.0, 0.3, 0.9]


def test_a_stage_that_one_side_added_stays(entry: MakeEntry) -> None:
    base = Lock(model=(version("a", "1"),))
    ours = base.with_entries([version("a", "2"), entry("a", "teacher", job=None)])
    theirs = base.with_entries([version("a", "3")])
    merged = merge_locks(ours, theirs, base).lock
    assert [(one.stage, one.model) for one in merged.models] == [("finetuned", "ft:3"), ("teacher", entry("a").model)]


@patient
@given(st.dictionaries(st.sampled_from("abcd"), LIVES, min_size=2), st.randoms(use_true_random=False))
def test_any_order_of_the_same_changes_gives_the_same_bytes(lives: dict[str, list[Action]], draw: Random) -> None:
    """Each task has its own changes: they are made one after the other, interleaved, or on branches."""
    changes = {task: [(what, task, letter) for what, _, letter in life] for task, life in lives.items()}
    branches = [lived(Lock(), life) for life in changes.values()]
    written = render(Lock(model=tuple(entry for branch in branches for entry in branch.models)))

    interleaved, left = Lock(), [(step, minute) for life in changes.values() for minute, step in enumerate(life)]
    while left:
        first = {task: min(minute for (_, name, _), minute in left if name == task) for (_, task, _), _ in left}
        step, minute = draw.choice([one for one in left if one[1] == first[one[0][1]]])
        left.remove((step, minute))
        interleaved = lived(interleaved, [step], start=minute)
    assert render(interleaved) == written

    draw.shuffle(branches)
    merged = Lock()
    for branch in branches:
        merged = merge_locks(merged, branch, Lock()).lock
    assert render(merged) == written


@settings(patient, max_examples=30)
@given(LIVES, st.tuples(LIVES, LIVES, LIVES))
def test_three_branches_come_to_the_same_in_any_order(life: list[Action], lives: tuple[list[Action], ...]) -> None:
    """The same versions in the same states, with the same history; which one is pinned, the last merge decides."""
    base = lived(Lock(), life)
    branches = [lived(base, then, start=10 + 3 * turn, by=str(turn)) for turn, then in enumerate(lives)]
    found = []
    for first, second, third in permutations(branches):
        merged = merge_locks(merge_locks(first, second, base).lock, third, base).lock
        states = {(entry.task, one.key): one.state for entry in merged.models for one in entry.versions}
        found.append((states, {entry.task: entry.history for entry in merged.models}))
    assert found == found[:1] * 6


def test_git_sees_the_lock_and_its_artifacts_only(tmp_path: Path, entry: MakeEntry) -> None:
    write_lock(tmp_path / "models.lock", Lock(model=(entry(),)))
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    listed = subprocess.run(["git", "ls-files"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert listed.split() == ["models.lock", "models.lock.d/.gitattributes", "models.lock.d/.gitignore"]

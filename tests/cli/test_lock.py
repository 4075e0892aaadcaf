"""``pytest-finetune lock``: in a project that is built, and kept by git."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from tests.cli.conftest import Command, Done
from tests.conftest import Project
from tests.unit.lock.conftest import make_entry

from pytest_finetune.cli import ExitStatus
from pytest_finetune.core.fingerprint import data_fingerprint
from pytest_finetune.lock import Artifacts, Lock, read_lock, update_lock, write_lock
from pytest_finetune.lock.data import get_data, put_data
from pytest_finetune.sandbox import Sandbox

Git = Callable[..., int]


@pytest.fixture
def project(built: Project, command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:  # noqa: ARG001  # it goes elsewhere first
    monkeypatch.chdir(built.path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield built
    sys.modules.pop("finetune_tasks", None)


@pytest.fixture
def git(project: Project) -> Git:
    """Git in the project, of which all is committed."""

    def call(*arguments: str) -> int:
        settings = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")
        command = ["git", *settings, *arguments]
        return subprocess.run(command, cwd=project.path, capture_output=True, check=False).returncode

    for arguments in (["init", "-b", "main"], ["add", "."], ["commit", "-m", "base"]):
        assert call(*arguments) == 0
    return call


def retrain(project: Project, letter: str, minute: int, task: str = "tickets") -> None:
    """As if the finetuned stage had been built anew."""
    entry = read_lock(project.lock).entry(task, "finetuned")
    assert entry.job is not None
    assert entry.job.finished_at is not None
    ended = entry.job.finished_at + timedelta(minutes=minute)
    job = entry.job.model_copy(update={"finished_at": ended})
    project.accept_another(f"ft:small:{letter}", task, job=job)


def test_show_tells_what_is_pinned_and_on_what_it_was_accepted(
    command: Command, tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    before = make_entry(model="ft:small:acme:tickets:0000", state="production").version
    tuned = make_entry(previous=[before])
    plain = make_entry(stage="baseline", model="small", job=None, gate=[], recipe=None)
    write_lock(tmp_path / "models.lock", Lock(model=(tuned, plain)))
    done = command("lock", "show")
    assert (done.status, done.err) == (ExitStatus.HELD, "")
    assert done.out == snapshot


def test_a_lock_that_fits_is_said_to_fit(project: Project, command: Command) -> None:  # noqa: ARG001
    assert command("lock", "check") == Done(ExitStatus.HELD, "models.lock fits: 4 stages.\n", "")


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("finetune_tasks.py", 'student="', 'seed=3, student="', ["tickets/finetuned: seed: locked 0, now 3"]),
        ("finetune_tasks.py", 'student="', 'temperature=0.5, student="', ["tickets/baseline: decoding.temperature"]),
        (
            "finetune_tasks.py",
            "tickets =",
            "letters =",
            ["letters: is not in the lock", "tickets: the tasks file has no"],
        ),
        ("models.lock", "sandbox-large", "sandbox-huge", ["tickets/teacher: base: locked 'sandbox-huge', now"]),
    ],
)
def test_each_difference_is_named_with_what_mends_it(
    project: Project, command: Command, name: str, old: str, new: str, said: list[str]
) -> None:
    project.edit(name, old, new)
    done = command("lock", "check")
    assert done.status == ExitStatus.NOT_EVALUATED
    assert [start for start in said if not any(line.startswith(start) for line in done.out.splitlines())] == []
    assert all("pytest --ft-retrain --ft-task" in line or "[[model]]" in line for line in done.out.splitlines())
    assert "models.lock does not fit: " in done.err


def change_rows(project: Project) -> None:
    """Correct the first row's label, and take out the last row."""
    path = project.path / "tickets.jsonl"
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    row = json.loads(first)
    row["department"] = "billing" if row["department"] != "billing" else "account"
    path.write_text("\n".join([json.dumps(row), *lines[:-1]]) + "\n", encoding="utf-8")


def test_rows_that_changed_are_counted_and_named(project: Project, command: Command) -> None:
    change_rows(project)
    told = [line for line in command("lock", "check").out.splitlines() if line.startswith("tickets/finetuned")]
    built = "1 row changed (tickets.jsonl:1): the rows it was built from have changed"
    scored = "1 row removed: the rows it was scored on have changed, so the locked scores cannot be compared"
    assert told == [
        f"tickets/finetuned: data.{split}: {words}: pytest --ft-retrain --ft-task tickets"
        for split, words in (("train", built), ("test", scored))
    ]


def test_rows_are_not_told_from_a_file_that_is_not_of_the_locked_data(project: Project, command: Command) -> None:
    change_rows(project)
    entry = read_lock(project.lock).entry("tickets", "baseline")
    other = put_data(Artifacts.beside(project.lock), [])
    refs = entry.artifacts.model_copy(update={"data": other})
    update_lock(project.lock, [entry.model_copy(update={"artifacts": refs})])
    told = [line for line in command("lock", "check").out.splitlines() if line.startswith("tickets/baseline: data")]
    assert len(told) == 2
    assert all("some rows have changed, and which ones cannot be told (" in line for line in told)
    assert all("has other rows of the train split than the lock pins" in line for line in told)


def test_a_lost_file_is_named(project: Project, command: Command) -> None:
    project.artifact("training").unlink()
    done = command("lock", "check", "tickets")
    assert done.status == ExitStatus.NOT_EVALUATED
    assert "models.lock.d has no file for sha256:" in done.out


def test_a_model_that_is_gone_or_going_is_named(project: Project, command: Command) -> None:
    with Sandbox() as server:
        project.write("pyproject.toml", f"[tool.pytest-finetune.endpoints.ours]\nbase_url = '{server.base_url}'\n")
        project.edit("finetune_tasks.py", 'endpoint="sandbox"', 'endpoint="ours"')
        text = project.lock.read_text().replace('endpoint = "sandbox"', f'endpoint = "ours {server.base_url}"')
        project.lock.write_text(text)
        today = date.today()  # noqa: DTZ011  # to the day is enough
        server.set_shutdown("sandbox-large", (today + timedelta(days=30)).isoformat())
        done = command("lock", "check", "--live")
        assert done.status == ExitStatus.NOT_EVALUATED
        gone, warned = sorted(done.out.splitlines())
        assert gone.startswith("tickets/finetuned: endpoint 'ours' has no model 'ft:sandbox-small")
        assert warned.startswith("warning: tickets/teacher: 'sandbox-large' is shut down in ")
        assert command("lock", "check", "--live", "--notice", "7").out.splitlines() == [gone]
        with (project.path / "pyproject.toml").open("a") as file:
            file.write("[tool.pytest-finetune]\nshutdown_notice = 7\n")
        assert command("lock", "check", "--live").out.splitlines() == [gone]
        assert sorted(command("lock", "check", "--live", "--notice", "60").out.splitlines()) == [gone, warned]


def test_what_nothing_refers_to_is_pruned(project: Project, command: Command) -> None:
    before = sorted((project.path / "models.lock.d").iterdir())
    artifacts = Artifacts.beside(project.lock)
    spare = artifacts.path(artifacts.put_bytes("training", b"of an earlier model"))
    entry = read_lock(project.lock).entry("tickets", "baseline")
    kept = entry.artifacts.model_copy(update={"program": artifacts.put_json("program", {"of": "a candidate"})})
    write_lock(project.candidate, Lock(model=(entry.model_copy(update={"artifacts": kept}),)))
    done = command("lock", "prune")
    assert done.out.splitlines() == [f"deleted {spare.name}", "1 files deleted."]
    assert {*(project.path / "models.lock.d").iterdir()} - {*before} == {artifacts.path(kept.program)}


def test_diff_tells_what_changed_since_a_commit(project: Project, command: Command, git: Git) -> None:
    assert command("lock", "diff").out == "models.lock pins what it pinned at HEAD.\n"
    was = read_lock(project.lock).entry("tickets", "finetuned").model
    retrain(project, "a", 1)
    judged = "tickets/prompt_optimized: pins the same, and was judged anew\n"
    told = f"tickets/finetuned: model {was} -> ft:small:a\n{judged}"
    assert command("lock", "diff").out == told
    assert git("commit", "-am", "retrained") == 0
    assert command("lock", "diff").out == "models.lock pins what it pinned at HEAD.\n"
    assert command("lock", "diff", "HEAD~1").out == told
    assert "git has no models.lock at 'nowhere'" in command("lock", "diff", "nowhere").err


def test_diff_tells_which_rows_changed_and_what_answered(project: Project, command: Command, git: Git) -> None:  # noqa: ARG001  # all is committed
    artifacts, entry = Artifacts.beside(project.lock), read_lock(project.lock).entry("tickets", "baseline")
    assert entry.artifacts.data is not None
    rows = get_data(artifacts, entry.artifacts.data, entry.data)
    spared = next(row for row in rows if row.split == "test")
    left = [row for row in rows if row is not spared]
    fingerprint = data_fingerprint(row.row_id for row in left if row.split == "test")
    changes = {
        "data": entry.data.model_copy(update={"test": fingerprint, "test_rows": entry.data.test_rows - 1}),
        "artifacts": entry.artifacts.model_copy(update={"data": put_data(artifacts, left)}),
        "served_models": ("small-2026-05-01",),
    }
    update_lock(project.lock, [entry.model_copy(update=changes)])
    said = "tickets/baseline: answered by its own name -> small-2026-05-01\n"
    assert command("lock", "diff").out == f"{said}  data.test: 1 row removed\n"
    artifacts.path(entry.artifacts.data).unlink()
    was, is_now = entry.data.test[:12], fingerprint[:12]
    assert command("lock", "diff").out == f"{said}  data.test: {was}… -> {is_now}…\n"


@pytest.mark.parametrize("driver", [False, True])
def test_two_branches_that_retrain_one_task_are_resolved(
    project: Project, command: Command, git: Git, driver: bool
) -> None:
    assert command("lock", "fix").out == "models.lock is in no conflict.\n"
    if driver:
        run = f"{sys.executable} -m pytest_finetune lock fix --driver %O %A %B"
        assert git("config", "merge.models-lock.driver", run) == 0
        project.write(".gitattributes", "models.lock merge=models-lock\n")
        assert git("add", ".gitattributes") == git("commit", "-m", "driver") == 0
    assert git("checkout", "-b", "theirs") == 0
    retrain(project, "later", 9)
    assert git("commit", "-am", "theirs") == git("checkout", "main") == 0
    retrain(project, "sooner", 3)
    assert git("commit", "-am", "ours") == 0
    assert (git("merge", "theirs") == 0) is driver
    if not driver:
        assert "resolve them with `pytest-finetune lock fix" in command("lock", "show").err
        assert git("add", "models.lock") == 0
        assert "bring them back with `git checkout -m -- models.lock`" in command("lock", "fix").err
        assert git("checkout", "-m", "--", "models.lock") == 0
        done = command("lock", "fix")
        decided, *then = done.out.splitlines()
        assert decided.startswith("tickets: both sides changed it. ft:small:later stands, which was trained later;")
        assert decided.endswith(" ft:small:sooner is in its history")
        assert then == [
            "models.lock is resolved.",
            "Gate it, then git add models.lock: pytest --finetune-models=models.lock",
        ]
    else:
        kept = subprocess.run(["git", "status", "--porcelain"], cwd=project.path, capture_output=True, check=True)
        assert kept.stdout == b""
        assert not list(project.path.glob(".merge_file*"))
    entry = read_lock(project.lock).entry("tickets", "finetuned")
    assert entry.model == "ft:small:later"
    assert entry.previous[0].model == "ft:small:sooner"
    assert entry.previous[1].model.startswith("ft:sandbox-small:")


def test_branches_that_retrain_and_promote_different_tasks_merge_by_themselves(
    project: Project, command: Command, git: Git
) -> None:
    pinned = read_lock(project.lock).of_task("tickets")
    update_lock(project.lock, [entry.model_copy(update={"task": "letters"}) for entry in pinned])
    assert git("commit", "-am", "letters") == git("checkout", "-b", "theirs") == 0
    retrain(project, "theirs", 9, "letters")
    assert git("commit", "-am", "theirs") == git("checkout", "main") == 0
    assert command("promote", "tickets").status == ExitStatus.HELD
    retrain(project, "ours", 3)
    assert git("commit", "-am", "ours") == git("merge", "theirs") == 0
    lock = read_lock(project.lock)
    assert [version.state for version in lock.entry("tickets", "finetuned").versions] == ["candidate", "production"]
    assert lock.entry("letters", "finetuned").model == "ft:small:theirs"


def test_a_task_that_one_branch_promoted_and_the_other_retrained_keeps_both(
    project: Project, command: Command, git: Git
) -> None:
    served = read_lock(project.lock).entry("tickets", "finetuned").model
    assert git("checkout", "-b", "theirs") == 0
    retrain(project, "newer", 9)
    assert git("commit", "-am", "theirs") == git("checkout", "main") == 0
    assert command("promote", "tickets").status == ExitStatus.HELD
    assert git("commit", "-am", "ours") == 0
    assert git("merge", "theirs") != 0
    done = command("lock", "fix")
    assert done.out.splitlines()[0] == (
        "tickets: both sides changed it. ft:small:newer stands, which was trained later;"
        f" {served} is in its history; in production: {served}"
    )
    entry = read_lock(project.lock).entry("tickets", "finetuned")
    assert [(version.model, version.state) for version in entry.versions] == [
        ("ft:small:newer", "candidate"),
        (served, "production"),
    ]
    assert [event.model for event in entry.history] == [served]
    assert command("promote", "tickets").status == ExitStatus.HELD

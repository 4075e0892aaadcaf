"""The command line in a project of two teams, each with its lock."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.cli.conftest import Command
from tests.conftest import Project

from pytest_finetune.cli import ExitStatus
from pytest_finetune.lock import Artifacts, read_lock, update_lock


@pytest.fixture
def project(teams: Project, command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:  # noqa: ARG001  # it goes elsewhere first
    monkeypatch.chdir(teams.path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    before = set(sys.modules)
    yield teams
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("teams", "finetune_tasks"):
            del sys.modules[name]


def lock_of(project: Project, team: str) -> Path:
    return project.path / "teams" / team / "models.lock"


def retrain(project: Project, team: str, letter: str, minute: int = 1) -> None:
    """As if a team's finetuned stage had been built anew."""
    entry = read_lock(lock_of(project, team)).entry(f"teams/{team}/tickets", "finetuned")
    assert entry.job is not None
    assert entry.job.finished_at is not None
    job = entry.job.model_copy(update={"finished_at": entry.job.finished_at + timedelta(minutes=minute)})
    update_lock(lock_of(project, team), [entry.model_copy(update={"model": f"ft:small:{letter}", "job": job})])


def git(project: Project, *arguments: str) -> int:
    settings = ("-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *settings, *arguments], cwd=project.path, capture_output=True, check=False
    ).returncode


def commit(project: Project) -> None:
    assert git(project, "add", ".") == git(project, "commit", "-m", "a step") == 0


def test_a_command_that_is_told_is_typed_where_one_is(
    project: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert git(project, "init", "-b", "main") == 0
    commit(project)
    said = command("promote", "teams/b/tickets").out
    assert "\nCommit it: git commit teams/b/models.lock -m 'production: ft:" in said
    lock_of(project, "a").write_text("x =")
    monkeypatch.chdir(project.path / "teams" / "a")
    told = command("lock", "check", "--root", "../..").err
    assert "take the last good one with `git checkout -- models.lock`" in told
    subprocess.run("git checkout -- models.lock", shell=True, check=True, capture_output=True)  # noqa: S602  # as a user does
    done = command("lock", "check", "--root", "../..")
    assert done.out == "teams/a/models.lock fits: 4 stages.\nteams/b/models.lock fits: 4 stages.\n"
    lock_of(project, "b").write_text("x =")
    whole = lock_of(project, "b").as_posix()
    assert f"`git checkout -- {whole}`" in command("lock", "check", "--root", "../..").err


def test_a_task_that_is_named_for_short_is_told_its_id(project: Project, command: Command) -> None:  # noqa: ARG001
    done = command("promote", "tickets")
    assert done.err.endswith(
        "(it has teams/a/tickets, teams/b/tickets): name one by its id: teams/a/tickets, teams/b/tickets\n"
    )


def test_show_tells_each_under_its_name(project: Project, command: Command) -> None:
    lines = command("lock", "show").out.splitlines()
    assert lines[:2] == ["teams/a/models.lock", "teams/a/tickets"]
    assert lines[lines.index("") :][:3] == ["", "teams/b/models.lock", "teams/b/tickets"]
    one = command("lock", "show", "--lock", "teams/b/models.lock").out.splitlines()
    assert one == lines[lines.index("teams/b/tickets") :]
    both = [f"--lock={lock_of(project, team)}" for team in "ba"]
    assert command("lock", "show", *both).out.splitlines()[:2] == ["teams/b/models.lock", "teams/b/tickets"]


def test_check_holds_every_task_against_its_lock(project: Project, command: Command) -> None:
    fits = "teams/a/models.lock fits: 4 stages.\nteams/b/models.lock fits: 4 stages.\n"
    assert command("lock", "check").out == fits
    (project.path / "teams" / "b" / "models.lock").unlink()
    done = command("lock", "check")
    assert done.status == ExitStatus.NOT_EVALUATED
    assert done.out == "teams/b/tickets: is not in the lock: pytest --ft-retrain --ft-task teams/b/tickets\n"
    assert "teams/a/models.lock does not fit: 1 to mend, as above" in done.err
    assert command("lock", "check", "--lock", "teams/a/models.lock").out == fits.splitlines(keepends=True)[0]


def test_plan_check_and_flips_take_a_task_by_its_id(project: Project, command: Command) -> None:  # noqa: ARG001
    assert "teams/b/tickets" in command("plan").out
    assert "teams/b/tickets" not in command("plan", "teams/a/tickets").out
    assert "name one by its id: teams/a/tickets, teams/b/tickets" in command("plan", "tickets").err
    assert command("check", "teams/a/tickets").out.startswith("teams/a/tickets")
    assert (
        "Flipped rows (baseline -> finetuned): " in command("flips", "teams/b/tickets", "finetuned >= baseline").out
    )


def test_what_nothing_refers_to_is_pruned_beside_each(project: Project, command: Command) -> None:
    spare = []
    for team in "ab":
        artifacts = Artifacts.beside(lock_of(project, team))
        spare.append(artifacts.path(artifacts.put_bytes("training", f"of {team}".encode())))
    assert command("lock", "prune").out.splitlines() == [
        *("teams/a/models.lock", f"deleted {spare[0].name}", "1 files deleted."),
        *("", "teams/b/models.lock", f"deleted {spare[1].name}", "1 files deleted."),
    ]


def test_two_teams_that_retrain_on_two_branches_never_conflict(project: Project, command: Command) -> None:
    assert git(project, "init", "-b", "main") == 0
    commit(project)
    for team in "ab":
        assert git(project, "checkout", "-b", f"team-{team}", "main") == 0
        retrain(project, team, team)
        commit(project)
    assert git(project, "checkout", "main") == git(project, "merge", "team-a") == git(project, "merge", "team-b") == 0
    for team in "ab":
        assert (
            read_lock(lock_of(project, team)).entry(f"teams/{team}/tickets", "finetuned").model == f"ft:small:{team}"
        )
    changed = [line for line in command("lock", "diff", "team-a").out.splitlines() if line]
    assert changed[:3] == [
        "teams/a/models.lock",
        "teams/a/models.lock pins what it pinned at team-a.",
        "teams/b/models.lock",
    ]
    assert changed[3].startswith("teams/b/tickets/finetuned: model ft:sandbox-small:")


def test_a_lock_that_a_commit_does_not_have_yet_is_all_new(project: Project, command: Command) -> None:
    theirs = project.path / "teams" / "b" / "models.lock"
    text = theirs.read_text()
    theirs.unlink()
    assert git(project, "init", "-b", "main") == 0
    commit(project)
    theirs.write_text(text)
    lines = command("lock", "diff").out.splitlines()
    assert lines[:4] == [
        "teams/a/models.lock",
        "teams/a/models.lock pins what it pinned at HEAD.",
        "",
        "teams/b/models.lock",
    ]
    assert lines[4].startswith("teams/b/tickets/baseline: new, sandbox-small, score ")
    assert "git has no models.lock at 'nowhere'" in command("lock", "diff", "nowhere").err


def test_one_team_on_two_branches_is_mended_by_lock_fix(project: Project, command: Command) -> None:
    assert git(project, "init", "-b", "main") == 0
    commit(project)
    for minute, branch in enumerate(("sooner", "later")):
        assert git(project, "checkout", "-b", branch, "main") == 0
        retrain(project, "b", branch, minute)
        commit(project)
    assert git(project, "merge", "sooner") == 1
    lines = command("lock", "fix").out.splitlines()
    assert lines[0] == "teams/a/models.lock is in no conflict."
    assert lines[1].startswith("teams/b/tickets: both sides changed it. ft:small:later stands")
    assert lines[2:] == [
        "teams/b/models.lock is resolved.",
        "Gate it, then git add teams/b/models.lock: pytest --finetune-models=teams/b/models.lock",
    ]
    assert read_lock(lock_of(project, "b")).entry("teams/b/tickets", "finetuned").model == "ft:small:later"

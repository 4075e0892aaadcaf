"""``promote``, ``rollback`` and ``retire``, in a project that is built; and what the lock's verbs tell of them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import get_args

import pytest
from syrupy.assertion import SnapshotAssertion
from tests.cli.conftest import Command, Done
from tests.conftest import Project
from tests.unit.lock.lives import lived, version

from pytest_finetune.cli import ExitStatus
from pytest_finetune.core.claims import parse
from pytest_finetune.core.evidence import pair_rows
from pytest_finetune.core.gate import judge, settle
from pytest_finetune.core.records import Outcome, Policy, Scope
from pytest_finetune.core.results import Result
from pytest_finetune.lock import Artifacts, Lock, SettledClaim, State, read_lock, write_lock


@pytest.fixture
def project(built: Project, command: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:  # noqa: ARG001  # it goes elsewhere first
    monkeypatch.chdir(built.path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for words in (["init"], ["add", "."], ["commit", "-m", "base"]):
        settings = ("-c", "user.name=Ada", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *settings, *words], cwd=built.path, capture_output=True, check=True)
    subprocess.run(["git", "config", "user.name", "Ada"], cwd=built.path, check=True)
    yield built
    sys.modules.pop("finetune_tasks", None)


def told(done: Done) -> str:
    """What was printed, without what differs from run to run."""
    text = re.sub(r"ft:sandbox-small[\w:-]+", "<first model>", f"[{done.status}] {done.out}{done.err}")
    text = re.sub(r"\d{2} \w{3} \d{4}( \d{2}:\d{2})?", "<day>", text)
    text = re.sub(r"\b0\.\d{3}\b", "#", text)  # by the libraries that a model learns by
    return re.sub(r"at [0-9a-f]{7}\b", "at <commit>", text)


def test_a_model_is_promoted_gone_back_from_and_retired(
    project: Project, command: Command, snapshot: SnapshotAssertion
) -> None:
    said = [command("promote", "tickets")]
    first = project.accept_another("ft:newer")
    said += [
        command("promote", "tickets", "--reason", "cheaper"),
        command("lock", "diff"),
        command("rollback", "tickets", "--reason", "too slow"),
        command("retire", "tickets", "ft:newer"),
        command("lock", "show"),
        command("rollback", "tickets", "ft:newer"),
        command("rollback", "tickets", "ft:other"),
        command("retire", "tickets", first),
        command("promote", "tickets"),
        command("promote", "tickets", "--stage", "teacher"),
    ]
    assert "\n".join(map(told, said)) == snapshot


def test_the_page_about_the_lock_shows_the_life_of_a_model(project: Project, command: Command) -> None:
    page = (Path(__file__).parents[2] / "docs" / "lock.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"<!-- life -->\n```console\n(.*?)```\n<!-- end -->", page, re.DOTALL)
    command("promote", "tickets")
    project.accept_another("ft:sandbox-small:sandbox:tickets:Xq2V7cTe")
    parts = re.split(r"^\$ pytest-finetune (.*)\n", shown, flags=re.MULTILINE)[1:]
    first = read_lock(project.lock).entry("tickets", "finetuned").previous[0].model
    for words, out in zip(parts[::2], parts[1::2], strict=True):
        said = command(*shlex.split(words)).out
        assert said.replace(first, "ft:sandbox-small:sandbox:tickets:KtuN4DzV") == out
    (states,) = re.findall(r"\| state \|.*?\n\n", page, re.DOTALL)
    assert tuple(re.findall(r"^\| `(\w+)` \|", states, re.MULTILINE)) == get_args(State)


def settled_by_what_was_observed(project: Project) -> SettledClaim:
    """That the fine-tuned stage scores what it scored."""
    entry = read_lock(project.lock).entry("tickets", "finetuned")
    rows = Artifacts.beside(project.lock).get_rows(entry.artifacts.rows or "", "finetuned")
    (claim,) = parse(f"finetuned >= {project.mean('finetuned')!r}")
    verdict = judge(claim, pair_rows(claim, rows, row_ids=[row.row_id for row in rows]), Policy())
    assert verdict.outcome is Outcome.INCONCLUSIVE
    settlement = settle(verdict, Policy())
    result = Result("tickets", str(claim), claim.measure, verdict, settlement, Policy(), Scope(), len(rows), ())
    return SettledClaim.of(result, [entry.artifacts.rows or ""], [entry.key], 1)


def test_what_was_only_observed_is_promoted_if_that_is_said(project: Project, command: Command) -> None:
    claim = settled_by_what_was_observed(project)
    gates = {"finetuned": (claim,)}
    entries = [
        entry.model_copy(update={"gate": gates.get(entry.stage, ())}) for entry in read_lock(project.lock).models
    ]
    write_lock(project.lock, Lock(model=tuple(entries)))
    done = command("promote", "tickets")
    assert (done.status, done.out) == (ExitStatus.NOT_EVALUATED, "")
    assert "promote what was only observed with --observed" in done.err
    assert command("promote", "tickets", "--observed").status == ExitStatus.HELD
    assert read_lock(project.lock).entry("tickets", "finetuned").state == "production"


def test_another_lock_is_named(project: Project, command: Command) -> None:
    (project.path / "other").mkdir()
    project.lock.rename(project.path / "other" / "my.lock")
    (project.path / "models.lock.d").rename(project.path / "other" / "my.lock.d")
    done = command("promote", "tickets", "--lock", "other/my.lock")
    assert "\nCommit it: git add other/my.lock other/my.lock.d && git commit other/my.lock other" in done.out
    (event,) = read_lock(project.path / "other" / "my.lock").entry("tickets", "finetuned").history
    assert (event.by, event.at.date()) == ("Ada", datetime.now(timezone.utc).date())


@pytest.mark.parametrize("name", ["models.lock", "my models.lock"])
def test_a_lock_is_committed_as_it_is_told(project: Project, command: Command, name: str) -> None:
    for suffix in ("", ".d"):
        (project.path / f"models.lock{suffix}").rename(project.path / f"{name}{suffix}")
    for step in (["promote", "tickets"], ["promote", "tickets", "--stage", "baseline", "--observed"]):
        said = command(*step, "--lock", name).out
        (told,) = re.findall(r"^Commit it: (git .*)$", said, re.MULTILINE)
        subprocess.run(["git", "config", "user.email", "a@b.example"], cwd=project.path, check=True)
        subprocess.run(told, shell=True, cwd=project.path, capture_output=True, check=True)  # noqa: S602  # as a user does
        status = ["git", "status", "--porcelain", "--", name, f"{name}.d"]
        assert subprocess.run(status, cwd=project.path, capture_output=True, check=True).stdout == b""


def test_a_reason_that_is_not_unicode_is_refused_before_anything_is_written(
    project: Project, command: Command
) -> None:
    before = project.lock.read_bytes()
    done = command("promote", "tickets", "--reason", "sch\udcf6n")
    assert (done.status, done.out) == (ExitStatus.USAGE, "")
    assert done.err == (
        "Error: the text holds '\\udcf6', half a character, in 'tickets --reason sch\\udcf6n': write it as UTF-8\n"
    )
    assert project.lock.read_bytes() == before
    assert not list(project.path.glob(".*.new"))


@pytest.mark.parametrize("words", [["promote"], ["rollback"], ["retire", "tickets"]])
def test_a_step_without_its_task_or_model_is_bad_usage(command: Command, words: list[str]) -> None:
    assert command(*words).status == ExitStatus.USAGE


def test_versions_of_one_model_are_shown_with_their_keys(command: Command) -> None:
    hotter = version("a", "1").model_copy(update={"decoding": {"temperature": 0.7}})
    entry = hotter.replacing(version("a", "1"))
    write_lock(Path("models.lock"), Lock(model=(entry,)))
    key = entry.previous[0].key[:12]
    assert f"before: ft:1 ({key}), trained 21 Nov 2026, candidate" in command("lock", "show").out


def test_the_lock_tells_the_state_of_every_stage(command: Command, snapshot: SnapshotAssertion) -> None:
    life = [("retrain", "a", "1"), ("promote", "a", ""), ("retrain", "b", "2"), ("retrain", "a", "2")]
    write_lock(Path("models.lock"), lived(Lock(), life))
    assert command("lock", "show").out == snapshot

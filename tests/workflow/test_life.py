"""Promoting, going back and retiring, in the lock of a project that is built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from filelock import FileLock
from tests.conftest import Project

from pytest_finetune.errors import DriftError, EvidenceError, FinetuneError, LockError, UsageError
from pytest_finetune.lock import Artifacts, Entry, edit_lock, read_lock
from pytest_finetune.workflow import life
from pytest_finetune.workflow.settings import Settings, read_settings

LADDER = ["finetuned >= 0.5", "finetuned >= prompt_optimized"]
RESTS = (
    "It rests on the claims that it was accepted on: finetuned >= 0.5 (PASS, n=320); finetuned >= prompt_optimized"
    " (PASS, n=320)."
)


@pytest.fixture
def project(built: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    yield built
    sys.modules.pop("finetune_tasks", None)


def settings(project: Project, **options: Any) -> Settings:
    return read_settings(project.path, options=options, environment={})


def pinned(project: Project) -> Entry:
    return read_lock(project.lock).entry("tickets", "finetuned")


def change(project: Project, **changes: Any) -> None:
    """Change the pinned version as somebody may by hand."""
    edit_lock(project.lock, lambda lock: lock.with_stage(pinned(project).model_copy(update=changes)))


def test_what_passed_the_gate_is_promoted_with_who_and_when_and_where(project: Project) -> None:
    model, began = pinned(project).model, datetime.now(timezone.utc).replace(microsecond=0)
    assert [claim.claim for claim in pinned(project).gate] == LADDER
    for words in (["init"], ["config", "user.name", "Grace Hopper"], ["config", "user.email", "g@h.example"]):
        subprocess.run(["git", *words], cwd=project.path, check=True, capture_output=True)
    subprocess.run(["git", "commit", "--allow-empty", "-m", "a"], cwd=project.path, check=True, capture_output=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project.path, check=True, capture_output=True, text=True)
    done = life.promote(settings(project), "tickets", reason="cheaper: https://ann:pw@ci.example/7")
    entry = pinned(project)
    assert (entry, entry.state, done.lock) == (done.after, "production", project.lock)
    assert done.remarks == (RESTS,)
    (event,) = entry.history
    assert (event.what, event.model, event.by, event.reason) == (
        "production",
        model,
        "Grace Hopper",
        "cheaper: https://…ci.example/7",
    )
    assert event.commit == head.stdout.strip()
    assert began <= event.at <= datetime.now(timezone.utc)
    others = [one for one in read_lock(project.lock).models if one.stage != "finetuned"]
    assert {one.state for one in others} == {"candidate"}


def test_without_git_the_login_is_named_and_no_commit(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.path.parent))
    life.promote(settings(project), "tickets", "prompt_optimized")
    (event,) = read_lock(project.lock).entry("tickets", "prompt_optimized").history
    assert (event.by, event.commit) == ("grace", None)


def test_a_verdict_that_does_not_carry_is_refused(project: Project) -> None:
    claims = tuple(claim.model_copy(update={"estimate": 0.2}) for claim in pinned(project).gate)
    change(project, gate=claims)
    with pytest.raises(
        LockError, match=r"the claim 'finetuned >= 0.5' is PASS with \+0.200000 on 320 rows, says the lock"
    ):
        life.promote(settings(project), "tickets")
    change(project, gate=tuple(claim.model_copy(update={"rows": ()}) for claim in claims))
    with pytest.raises(
        EvidenceError, match=r"'finetuned >= 0.5' was judged before all was noted that it rests on: gate it again"
    ):
        life.promote(settings(project), "tickets")
    assert pinned(project).state == "candidate"


def test_rows_that_were_changed_are_refused(project: Project) -> None:
    path = Artifacts.beside(project.lock).path(pinned(project).artifacts.rows or "")
    path.write_bytes(path.read_bytes().replace(b'"score":0', b'"score":1'))
    with pytest.raises(LockError, match="its SHA-256 is not the one in the lock"):
        life.promote(settings(project), "tickets")


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("finetune_tasks.py", 'exact_match("department")', 'contains("department")', "fingerprints.metric"),
        ("tickets.jsonl", '"split": "test"', '"more": 1, "split": "test"', "data.test"),
    ],
)
def test_a_change_that_makes_scores_say_nothing_is_refused(
    project: Project, name: str, old: str, new: str, said: str
) -> None:
    project.edit(name, old, new)
    with pytest.raises(DriftError, match=said):
        life.promote(settings(project), "tickets")


def test_what_a_stage_was_built_from_may_have_changed(project: Project) -> None:
    project.edit("tickets.jsonl", '"split": "train"', '"more": 1, "split": "train"')
    remarks = life.promote(settings(project, locked=True), "tickets").remarks
    assert remarks[0] == RESTS


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("finetune_tasks.py", "import dspy\n", "import dspy, not_installed\n", "not_installed"),
        ("finetune_tasks.py", "tickets = task(", "letters = task(", "there is no task 'tickets'"),
    ],
)
def test_what_hides_a_change_is_refused(project: Project, name: str, old: str, new: str, said: str) -> None:
    project.edit("finetune_tasks.py", 'exact_match("department")', 'contains("department")')
    project.edit(name, old, new)
    with pytest.raises(UsageError, match=said):
        life.promote(settings(project), "tickets")


def test_without_a_tasks_file_nobody_knows_what_has_changed(project: Project) -> None:
    (project.path / "finetune_tasks.py").unlink()
    with pytest.raises(UsageError, match="there is no tasks file"):
        life.promote(settings(project), "tickets")
    assert pinned(project).state == "candidate"


def test_the_broken_tasks_file_of_another_team_hides_nothing(project: Project) -> None:
    project.write("b/tasks_of_b.py", "import not_installed\n")
    project.write("pyproject.toml", "[tool.pytest-finetune]\ntasks = ['finetune_tasks.py', 'b/tasks_of_b.py']\n")
    project.edit("finetune_tasks.py", 'exact_match("department")', 'contains("department")')
    with pytest.raises(UsageError, match="not_installed"):
        life.promote(settings(project), "tickets")


def test_the_verdicts_of_one_model_do_not_carry_another(project: Project) -> None:
    change(project, model="ft:sandbox-small:other-team:spam:AAAAAAAA")
    with pytest.raises(LockError, match="was judged on other versions than the pinned ones: gate it again"):
        life.promote(settings(project), "tickets")


@pytest.mark.parametrize("claim", LADDER)
def test_a_claim_that_was_taken_out_is_missed(project: Project, claim: str) -> None:
    change(project, gate=tuple(one for one in pinned(project).gate if one.claim != claim))
    with pytest.raises(LockError, match="does not have all claims that tickets was accepted on: take back the"):
        life.promote(settings(project), "tickets")


def test_a_rollback_takes_files_that_are_as_they_were(project: Project) -> None:
    model = pinned(project).model
    life.promote(settings(project), "tickets")
    project.accept_another("ft:newer")
    life.promote(settings(project), "tickets")
    training = project.artifact("training")
    kept = training.read_bytes()
    training.write_bytes(kept + b"\n")
    with pytest.raises(LockError, match="its SHA-256 is not the one in the lock"):
        life.rollback(settings(project), "tickets")
    training.unlink()
    with pytest.raises(LockError, match="has no file for sha256:"):
        life.rollback(settings(project), "tickets")
    training.write_bytes(kept)
    done = life.rollback(settings(project), "tickets", reason="slow")
    assert [(one.model, one.state) for one in pinned(project).versions] == [
        (model, "production"),
        ("ft:newer", "rolled_back"),
    ]
    assert ([event.reason for event in pinned(project).history[:2]], done.remarks) == (["slow", "slow"], ())


def test_going_back_to_what_never_served_says_so(project: Project) -> None:
    model = pinned(project).model
    project.accept_another("ft:newer")
    done = life.rollback(settings(project), "tickets", model)
    assert (done.after.state, done.remarks) == ("production", ("It was never in production before.",))


def test_a_version_is_retired(project: Project) -> None:
    model = pinned(project).model
    project.accept_another("ft:newer")
    life.promote(settings(project), "tickets")
    life.retire(settings(project), "tickets", model)
    assert [version.state for version in pinned(project).versions] == ["production", "retired"]
    with pytest.raises(LockError, match="must not serve again"):
        life.rollback(settings(project), "tickets", model)


def test_what_another_process_changes_meanwhile_is_not_lost(project: Project) -> None:
    """It writes while the version is looked at."""
    errors = list[FinetuneError]()

    def promote() -> None:
        try:
            life.promote(settings(project), "tickets")
        except FinetuneError as error:
            errors.append(error)

    with FileLock(Artifacts.beside(project.lock).guard()):
        thread = threading.Thread(target=promote)
        thread.start()
        thread.join(timeout=3)  # it has looked, and waits
        assert thread.is_alive()
        text = project.lock.read_text().replace(pinned(project).model, "ft:newer")
        project.lock.write_text(text)
    thread.join()
    assert [str(error) for error in errors] == [
        "tickets/finetuned: another process has changed models.lock meanwhile: try again"
    ]
    assert project.lock.read_text() == text


def test_a_lock_that_must_be_signed_has_to_be_signed_again(project: Project) -> None:
    key = project.path / "key"
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    project.write("signers", f'ada namespaces="*" {key.with_suffix(".pub").read_text()}')
    from pytest_finetune.lock.signatures import sign

    sign(project.lock, key)
    done = life.promote(settings(project, verify="signers"), "tickets")
    assert [remark for remark in done.remarks if "sign" in remark] != []

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

from pytest_finetune.errors import DriftError, EvidenceError, FinetuneError, LockError
from pytest_finetune.lock import Artifacts, Entry, edit_lock, read_lock
from pytest_finetune.workflow import life
from pytest_finetune.workflow.settings import Settings, read_settings

LADDER = ["finetuned >= 0.5", "finetuned >= prompt_optimized"]


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


def retrain(project: Project, model: str) -> None:
    """Accept another model that answers alike."""
    edit_lock(project.lock, lambda lock: lock.with_entries([pinned(project).model_copy(update={"model": model})]))


def test_what_passed_the_gate_is_promoted_with_who_and_when_and_where(project: Project) -> None:
    model, began = pinned(project).model, datetime.now(timezone.utc).replace(microsecond=0)
    assert [claim.claim for claim in pinned(project).gate] == LADDER
    for words in (["init"], ["config", "user.name", "Grace Hopper"], ["config", "user.email", "g@h.example"]):
        subprocess.run(["git", *words], cwd=project.path, check=True, capture_output=True)
    subprocess.run(["git", "commit", "--allow-empty", "-m", "a"], cwd=project.path, check=True, capture_output=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project.path, check=True, capture_output=True, text=True)
    done = life.promote(settings(project), "tickets", reason="cheaper: https://ann:pw@ci.example/7")
    entry = pinned(project)
    assert (entry, entry.state, done.lock, done.remarks) == (done.after, "production", project.lock, ())
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
        EvidenceError, match=r"'finetuned >= 0.5' was judged before rows were noted: gate it again with"
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
    assert life.promote(settings(project), "tickets").remarks == ()


def test_without_a_tasks_file_the_lock_is_all_there_is(project: Project) -> None:
    (project.path / "finetune_tasks.py").unlink()
    done = life.promote(settings(project), "tickets")
    (remark,) = done.remarks
    assert remark.startswith("The tasks file was not looked at, so that nobody knows whether it has changed: ")


def test_a_rollback_takes_files_that_are_as_they_were(project: Project) -> None:
    model = pinned(project).model
    life.promote(settings(project), "tickets")
    retrain(project, "ft:newer")
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
    retrain(project, "ft:newer")
    done = life.rollback(settings(project), "tickets", model)
    assert (done.after.state, done.remarks) == ("production", ("It was never in production before.",))


def test_a_version_is_retired(project: Project) -> None:
    model = pinned(project).model
    retrain(project, "ft:newer")
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

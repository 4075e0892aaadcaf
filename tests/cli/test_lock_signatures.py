"""``ft_verify``: a lock is used only if one of the allowed signers has signed it as it is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Command
from tests.conftest import Project

from pytest_finetune import load
from pytest_finetune.cli import ExitStatus
from pytest_finetune.errors import LockError
from pytest_finetune.lock import read_lock, write_lock

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen, of OpenSSH")


@pytest.fixture
def signed(built: Project, command: Command, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose lock Ann has signed, and which asks for that."""
    monkeypatch.chdir(built.path)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "ann"], check=True)
    built.write("allowed_signers", f"ann@acme.example {(built.path / 'ann.pub').read_text()}")
    built.write("pyproject.toml", '[tool.pytest-finetune]\nverify = "allowed_signers"\n')
    assert command("lock", "sign", "--key", "ann").out == "Signed. Commit both: git add models.lock models.lock.sig\n"
    return built


def edit(project: Project) -> None:
    """Say of a model that it scored better than it did, in the lock alone."""
    lock = read_lock(project.lock)
    write_lock(project.lock, lock.model_copy(update={"models": lock.models[:-1]}))


def test_a_signed_lock_is_gated_and_an_edited_one_is_not(signed: Project) -> None:
    assert signed.gate().ret == pytest.ExitCode.OK
    edit(signed)
    refused = signed.gate()
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(
        ["ERROR: *models.lock is not what ann@acme.example has signed: it was changed since*"]
    )


def test_the_ini_asks_for_it_too_and_an_unsigned_lock_is_refused(built: Project) -> None:
    built.write("allowed_signers", "")
    built.write("pytest.ini", "[pytest]\nft_verify = allowed_signers\n")
    refused = built.gate()
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(
        ["ERROR: *models.lock is not signed: models.lock.sig cannot be read*lock sign --key*"]
    )


def test_a_retrain_does_not_build_on_a_lock_that_nobody_signed(signed: Project) -> None:
    edit(signed)
    for option in ("--ft-retrain", "--ft-accept"):
        refused = signed.run(option)
        assert refused.ret == pytest.ExitCode.USAGE_ERROR
        refused.stderr.fnmatch_lines(["ERROR: *models.lock is not what ann@acme.example has signed*"])


def test_what_a_retrain_locks_is_to_be_signed_anew(signed: Project) -> None:
    signed.edit("finetune_tasks.py", 'recipe="labels"', 'recipe="labels", seed=3')
    built = signed.run("--ft-retrain")
    built.stdout.fnmatch_lines(
        ["tickets: locked in *", "models.lock is no longer signed, and is refused until it is:*"]
    )
    assert (signed.path / "models.lock.sig").exists()
    assert signed.gate().ret == pytest.ExitCode.USAGE_ERROR


def test_the_command_names_who_signed(signed: Project, command: Command) -> None:
    done = command("lock", "verify")
    files = len(list((signed.path / "models.lock.d").glob("*-*")))
    assert (done.status, done.out) == (
        ExitStatus.HELD,
        f"models.lock is as ann@acme.example has signed it, and so are {files} files beside it.\n",
    )
    edit(signed)
    refused = command("lock", "verify", "--signers", "allowed_signers")
    assert (refused.status, refused.out) == (ExitStatus.NOT_EVALUATED, "")
    assert "is not what ann@acme.example has signed" in refused.err


def test_the_page_about_security_shows_what_is_said(signed: Project, command: Command) -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"<!-- signing -->\n```console\n(.*?)```\n<!-- end -->", page, re.DOTALL)
    (signed.path / "models.lock.sig").unlink()
    said = ""
    for line in re.findall(r"^\$ pytest-finetune (.*)$", shown, re.MULTILINE):
        said += f"$ pytest-finetune {line}\n{command(*line.split()).out}"
    assert re.sub(r"\d+ files", "8 files", said) == shown


def test_the_command_holds_every_file_against_the_lock(signed: Project, command: Command) -> None:
    signed.artifact("training").write_text("{}\n")
    done = command("lock", "verify")
    assert done.status == ExitStatus.NOT_EVALUATED
    assert "was changed: its SHA-256 is not the one in the lock" in done.err


def test_without_signers_nothing_can_be_verified(built: Project, command: Command) -> None:
    done = command("lock", "verify", "--root", str(built.path))
    assert done.status == ExitStatus.USAGE
    assert "name the allowed signers" in done.err


def test_production_refuses_an_edited_lock(
    signed: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(signed)
    promoted = command("promote", "tickets")
    assert promoted.status == ExitStatus.NOT_EVALUATED
    assert "is not what ann@acme.example has signed" in promoted.err
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(LockError, match=r"is not what ann@acme\.example has signed"):
        load("models.lock", "tickets")


def test_a_lock_that_must_be_signed_is_signed_first_and_then_committed(signed: Project, command: Command) -> None:
    subprocess.run(["git", "init"], cwd=signed.path, capture_output=True, check=True)
    said = command("promote", "tickets").out
    assert said.splitlines()[-1].startswith("models.lock is no longer signed, and is refused until it is: have it")
    assert "ommit" not in said
    told = command("lock", "sign", "--key", "ann").out
    subprocess.run(told.split(": ")[1], shell=True, check=True)  # noqa: S602  # as a user does
    kept = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True)
    assert kept.stdout.split() == ["models.lock", "models.lock.sig"]
    assert command("promote", "tickets", "--stage", "baseline", "--observed").status == 0


def test_an_empty_setting_is_no_way_around_it(signed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(signed)
    monkeypatch.setenv("PYTEST_FINETUNE_VERIFY", "")
    assert signed.gate().ret == pytest.ExitCode.USAGE_ERROR

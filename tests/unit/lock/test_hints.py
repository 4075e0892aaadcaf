"""Commands that messages name: they work as they are typed, and touch no other lock."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.lock.conftest import make_entry

from pytest_finetune.errors import LockError
from pytest_finetune.lock import Artifacts, Lock, read_lock, write_lock
from pytest_finetune.lock.git import commit_command, lock_at, merged_conflict
from pytest_finetune.lock.signatures import sign_again, signer

TEAM = Path("teams", "a b", "models.lock")


def shell(command: str) -> int:
    return subprocess.run(command, shell=True, capture_output=True, check=False).returncode  # noqa: S602  # as a user does


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in git, with a lock at its root, which was changed since, and one of a team."""
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "models.lock", tmp_path / TEAM):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_lock(path, Lock())
    settings = ("user.name Ada", "user.email a@b.example", "commit.gpgsign false")
    commands = ["git init -b main", *(f"git config {each}" for each in settings), "git add .", "git commit -m base"]
    assert [shell(command) for command in commands] == [0] * 6
    write_lock(tmp_path / "models.lock", Lock(model=(make_entry(),)))
    return tmp_path


def hint(action: Callable[[], object]) -> str:
    """The command of git that a refusal names."""
    with pytest.raises(LockError) as error:
        action()
    found = re.search(r"`(git [^`]*)`", str(error.value))
    assert found is not None
    return found[1]


@pytest.mark.parametrize("whole", [True, False])
def test_a_broken_lock_is_taken_back_and_no_other(root: Path, whole: bool) -> None:
    path = root / TEAM if whole else TEAM
    path.write_text("x =")
    assert hint(lambda: read_lock(path)) == "git checkout -- 'teams/a b/models.lock'"
    assert shell(hint(lambda: read_lock(path))) == 0
    assert (read_lock(path), read_lock(root / "models.lock")) == (Lock(), Lock(model=(make_entry(),)))


def test_files_that_are_missing_are_taken_back_and_no_others(root: Path) -> None:
    artifacts = Artifacts.beside(root / TEAM)
    ref = artifacts.put_bytes("rows", b"")
    assert shell("git add . && git commit -m rows") == 0
    write_lock(root / "models.lock", Lock())
    artifacts.path(ref).unlink()
    command = hint(lambda: artifacts.get_bytes(ref))
    assert command == "git checkout -- 'teams/a b/models.lock' 'teams/a b/models.lock.d'"
    assert shell(command) == 0
    assert (artifacts.get_bytes(ref), read_lock(root / "models.lock")) == (b"", Lock())


def test_a_conflict_is_mended_from_here(root: Path) -> None:
    path = root / TEAM
    path.write_text("<<<<<<< HEAD\n")
    with pytest.raises(LockError, match=r"lock fix --lock 'teams/a b/models\.lock'`.* --ours -- 'teams/a b/models"):
        read_lock(path)
    assert hint(lambda: merged_conflict(path)) == "git checkout -m -- 'teams/a b/models.lock'"


def test_a_commit_that_has_it_is_found_from_here(root: Path) -> None:
    with pytest.raises(LockError, match=r"as git log -- 'teams/a b/models\.lock' does"):
        lock_at(root / TEAM, "nowhere")


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen, of OpenSSH")
def test_a_lock_is_signed_from_here(root: Path) -> None:
    path = root / TEAM
    (root / "signers").touch()
    assert sign_again(path).startswith("'teams/a b/models.lock' is no longer signed, and is refused until it is")
    with pytest.raises(LockError, match=r"REVISION --lock 'teams/a b/m.*lock sign --key KEY --lock 'teams/a b/m"):
        signer(path, root / "signers")


@pytest.mark.parametrize("known", [True, False])
def test_it_is_committed_as_it_is_told(root: Path, known: bool) -> None:
    path = root / TEAM if known else root / "teams" / "new one" / "models.lock"
    path.parent.mkdir(exist_ok=True)
    write_lock(path, Lock(model=(make_entry(),)))
    assert shell(commit_command(path, "production: Ada's")) == 0
    assert lock_at(path, "HEAD") == Lock(model=(make_entry(),))
    kept = subprocess.run(["git", "show", "--format=%s", "--name-only"], capture_output=True, text=True, check=True)
    files = [] if known else ["models.lock.d/.gitattributes", "models.lock.d/.gitignore"]
    folder = path.parent.relative_to(root).as_posix()
    told = [f"{folder}/models.lock", *(f"{folder}/{file}" for file in files)]
    assert kept.stdout.splitlines() == ["production: Ada's", "", *told]
    assert lock_at(root / "models.lock", "HEAD") == Lock()  # what else was changed is not committed with it

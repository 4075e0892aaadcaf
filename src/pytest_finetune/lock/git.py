"""The lock as git keeps it: in an earlier commit, or as the sides of a merge that is not finished."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from pytest_finetune.core.shell import typed
from pytest_finetune.errors import LockError
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.file import conflict_in, lock_text, parse_lock
from pytest_finetune.lock.merge import Merged, merge_locks
from pytest_finetune.lock.model import Lock

_SIDES = (":1", ":2", ":3")  # base, ours and theirs in git's index, in a merge that is not finished


def lock_at(path: Path, revision: str) -> Lock:
    """The lock of a commit; one that the commit does not have yet pins nothing.

    Args:
        path: Of the file.
        revision: As git names it: ``HEAD~1``, a tag, a branch.

    Raises:
        LockError: If git has no such commit.
    """
    text = _kept(path, revision)
    if text is None and _told(path.resolve().parent, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"):
        return Lock()
    if text is None:
        raise LockError(
            f"git has no {path.name} at {revision!r}: name a commit that has it, as git log -- {typed(path)} does"
        )
    return parse_lock(text, path)


def merged_conflict(path: Path) -> Merged | None:
    """What a merge that is not finished comes to, by meaning; ``None`` where there is no conflict.

    The sides are those of git's index. In the file they cannot be told apart: what git could merge by itself has
    been, so that a model of one side may stand beside the job of the other.

    Raises:
        LockError: If a side cannot be read, or git has forgotten it.
    """
    base, ours, theirs = (_kept(path, stage) for stage in _SIDES)
    if ours is None or theirs is None:
        if conflict_in(lock_text(path)) is None:
            return None
        raise LockError(
            f"{path} has conflict markers, and git has forgotten the sides: bring them back with"
            f" `git checkout -m -- {typed(path)}`, and try again"
        )
    return merge_locks(
        parse_lock(ours, path), parse_lock(theirs, path), None if base is None else parse_lock(base, path)
    )


def _kept(path: Path, revision: str) -> str | None:
    """The file at a revision; None where git, or the file there, is missing."""
    command = ["git", "show", "--end-of-options", f"{revision}:./{path.name}"]
    try:
        done = subprocess.run(command, cwd=path.resolve().parent, capture_output=True, check=False)  # noqa: S603
    except OSError:
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def commit_command(path: Path, message: str) -> str:
    """What is typed here to commit a lock that was changed; with the files beside it, if git does not know it yet."""
    if _told(path.resolve().parent, "ls-files", "--", path.name):
        return f"git commit {typed(path)} -m {shlex.quote(message)}"
    both = f"{typed(path)} {typed(Artifacts.beside(path).folder)}"
    return f"git add {both} && git commit {both} -m {shlex.quote(message)}"


def head(folder: Path) -> str | None:
    """The commit that a folder is at; None where it is in no repository, or there is none yet."""
    return _told(folder, "rev-parse", "--verify", "--quiet", "HEAD")


def user_name(folder: Path) -> str | None:
    """Who works in a folder, as git knows them."""
    return _told(folder, "config", "user.name")


def _told(folder: Path, *words: str) -> str | None:
    """The line that git answers; None where it has none."""
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, check=False)  # noqa: S603, S607
    except OSError:
        return None
    return done.stdout.decode("utf-8", "replace").strip() or None if done.returncode == 0 else None

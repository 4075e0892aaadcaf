"""Paths in the commands that messages name."""

from __future__ import annotations

import shlex
from pathlib import Path


def from_here(path: Path) -> Path:
    """A path from the current directory if it is below it, else whole.

    A command that names less than that fails, or hits a file of the same name in another folder.
    """
    here, whole = Path.cwd(), path.absolute()
    return whole.relative_to(here) if whole.is_relative_to(here) else whole


def typed(path: Path) -> str:
    """A path as it is typed into a shell here."""
    return shlex.quote(from_here(path).as_posix())

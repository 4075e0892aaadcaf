from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from pytest_finetune.core.shell import from_here, typed


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "the project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_a_path_is_named_from_where_one_is(here: Path) -> None:
    assert from_here(here / "teams" / "a" / "models.lock") == Path("teams/a/models.lock")
    assert from_here(Path("models.lock")) == Path("models.lock")
    assert from_here(here.parent / "models.lock") == here.parent / "models.lock"
    assert from_here(here) == Path()


@pytest.mark.parametrize(
    ("name", "word"),
    [("models.lock", "models.lock"), ("my models.lock", "'my models.lock'"), ("$(rm -r .)", "'$(rm -r .)'")],
)
def test_it_is_one_word_for_a_shell(here: Path, name: str, word: str) -> None:
    assert typed(here / name) == word
    assert shlex.split(typed(here.parent / name)) == [(here.parent / name).as_posix()]

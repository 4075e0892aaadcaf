"""``pytest-finetune merge``: the line it prints, and where the rows go."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import STORE, Command, write

from pytest_finetune.cli import ExitStatus
from pytest_finetune.store import Store


def read(path: Path) -> list[str]:
    with Store.create(path, since=0.0) as store:
        return sorted(store.read({f"key {number}": ["any"] for number in range(4)}, "exact"))


def test_rows_go_into_the_project_s_store(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "1.sqlite", only=slice(0, 3))
    write(tmp_path / "2.sqlite", only=slice(2, 4))
    done = command("merge", "1.sqlite", "2.sqlite")
    assert (done.status, done.err) == (ExitStatus.HELD, "")
    assert done.out.replace(str(tmp_path), "<project>") == (
        "Rows merged: 3 of 1.sqlite, 2 of 2.sqlite. Rows in <project>/.pytest-finetune/rows.sqlite now: 4;"
        " answers that differed, of which the earlier was kept: 0.\n"
    )
    assert read(tmp_path / STORE) == ["key 0", "key 1", "key 2", "key 3"]


def test_or_into_another(stored: Command, tmp_path: Path) -> None:
    write(tmp_path / "1.sqlite", only=slice(0, 1))
    assert stored("merge", "1.sqlite", "--into", "all.sqlite").status == ExitStatus.HELD
    assert read(tmp_path / "all.sqlite") == ["key 0"]
    assert len(read(tmp_path / STORE)) == 4


def test_the_project_s_setting_says_what_is_kept(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "1.sqlite")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest-finetune]\nstore_text = 'hash'\n")
    command("merge", "1.sqlite")
    assert b"billing" not in (tmp_path / STORE).read_bytes()
    assert b"billing" in (tmp_path / "1.sqlite").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], ExitStatus.USAGE, "Missing argument 'STORE...'"),
        (["gone.sqlite"], ExitStatus.USAGE, "'gone.sqlite' does not exist"),
        (["1.sqlite", "text"], ExitStatus.NOT_EVALUATED, "Error: the row store text is damaged"),
    ],
)
def test_a_source_that_is_none_is_one_message(
    command: Command, tmp_path: Path, arguments: list[str], status: ExitStatus, words: str
) -> None:
    write(tmp_path / "1.sqlite")
    (tmp_path / "text").write_text("no rows " * 999)
    done = command("merge", *arguments)
    assert (done.status, words in done.err) == (status, True)
    assert not (tmp_path / STORE).exists()

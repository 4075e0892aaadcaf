from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.lock.conftest import make_entry

from pytest_finetune.errors import LockError, UsageError
from pytest_finetune.lock import Artifacts, Lock, write_lock
from pytest_finetune.lock.writing import write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"old")
    write_whole(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_what_fails_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "models.lock").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "models.lock", b"")
    with pytest.raises(LockError, match="cannot be written"):
        write_lock(tmp_path / "models.lock", Lock())
    assert names(tmp_path) == ["models.lock", "models.lock.d"]


def test_half_a_character_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "models.lock"
    write_lock(path, Lock(model=(make_entry(),)))
    before = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    job = make_entry().model_copy(update={"env": {"dspy": "3.1\udcf6"}})
    with pytest.raises(UsageError, match=r"half a character, in .*3\.1.udcf6.*: write it as UTF-8"):
        write_lock(path, Lock(model=(job,)))
    with pytest.raises(UsageError, match="half a character"):
        Artifacts.beside(path).put_json("program", {"instructions": "\ud83d"})
    assert {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()} == before


@pytest.mark.parametrize("name", ["task", "stage", "model", "base", "endpoint"])
def test_no_name_has_half_a_character(name: str) -> None:
    entry = make_entry()
    with pytest.raises(ValueError, match="unicode"):
        type(entry).model_validate(entry.model_dump() | {name: "sch\udcf6n"})

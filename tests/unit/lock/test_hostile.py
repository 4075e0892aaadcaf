"""Locks and artifacts as an attacker writes them: refused in words, and nothing outside of the folder is touched."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.lock.conftest import make_entry

from pytest_finetune.errors import LockError
from pytest_finetune.lock import Artifacts, Lock, read_lock, render, write_lock
from pytest_finetune.lock.file import parse_lock

GOOD = render(Lock(model=(make_entry(),)))
PATH = Path("models.lock")


def edited(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


LONG = "9" * 5000
QUOTED = " . ".join(['"="'] * 200_000)
HOSTILE = {
    "nested deeper than Python goes": edited("seed = 7", f"seed = {'[' * 100_000}"),
    "nested by its keys": edited("n_epochs = 3", f"{'.'.join('a' * 2000)} = 3"),
    "nested by a key that takes minutes to read": edited("n_epochs = 3", f"{'.'.join('a' * 200_000)} = 3"),
    "nested by a table that takes minutes to read": edited("[model.params]", f"[{QUOTED}]"),
    "an integer too long to be read": edited("seed = 7", f"seed = {LONG}"),
    "an integer too long to be written": edited("seed = 7", f"seed = 0x{'f' * 5000}"),
    "a parameter too long to be written": edited("n_epochs = 3", f"n_epochs = 0x{'f' * 5000}"),
    "NUL": edited("acme", "a\x00"),
    "NUL in a name": edited('model = "ft:small', 'model = "\\u0000ft:small'),
    "a name that steers the terminal": edited('model = "ft:small', 'model = "\\u001b[2Jft:small'),
    "a moment before all others": edited("created_at = ", "created_at = 0001-01-01T00:00:00+14:00 #"),
    "models that are none": 'version = 1\nmodel = [1, 2]\ntext = """\n[[model]]\n[[model]]\n"""\n',
    "a model that is none": "version = 1\nmodel = 1\n",
    "an artifact elsewhere": edited('program = "sha256:', 'program = "../../sha256:'),
    "an artifact of no hash": edited('program = "sha256:', 'program = "/etc/passwd#sha256:'),
    "not a version": GOOD.replace("version = 1", "version = true", 1),
    "a version too long": GOOD.replace("version = 1", f"version = 0x{'f' * 5000}", 1),
    "half a character": edited("tickets", "\\ud800"),
    "lines that end as none do": GOOD.replace("\n", "\r"),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_lock_of_an_attacker_is_one_message(text: str) -> None:
    with pytest.raises(LockError) as caught:
        parse_lock(text, PATH)
    assert len(str(caught.value)) < 3000


@given(st.binary(max_size=200), st.integers(0, len(GOOD)))
def test_whatever_is_written_over_it_a_lock_is_read_or_refused(noise: bytes, place: int) -> None:
    data = GOOD.encode()[:place] + noise + GOOD.encode()[place + len(noise) :]
    try:
        lock = parse_lock(data.decode("utf-8", "replace"), PATH)
    except LockError:
        return
    render(lock)


def test_a_lock_that_never_ends_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "models.lock").symlink_to("/dev/zero")
    with pytest.raises(LockError, match="more than 16 MB"):
        read_lock(tmp_path / "models.lock")


def test_a_lock_with_a_million_mistakes_is_a_short_message() -> None:
    with pytest.raises(LockError) as caught:
        parse_lock("version = 1\n" + "[[model]]\n" * 20_000, PATH)
    assert len(str(caught.value)) < 10_000


@pytest.mark.parametrize("depth", [100, 200, 300, 400, 600, 900, 2000])
def test_however_deep_a_lock_is_it_is_read_and_written_or_refused(depth: int) -> None:
    try:
        lock = parse_lock(edited("n_epochs = 3", f"n_epochs = {'[' * depth}{']' * depth}"), PATH)
    except LockError:
        return
    assert parse_lock(render(lock), PATH) == lock


# --- artifacts ---


def folder(tmp_path: Path) -> Artifacts:
    return Artifacts.beside(tmp_path / "models.lock")


@pytest.mark.parametrize(
    "content", ["[" * 200_000, f'{{"a": {LONG}}}', "\x00", '{"a": NaN', '"\\ud800', ""], ids=range(6)
)
def test_a_program_that_is_no_json_is_refused(tmp_path: Path, content: str) -> None:
    ref = folder(tmp_path).put_bytes("program", content.encode())
    with pytest.raises(LockError, match="is not JSON"):
        folder(tmp_path).get_json(ref)


@pytest.mark.parametrize(
    "line",
    [
        {"row_id": "a", "repeat": 0, "state": "scored", "score": 1e308},
        {"row_id": "a", "repeat": -1, "state": "scored", "score": 1.0},
        {"row_id": "a", "repeat": 0, "state": "scored", "score": "1.0"},
        {"row_id": "a", "repeat": 0, "state": "owned"},
        {"row_id": "a", "repeat": 0, "state": "scored", "usage": {"prompt_tokens": -5, "completion_tokens": 0}},
        [],
    ],
)
def test_a_row_that_is_none_is_refused(tmp_path: Path, line: Any) -> None:
    ref = folder(tmp_path).put_bytes("rows", json.dumps(line).encode())
    with pytest.raises(LockError, match=r"rows-.*\.jsonl:1: "):
        folder(tmp_path).get_rows(ref, "baseline")


@pytest.mark.parametrize("ref", ["../../etc/passwd", "sha256:../../x", "/etc/passwd", "sha256:" + "G" * 64, "\x00"])
def test_a_reference_leads_nowhere_else(tmp_path: Path, ref: str) -> None:
    with pytest.raises(LockError, match="is no reference to an artifact"):
        folder(tmp_path).get_bytes(ref)


def test_a_folder_that_is_a_link_is_neither_read_nor_written_to(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    ref = Artifacts(elsewhere).put_bytes("program", b"{}")
    before = sorted(elsewhere.iterdir())
    folder(tmp_path).folder.symlink_to(elsewhere, target_is_directory=True)
    for use in (
        lambda: folder(tmp_path).get_bytes(ref),
        lambda: folder(tmp_path).put_bytes("rows", b"[]"),
        lambda: write_lock(tmp_path / "models.lock", Lock()),
    ):
        with pytest.raises(LockError, match="is a symbolic link, which artifacts never are"):
            use()
    assert sorted(elsewhere.iterdir()) == before


def test_links_in_the_folder_are_not_written_through(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("mine")
    there = folder(tmp_path).folder
    there.mkdir()
    digest = hashlib.sha256(b"{}").hexdigest()[:16]
    temporary = f".program-{digest}.json.{os.getpid()}.new"
    for name in (f"program-{digest}.json", temporary, ".gitignore", ".gitattributes"):
        (there / name).symlink_to(own)
    (tmp_path / ".models.lock.new").symlink_to(own)
    folder(tmp_path).put_bytes("program", b"{}")
    write_lock(tmp_path / "models.lock", Lock())
    assert own.read_text() == "mine"


def test_the_guard_of_writers_is_no_link(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("mine")
    folder(tmp_path).folder.mkdir()
    (folder(tmp_path).folder / ".writing").symlink_to(own)
    with pytest.raises(LockError, match="is a symbolic link"):
        write_lock(tmp_path / "models.lock", Lock())
    assert own.read_text() == "mine"

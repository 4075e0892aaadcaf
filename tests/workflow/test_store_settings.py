"""The settings of the row store, as values and as what they do."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from pytest_finetune.core.records import Answered, Row, RowState
from pytest_finetune.errors import UsageError
from pytest_finetune.store import StoredText
from pytest_finetune.workflow.run import STORE, Run
from pytest_finetune.workflow.settings import read_settings

TABLE = "[tool.pytest-finetune]\n"


def test_they_are_read_with_their_units(tmp_path: Path) -> None:
    defaults = read_settings(tmp_path, environment={})
    assert (defaults.rows_max_age, defaults.store_limit, defaults.store_text) == (None, 10**9, StoredText.FULL)
    assert defaults.oldest_row == 0.0
    (tmp_path / "pyproject.toml").write_text(
        f"{TABLE}rows_max_age = '30d'\nstore_limit = '3GB'\nstore_text = 'hash'\n"
    )
    settings = read_settings(
        tmp_path, ini={"rows_max_age": "2d"}, environment={"PYTEST_FINETUNE_STORE_LIMIT": "200MB"}
    )
    assert (settings.rows_max_age, settings.store_limit, settings.store_text) == (172_800, 2 * 10**8, StoredText.HASH)
    assert settings.oldest_row == pytest.approx(time.time() - 172_800, abs=5)
    origins = {name: settings.origins[name] for name in ("rows_max_age", "store_limit", "store_text")}
    assert origins == {"rows_max_age": "ini", "store_limit": "environment", "store_text": "[tool.pytest-finetune]"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rows_max_age", "30", "write an age as 90m, 36h, 30d or 4w, not '30'"),
        ("rows_max_age", 30, "write an age as 90m, 36h, 30d or 4w, not 30"),
        ("store_limit", "1 barrel", "write a size as 500KB, 200MB or 1.5GB, not '1 barrel'"),
        ("store_text", "none", "Input should be 'full' or 'hash', not 'none'"),
    ],
)
def test_a_wrong_one_says_what_to_write(tmp_path: Path, name: str, value: object, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_settings(tmp_path, ini={name: value}, environment={})
    assert str(raised.value) == f"setting {name!r} (from ini): {message}"


def started(root: Path, **settings: str) -> Run:
    return Run(read_settings(root, ini=settings, environment={}))


def test_they_reach_the_store(tmp_path: Path) -> None:
    path = tmp_path / ".pytest-finetune" / STORE
    keys = {f"{number}": ["r"] for number in range(20)}
    first = started(tmp_path)
    first.store.claim(keys, "m", limit=99, cap=99)
    row = Row("r", "baseline", 0, RowState.FORMAT_ERROR, output="a secret " * 2000, error="unparseable")
    first.store.save(Answered(key, row, 1, "tickets", "small") for key in keys)
    first.close()

    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE prediction SET asked_at = asked_at - 7200 + key")
    connection.close()
    aged = started(tmp_path, rows_max_age="1h")
    assert aged.store.read(keys, "m") == {}
    aged.close()

    limited = started(tmp_path, store_limit="300KB")
    assert list(limited.store.read({"1": ["r"]}, "m")) == ["1"]
    limited.close()
    assert path.stat().st_size < 240_000

    hashing = started(tmp_path, store_text="hash")
    assert hashing.store.read({"1": ["r"]}, "m")["1"][0].output == hashing.store.kept(row).output
    hashing.close()
    assert b"a secret" not in path.read_bytes()

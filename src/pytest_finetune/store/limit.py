"""The size of the file: the oldest answers go when it is too large, and never those that the run has used."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable

from pytest_finetune.store.database import transaction

FILLED = 0.8  # of the limit is what is left, so that not every run has to drop something

# 400 bytes are what the keys of an answer and of its scores take.
_AGED = """
WITH used_now AS (SELECT key FROM used WHERE used_at >= :since), aged AS (
    SELECT key, asked_at, 400 + length(CAST(ifnull(output, '') || ifnull(error, '') AS BLOB)) AS bytes,
        owner IS NULL AND asked_at < :since AND key NOT IN used_now AS droppable FROM prediction
    UNION ALL
    SELECT key, asked_at, 400 + length(CAST(response AS BLOB)), asked_at < :since AND key NOT IN used_now FROM call
)
"""
_TOO_OLD = f"""{_AGED}
SELECT key FROM (SELECT key, sum(bytes) OVER (ORDER BY asked_at, key) - bytes AS older FROM aged WHERE droppable)
WHERE older < :share * (SELECT sum(bytes) FROM aged)
"""  # noqa: S608  # two constants


def mark_used(connection: sqlite3.Connection, keys: Iterable[str]) -> None:
    """Say that this run has used recorded answers, which must therefore stay."""
    now = time.time()
    with transaction(connection):
        connection.executemany("INSERT OR REPLACE INTO used VALUES (?, ?)", [(key, now) for key in keys])


def keep_within(connection: sqlite3.Connection, limit: int, *, since: float) -> None:
    """Drop the oldest answers and recorded calls until the file is well within its limit.

    Args:
        connection: To the file.
        limit: Bytes.
        since: When the run began: what was asked for or used later stays, however large the file is.
    """
    with transaction(connection):
        connection.execute("DELETE FROM used WHERE used_at < ?", (since,))
    if _size(connection) <= limit:
        return
    connection.execute("VACUUM")
    while (size := _size(connection)) > FILLED * limit and _drop_oldest(connection, 1 - FILLED * limit / size, since):
        connection.execute("VACUUM")


def _drop_oldest(connection: sqlite3.Connection, share: float, since: float) -> bool:
    """Drop about this share of the file; whether there was anything to drop."""
    with transaction(connection):
        found = connection.execute(_TOO_OLD, {"share": share, "since": since})
        keys = json.dumps([key for (key,) in found])
        for table in ("prediction", "call"):
            connection.execute(f"DELETE FROM {table} WHERE key IN (SELECT value FROM json_each(?))", (keys,))  # noqa: S608
    return keys != "[]"


def _size(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (bytes_each,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages) * int(bytes_each)

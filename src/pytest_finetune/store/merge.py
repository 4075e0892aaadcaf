"""Joining stores: the shards of a CI run, or what two machines have asked for.

Of each row the answer stays that comes first in one order over all answers. So the order in which stores are merged
does not matter, and neither does merging one twice.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pytest_finetune.store import database
from pytest_finetune.store.privacy import StoredText, hashed

_ANSWER = "row_id, stage, repeat, state, output, usage, latency, attempts, error, served_model, asked_at, task, model"
_CALL = "key, purpose, model, response, usage, asked_at"
# What is smaller is kept: an answer before an error, then the earlier, then the smaller, its text before its hash.
# The rest only makes the order total.
_ORDER = (
    "({0}.state = 'error', {0}.asked_at, ifnull({0}.output LIKE 'sha256:%', 0), ifnull({0}.output, ''), {0}.state,"
    " ifnull({0}.error, ''), ifnull({0}.usage, ''), ifnull({0}.latency, -1), ifnull({0}.attempts, -1),"
    " ifnull({0}.served_model, ''), {0}.row_id, {0}.stage, {0}.repeat, {0}.task, {0}.model)"
)
_CALL_ORDER = "({0}.asked_at, {0}.response, {0}.purpose, {0}.model, ifnull({0}.usage, ''))"
_OURS, _THEIRS = _ORDER.format("ours"), _ORDER.format("theirs")

_DIFFERING = """
SELECT key FROM other.prediction AS theirs JOIN main.prediction AS ours USING (key)
WHERE theirs.state <> 'error' AND ours.state <> 'error'
AND (theirs.state <> ours.state OR hashed(theirs.output) IS NOT hashed(ours.output))
"""
_STEPS = (
    f"""
    DELETE FROM main.prediction WHERE key IN (
        SELECT key FROM other.prediction AS theirs JOIN main.prediction AS ours USING (key)
        WHERE theirs.state IS NOT NULL AND (ours.state IS NULL OR {_THEIRS} < {_OURS})
    )""",  # noqa: S608  # all are constants
    f"""
    INSERT INTO main.prediction (key, {_ANSWER}) SELECT key, {_ANSWER} FROM other.prediction
    WHERE state IS NOT NULL AND key NOT IN (SELECT key FROM main.prediction)""",  # noqa: S608  # all are constants
    f"""
    INSERT INTO main.score (key, row_id, metric, value) SELECT key, scored.row_id, metric, value
    FROM other.score AS scored JOIN other.prediction AS theirs USING (key) JOIN main.prediction AS ours USING (key)
    WHERE {_THEIRS} = {_OURS}
    ON CONFLICT (key, row_id, metric) DO UPDATE SET value = min(value, excluded.value)""",  # noqa: S608  # all are constants
    f"""
    DELETE FROM main.call WHERE key IN (
        SELECT key FROM other.call AS theirs JOIN main.call AS ours USING (key)
        WHERE {_CALL_ORDER.format("theirs")} < {_CALL_ORDER.format("ours")}
    )""",  # noqa: S608  # all are constants
    f"INSERT OR IGNORE INTO main.call ({_CALL}) SELECT {_CALL} FROM other.call",  # noqa: S608  # all are constants
    """
    INSERT INTO main.candidate (rows, candidate, number)
    SELECT rows, candidate, number FROM other.candidate WHERE true
    ON CONFLICT (rows, candidate) DO UPDATE SET number = max(number, excluded.number)""",
)


@dataclass(frozen=True)
class Merged:
    """What became of a merge.

    Attributes:
        counts: How many rows each source had.
        total: How many rows there are now.
        differed: Of how many rows there were different answers.
    """

    counts: tuple[int, ...]
    total: int
    differed: int


def merge(into: Path, sources: Sequence[Path], *, text: StoredText = StoredText.FULL) -> Merged:
    """Take the rows and the recorded calls of other stores into one.

    An answer is kept rather than an error; of two answers the one that was asked for earlier, then the smaller.
    Scores come with the answer that is kept. Candidates that were judged anywhere count; each keeps its number. What
    is being asked for at the moment, and what was spent, is left out.

    Args:
        into: The store, which is made if it is not there.
        sources: The others. They are copied first, and stay as they are.
        text: What the store keeps of answers and errors.

    Raises:
        EvidenceError: If one is damaged, of a newer version, or no row store. Then nothing has been written.
    """
    counts: list[int] = []
    differing: set[str] = set()
    with TemporaryDirectory() as folder:
        gathered = Path(folder) / "rows.sqlite"
        with closing(database.create(gathered)) as connection:
            for source in sources:
                with TemporaryDirectory(dir=folder) as place, database.explained(source):
                    copy = _copied(source, Path(place))
                    database.upgrade_copy(copy, source, text)
                    counts.append(_add(connection, copy, differing))
        with database.explained(into), closing(database.create(into, text)) as connection:
            _add(connection, gathered, differing)
            return Merged(tuple(counts), _count(connection, "main"), len(differing))


def _copied(source: Path, folder: Path) -> Path:
    """A copy of a store, with the journal of a process that did not come to its end."""
    for suffix in ("", "-wal", "-journal"):
        if (file := Path(f"{source}{suffix}")).exists():
            shutil.copyfile(file, folder / f"copy{suffix}")
    return folder / "copy"


def _add(connection: sqlite3.Connection, path: Path, differing: set[str]) -> int:
    """Add a store to the one that is open, and the keys of differing answers to those; how many rows it has."""
    connection.create_function("hashed", 1, hashed, deterministic=True)
    connection.execute("ATTACH ? AS other", (str(path),))
    with database.transaction(connection):
        differing.update(key for (key,) in connection.execute(_DIFFERING))
        for step in _STEPS:
            connection.execute(step)
    count = _count(connection, "other")
    connection.execute("DETACH other")
    return count


def _count(connection: sqlite3.Connection, schema: str) -> int:
    query = f"SELECT count(*) FROM {schema}.prediction WHERE state IS NOT NULL"  # noqa: S608  # main or other
    return int(connection.execute(query).fetchone()[0])

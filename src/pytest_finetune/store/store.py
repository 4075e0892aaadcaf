"""Answers and scores, kept apart, and the leases by which processes share the asking."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

from pytest_finetune.core.records import Answered, Row, RowState, Usage
from pytest_finetune.store import database
from pytest_finetune.store.limit import keep_within, mark_used
from pytest_finetune.store.owner import is_dead, new_owner
from pytest_finetune.store.privacy import StoredText, is_hash, without_text

StoredRow = tuple[Row, float]
"""An answer without its score, and when it was asked for (seconds since 1970)."""

Wanted = Mapping[str, Collection[str]]
"""Keys of answers, each with the ids of the rows that it is to be scored against."""

LEASE = 30.0  # seconds for which a claim holds unless it is renewed
CLAIMS = 3  # so many processes may die of a row before it counts as an error

_READ = """
SELECT key, row_id, stage, repeat, state, output, usage, latency, error, served_model, asked_at FROM prediction
WHERE key IN (SELECT value FROM json_each(:keys))
AND (state IN ('scored', 'format_error') AND asked_at >= :oldest OR state = 'error' AND asked_at >= :since)
"""
_SAVE = """
UPDATE prediction SET row_id = ?, stage = ?, repeat = ?, state = ?, output = ?, usage = ?, latency = ?, error = ?,
served_model = ?, attempts = ?, task = ?, model = ?, owner = NULL, lease = 0, claims = 0
WHERE key = ? AND state IS NULL  -- a row that others took over and finished stays as it is
"""
_FORGET_SCORES = """
DELETE FROM score
WHERE key = :key AND key IN (SELECT key FROM prediction WHERE state IS NULL AND output IS NOT :output)
"""  # of the answer that stood there before, unless it was the same
_CLAIM = """
INSERT INTO prediction (key, asked_at, owner, lease, claims) VALUES (:key, :now, :owner, :lease, 1)
ON CONFLICT (key) DO UPDATE SET state = NULL, asked_at = :now, owner = :owner, lease = :lease, claims = claims + 1
"""
_POISON = """
UPDATE prediction SET state = 'error', owner = NULL, claims = 0, attempts = claims, asked_at = :now,
error = 'crash: ' || claims || ' processes in a row ended while they asked for this row'
WHERE key IN (SELECT value FROM json_each(:keys)) AND state IS NULL AND claims >= :claims AND lease < :now
"""
_CANDIDATE = """
INSERT INTO candidate (rows, candidate, number)
SELECT :rows, :candidate, 1 + count(*) FROM candidate WHERE rows = :rows
ON CONFLICT (rows, candidate) DO NOTHING
"""
_SCORES = """
SELECT key, row_id, value FROM score WHERE metric = :metric AND key IN (SELECT value FROM json_each(:keys))
"""


class Store:
    """One file of answers and scores; every process opens its own, and every thread too.

    An answer is found by the digest of all that changes it, and by nothing else; a score by its answer, the row it
    was scored against and the metric. So a changed metric, or a corrected label, costs no call.

    A row is asked for by whoever claims it. A claim is a lease: it ends with its process, or 30 s after the last
    ``renew``; then others may take the row over. After three processes have died of the same row, it is an error.

    Where only hashes are written down, an answer is written together with its score: without it, it is of no use.

    Args:
        connection: To the file.
        path: Of the file, for messages.
        since: Rows that ended in an error before this time are asked again (seconds since 1970).
        oldest: Answers older than this time are asked again.
        text: What is written down of an answer.
        creator: Whether this process tidies the file up at the end.
        limit: Bytes that the creator leaves of the file at most, if it can; ``None``: any number.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        *,
        since: float,
        oldest: float,
        text: StoredText,
        creator: bool,
        limit: int | None = None,
    ) -> None:
        self._connection = connection
        self._path = path
        self._times = {"since": since, "oldest": oldest}
        self._text = text
        self._creator = creator
        self._limit = limit
        self._owner = new_owner()
        self._used: set[str] = set()
        self._unscored: dict[str, Answered] = {}

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        since: float | None = None,
        oldest: float = 0.0,
        text: StoredText = StoredText.FULL,
        limit: int | None = None,
    ) -> Store:
        """Open the store, making it if it is not there: for the process that begins (under xdist, the controller).

        Args:
            path: Of the file.
            since: Errors before this time are asked again; ``None``: all errors until now.
            oldest: Answers before this time are asked again.
            text: ``HASH``: neither answers nor errors are written down, and those that are there become hashes.
            limit: Bytes. Of a file that is larger at the end, the oldest answers are dropped that no process of
                this run has used.

        Raises:
            EvidenceError: If the file is damaged, of a newer version, or no row store.
        """
        connection = database.create(path, text)
        return cls(connection, path, since=_now(since), oldest=oldest, text=text, creator=True, limit=limit)

    @classmethod
    def open(
        cls, path: Path, *, since: float | None = None, oldest: float = 0.0, text: StoredText = StoredText.FULL
    ) -> Store:
        """Open the store that another process has created; the arguments are those of ``create``."""
        return cls(database.join(path), path, since=_now(since), oldest=oldest, text=text, creator=False)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back what is held, and leave one file without a journal beside it, fit for a cache."""
        with database.explained(self._path):
            self.release()
            mark_used(self._connection, self._used)
            if self._creator:
                if self._limit is not None:
                    keep_within(self._connection, self._limit, since=self._times["since"])
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()

    # --- answers ----------------------------------------------------------------------------------------------

    def read(self, wanted: Wanted, metric: str) -> dict[str, StoredRow]:
        """Give the answers that need not be asked for again; their rows have no score.

        An answer of which only the hash is there cannot be scored any more. It is given if it has been.

        Args:
            wanted: Keys of answers, each with the ids of the rows that it is to be scored against.
            metric: The metric's fingerprint.
        """
        with database.explained(self._path):
            found = self._connection.execute(_READ, {"keys": json.dumps(list(wanted)), **self._times})
            rows = {values[0]: _stored(*values) for values in found}
        hashes = {key for key, (row, _) in rows.items() if row.state is RowState.SCORED and is_hash(row.output)}
        known = self.scores(list(hashes), metric)
        usable = {
            key: row
            for key, row in rows.items()
            if key not in hashes or all((key, row_id) in known for row_id in wanted[key])
        }
        self._used.update(usable)
        return usable

    def save(self, answers: Iterable[Answered]) -> None:
        """Keep answers that this process has claimed."""
        ready = []
        for answer in answers:
            if self._text is StoredText.HASH and answer.row.state is RowState.SCORED:
                self._unscored[answer.key] = answer
            else:
                ready.append(answer)
        with self._writing():
            self._write(ready)

    def kept(self, row: Row) -> Row:
        """What may be written down of a row, in this file and in any other."""
        return without_text(row) if self._text is StoredText.HASH else row

    def _write(self, answers: Iterable[Answered]) -> None:
        kept = [(answer, self.kept(answer.row)) for answer in answers]
        self._connection.executemany(
            _FORGET_SCORES, [{"key": answer.key, "output": row.output} for answer, row in kept]
        )
        self._connection.executemany(
            _SAVE,
            [(*_values(row), answer.attempts, answer.task, answer.model, answer.key) for answer, row in kept],
        )

    # --- leases -----------------------------------------------------------------------------------------------

    def claim(self, wanted: Wanted, metric: str, *, limit: int, cap: int) -> tuple[list[str], dict[str, StoredRow]]:
        """Claim rows to ask for, and learn which ones others have finished.

        Args:
            wanted: As for `read`, in the order in which they are to be asked.
            metric: The metric's fingerprint.
            limit: Claim at most so many now.
            cap: Claim none beyond so many held by all processes together.

        Returns:
            The claimed keys, and the finished rows among those wanted. What is in neither is held by others, or
            beyond the limits: ask again later.
        """
        now = time.time()
        with self._writing():
            self._end_leases_of_the_dead(now)
            self._connection.execute(_POISON, {"keys": json.dumps(list(wanted)), "claims": CLAIMS, "now": now})
            done = self.read(wanted, metric)
            taken = self._held(now)
            free = [key for key in wanted if key not in done and key not in taken]
            mine = free[: max(0, min(limit, cap - len(taken)))]
            lease = {"now": now, "owner": self._owner, "lease": now + LEASE}
            self._connection.executemany(_CLAIM, [{"key": key, **lease} for key in mine])
        return mine, done

    def renew(self) -> None:
        """Hold on to what this process has claimed: to be called well within every 30 s."""
        with self._writing():
            self._connection.execute(
                "UPDATE prediction SET lease = ? WHERE owner = ?", (time.time() + LEASE, self._owner)
            )

    def release(self) -> None:
        """Give back what this process has claimed and not answered."""
        self._unscored.clear()
        with self._writing():
            self._connection.execute(
                "UPDATE prediction SET owner = NULL, lease = 0, claims = claims - 1 WHERE owner = ?", (self._owner,)
            )

    def _held(self, now: float) -> set[str]:
        found = self._connection.execute("SELECT key FROM prediction WHERE owner IS NOT NULL AND lease >= ?", (now,))
        return {key for (key,) in found}

    def _end_leases_of_the_dead(self, now: float) -> None:
        owners = self._connection.execute(
            "SELECT DISTINCT owner FROM prediction WHERE owner IS NOT NULL AND owner <> ? AND lease >= ?",
            (self._owner, now),
        )
        dead = [(owner,) for (owner,) in owners if is_dead(owner)]
        self._connection.executemany("UPDATE prediction SET lease = 0 WHERE owner = ?", dead)

    # --- candidates ---------------------------------------------------------------------------------------------

    def count_candidate(self, rows: str, candidate: str) -> int:
        """Which candidate this is of those that a set of rows has judged, 1 for the first.

        Args:
            rows: The fingerprint of the rows.
            candidate: What tells it from all others; runs, reruns and workers with the same count once.
        """
        with self._writing():
            self._connection.execute(_CANDIDATE, {"rows": rows, "candidate": candidate})
            found = self._connection.execute(
                "SELECT number FROM candidate WHERE rows = ? AND candidate = ?", (rows, candidate)
            )
            return int(found.fetchone()[0])

    # --- scores -----------------------------------------------------------------------------------------------

    def scores(self, keys: Sequence[str], metric: str) -> dict[tuple[str, str], float]:
        """Give the scores of answers, by key and row id.

        Args:
            keys: Of the answers.
            metric: The metric's fingerprint.
        """
        with database.explained(self._path):
            found = self._connection.execute(_SCORES, {"keys": json.dumps(keys), "metric": metric})
            return {(key, row_id): _score(key, value) for key, row_id, value in found}

    def save_scores(self, scores: Mapping[tuple[str, str], float], metric: str) -> None:
        """Keep scores, by key and row id."""
        with self._writing():
            self._write([self._unscored.pop(key) for key in {key for key, _ in scores} & self._unscored.keys()])
            self._connection.executemany(
                "INSERT OR REPLACE INTO score (key, row_id, metric, value) VALUES (?, ?, ?, ?)",
                [(key, row_id, metric, value) for (key, row_id), value in scores.items()],
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with database.explained(self._path), database.transaction(self._connection):
            yield


def _now(since: float | None) -> float:
    return time.time() if since is None else since


def _values(row: Row) -> tuple[object, ...]:
    usage = None if row.usage is None else json.dumps(asdict(row.usage))
    state, served = row.state.value, row.served_model
    return row.row_id, row.stage, row.repeat, state, row.output, usage, row.latency, row.error, served


def _stored(
    key: str,
    row_id: str,
    stage: str,
    repeat: int,
    state: str,
    output: str | None,
    usage: str | None,
    latency: float | None,
    error: str | None,
    served_model: str | None,
    asked_at: float,
) -> StoredRow:
    try:
        used = None if usage is None else Usage(**json.loads(usage))
        row = Row(row_id, stage, repeat, RowState(state), None, output, used, latency, error, served_model)
        _check_kinds(row)
    except (ValueError, TypeError, RecursionError) as failure:
        raise sqlite3.DatabaseError(f"row {key}: {failure}") from failure
    return row, asked_at


def _check_kinds(row: Row) -> None:
    """SQLite keeps any kind of value in any column."""
    used = row.usage or Usage(0, 0)
    texts: tuple[object, ...] = (row.row_id, row.stage, row.output, row.error, row.served_model)
    counts: tuple[object, ...] = (row.repeat, used.prompt_tokens, used.completion_tokens)
    figures: tuple[object, ...] = (row.latency, used.cost)
    if not all(isinstance(text, str | None) for text in texts):
        raise ValueError("a text is none")
    if not all(isinstance(count, int) and 0 <= count < 2**53 for count in counts):
        raise ValueError("a count is none")
    if not all(one is None or (isinstance(one, int | float) and 0 <= one < math.inf) for one in figures):
        raise ValueError("a figure is none")


def _score(key: str, value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise sqlite3.DatabaseError(f"row {key}: {value!r} is no score")
    return float(value)

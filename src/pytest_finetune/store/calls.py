"""The answers to judges and to training, recorded so that a build that is killed repeats nothing it paid for."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from pytest_finetune.core.records import Usage
from pytest_finetune.store.limit import mark_used
from pytest_finetune.store.privacy import StoredText
from pytest_finetune.store.shared import SharedConnection

_RECORD = """
INSERT INTO call (key, purpose, model, response, usage, asked_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET purpose = excluded.purpose, model = excluded.model, response = excluded.response,
usage = excluded.usage, asked_at = excluded.asked_at WHERE call.asked_at < ?
"""


class Calls(SharedConnection):
    """Recorded answers, by the digest of all that was asked.

    Args:
        path: Of the file, which a `Store` has created.
        oldest: Answers before this time are not recalled (seconds since 1970).
        text: With ``HASH`` nothing is recorded: an answer that cannot be read is of no use.

    Raises:
        EvidenceError: If the file is missing, damaged, of another version, or no row store.
    """

    def __init__(self, path: Path, *, oldest: float = 0.0, text: StoredText = StoredText.FULL) -> None:
        super().__init__(path)
        self._oldest = oldest
        self._records = text is StoredText.FULL
        self._used: set[str] = set()

    def recall(self, key: str) -> str | None:
        """Give what was recorded under a key, as JSON."""
        if not self._records:
            return None
        with self._reading() as connection:
            found = connection.execute(
                "SELECT response FROM call WHERE key = ? AND asked_at >= ?", (key, self._oldest)
            ).fetchone()
            if found is not None:
                self._used.add(key)
        return None if found is None else str(found[0])

    def record(self, key: str, response: str, *, purpose: str, model: str, usage: Usage | None) -> None:
        """Keep an answer; the first one under a key stays, until it is too old.

        Args:
            key: The digest of what was asked.
            response: The answer, as JSON.
            purpose: ``training`` or ``judge``.
            model: The model that was asked.
            usage: What it used, where the endpoint told it.
        """
        if not self._records:
            return
        used = None if usage is None else json.dumps(asdict(usage))
        with self._writing() as connection:
            connection.execute(_RECORD, (key, purpose, model, response, used, time.time(), self._oldest))

    def mean_usage(self, purpose: str, model: str) -> tuple[float, float] | None:
        """Tokens sent and received by the calls of a model on average; None where none is recorded with its usage."""
        with self._reading() as connection:
            told = connection.execute(
                "SELECT usage FROM call WHERE purpose = ? AND model = ? AND usage IS NOT NULL", (purpose, model)
            ).fetchall()
        if not told:
            return None
        used = [Usage(**json.loads(usage)) for (usage,) in told]
        return fmean(one.prompt_tokens for one in used), fmean(one.completion_tokens for one in used)

    def forget(self, keys: Sequence[str]) -> None:
        """Lose the answers under some keys: they were of no use, and are to be asked for again."""
        with self._writing() as connection:
            connection.executemany("DELETE FROM call WHERE key = ?", [(key,) for key in keys])

    def close(self) -> None:
        """Say which answers were used, and let go of the file."""
        with self._reading() as connection:
            mark_used(connection, self._used)
        super().close()

"""The journal of fine-tuning jobs: what was asked of an endpoint, on disk before it is asked."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_finetune.errors import TrainingError

UPLOADING = "uploading"
UPLOADED = "uploaded"
CREATING = "creating"
CREATED = "created"
STATUS = "status"
FAILED = "failed"
CANCELLED = "cancelled"
REFUSED = "refused"
CANCELLING = "cancelling"
DELETING = "deleting"
GONE = "gone"

CLOSED = frozenset({FAILED, CANCELLED, REFUSED, GONE})
"""States after which another attempt may be made."""

UNANSWERED = "unanswered"
"""Whether a job was asked for, and what became of that is not known: later lines of other states do not tell."""

_LONGEST = 100  # characters of a file's name

ABOUT = ("endpoint", "model", "predictor", "comeback")
"""What lines hold of an attempt, whatever its state: where, what is tuned, for XX
model), and the command that takes it up."""


class Journal:
    """An append-only file of JSON lines, each flushed to the disk before ``write`` returns.

    A line holds ``at`` (UTC), ``key`` (what the job is made from, hashed), ``state``, and what was learnt with it:
    ``training_file``, ``validation_file``, ``job``, and what `ABOUT` names. A process that is killed while it writes
    leaves half a line, which readers skip and the next writer closes.

    Args:
        path: The file; it and its folder are made on the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, key: str, state: str, **facts: Any) -> None:
        """Append one line and wait until it is on the disk."""
        line = {"at": datetime.now(timezone.utc).isoformat(timespec="seconds"), "key": key, "state": state, **facts}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        with self.path.open("ab+") as file:
            text = json.dumps(line, ensure_ascii=False).encode() + b"\n"
            file.write(text if _ends_a_line(file) else b"\n" + text)
            file.flush()
            os.fsync(file.fileno())
        if new and sys.platform != "win32":
            _sync_folder(self.path.parent)

    def beside(self, job_id: str, ending: str) -> Path:
        """The file that tells more of a job; its id is an endpoint's word, and leads nowhere else.

        Args:
            job_id: The job's id.
            ending: Of the file's name.
        """
        return self.path.with_name(f"{re.sub(r'[^A-Za-z0-9_-]', '_', job_id)[:_LONGEST]}{ending}")

    def attempt(self, key: str) -> dict[str, Any]:
        """Everything that the journal knows of the attempt that is open or has succeeded; empty if there is none.

        Later lines win; a line in one of the states ``CLOSED`` ends the attempt.
        """
        facts: dict[str, Any] = {}
        for line in self._lines():
            if line.get("key") == key:
                facts = {} if line.get("state") in CLOSED else {**facts, **line}
        return facts

    def gone(self) -> frozenset[str]:
        """The ids of the jobs that are not to be taken up again, whatever an endpoint lists."""
        return frozenset(str(line["job"]) for line in self._lines() if line.get("state") == GONE and "job" in line)

    def last(self) -> list[dict[str, Any]]:
        """The last that is known of each job, in the order in which the journal came to know of them.

        An attempt that has come to no job yet is there too, without ``job``.
        """
        found: dict[str, dict[str, Any]] = {}
        attempts: dict[str, dict[str, Any]] = {}
        for line in self._lines():
            key = str(line.get("key"))
            facts = {**attempts.get(key, {}), **line}
            if "job" in facts:
                found.pop(key, None)
            found[str(facts.get("job", key))] = facts
            ended = facts.get("state") in CLOSED
            attempts[key] = {name: facts[name] for name in ABOUT if name in facts} if ended else facts
        return list(found.values())

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise TrainingError(
                f"the journal of jobs {self.path} cannot be read ({error}): no job is started without it; "
                "make the file readable and run again"
            ) from error
        for line in content.splitlines():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):  # torn by a kill, or none of ours
                continue
            if isinstance(value, dict) and _is_line(value):
                yield value


def _is_line(value: dict[str, Any]) -> bool:
    try:
        datetime.fromisoformat(value["at"])
    except (KeyError, TypeError, ValueError):
        return False
    return all(isinstance(value.get(name), str) for name in ("key", "state"))


def _ends_a_line(file: Any) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

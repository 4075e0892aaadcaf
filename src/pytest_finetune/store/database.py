"""The file below the store: its schema, its journal, and words for what can be wrong with it."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_finetune.errors import EvidenceError

APPLICATION = 0x70746674  # "ptft", in the header of the file
SCHEMA = """
CREATE TABLE prediction (
    key TEXT PRIMARY KEY,
    row_id TEXT NOT NULL DEFAULT '',
    stage TEXT NOT NULL DEFAULT '',
    repeat INTEGER NOT NULL DEFAULT 0,
    state TEXT,
    output TEXT,
    usage TEXT,
    latency REAL,
    attempts INTEGER,
    error TEXT,
    served_model TEXT,
    asked_at REAL NOT NULL,
    owner TEXT,
    lease REAL NOT NULL DEFAULT 0,
    claims INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX held ON prediction (owner, lease) WHERE owner IS NOT NULL;
CREATE TABLE score (
    key TEXT NOT NULL REFERENCES prediction (key) ON DELETE CASCADE,
    row_id TEXT NOT NULL,
    metric TEXT NOT NULL,
    value REAL NOT NULL,
    PRIMARY KEY (key, row_id, metric)
) WITHOUT ROWID;
"""
UPGRADES = (SCHEMA,)  # UPGRADES[n] leads from schema number n to n + 1
VERSION = len(UPGRADES)

_PATIENCE = 60.0  # seconds to wait for another process's transaction
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "lustre", "ceph", "glusterfs"}


def create(path: Path) -> sqlite3.Connection:
    """Open the file, make or upgrade its tables, and choose its journal: for the one process that begins.

    Raises:
        EvidenceError: If the file is damaged, of a newer version, or no row store.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _opened(path) as connection:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(" ".join(found.split()))
        _choose_journal(connection, path)
        with transaction(connection):
            _upgrade(connection, path)
        return connection


def join(path: Path) -> sqlite3.Connection:
    """Open a file that another process has created.

    Raises:
        EvidenceError: If it is missing, damaged, of another version, or no row store.
    """
    if not path.is_file():
        raise EvidenceError(f"the row store {path} does not exist: evaluate first, or give the path it is at")
    with _opened(path) as connection:
        if _version(connection, path) < VERSION:
            raise EvidenceError(f"the row store {path} is of an older version: run once without xdist to upgrade it")
        return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write under the lock that is taken at the start: a lock taken later can fail after the work is done."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say in words what SQLite reports, and the way out.

    Raises:
        EvidenceError: In place of any error of SQLite, or of the folder.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise EvidenceError(f"the row store {path} cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        raise EvidenceError(
            f"the row store {path} is damaged ({error}). Its rows may have been paid for, so it is left as it is:"
            f" put back a copy (CI keeps one in its cache), or move it away to ask every row again:"
            f" mv {shlex.quote(str(path))} {shlex.quote(f'{path}.damaged')}"
        ) from error
    except OSError as error:
        raise EvidenceError(f"the row store {path} cannot be used: {error.strerror}") from error


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection, closed again if what comes next finds the file wanting."""
    with explained(path):
        connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            # SQLite 3.7.0 to 3.51.2 can lose a write when two processes checkpoint at once: only the creator does it.
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            yield connection
        except BaseException:
            connection.close()
            raise


def _choose_journal(connection: sqlite3.Connection, path: Path) -> None:
    """Take WAL (ten times as many writes a second), except on a network disk, where it does not work."""
    wanted = "TRUNCATE" if _on_network(path) else "WAL"
    if connection.execute(f"PRAGMA journal_mode = {wanted}").fetchone()[0].upper() != wanted:
        connection.execute("PRAGMA journal_mode = TRUNCATE")


def _on_network(path: Path) -> bool:
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    mounts = {fields[1]: fields[2] for fields in map(str.split, lines)}
    for parent in path.resolve().parents:
        if str(parent) in mounts:
            return mounts[str(parent)] in _NETWORK
    return False


def _upgrade(connection: sqlite3.Connection, path: Path) -> None:
    for number in range(_version(connection, path), VERSION):
        for statement in UPGRADES[number].split(";"):  # not executescript, which would commit
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """The file's schema number, 0 if it is empty."""
    number = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise EvidenceError(f"{path} is a database of another program, not a row store: give another path")
    if number > VERSION:
        raise EvidenceError(
            f"the row store {path} is of a newer pytest-finetune (schema {number}, this one knows {VERSION}):"
            " run `pip install -U pytest-finetune`, or give another path"
        )
    return number

"""The file below the store: its schema, its journal, and words for what can be wrong with it."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_finetune.errors import EvidenceError
from pytest_finetune.store.privacy import StoredText, error_class, hashed

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
CALLS = """
ALTER TABLE prediction ADD COLUMN task TEXT NOT NULL DEFAULT '';
ALTER TABLE prediction ADD COLUMN model TEXT NOT NULL DEFAULT '';
CREATE TABLE call (
    key TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,
    model TEXT NOT NULL,
    response TEXT NOT NULL,
    usage TEXT,
    asked_at REAL NOT NULL
);
CREATE TABLE spending (
    run TEXT NOT NULL,
    owner TEXT NOT NULL,
    dollars REAL NOT NULL,
    changed_at REAL NOT NULL,
    PRIMARY KEY (run, owner)
) WITHOUT ROWID;
CREATE TABLE used (key TEXT PRIMARY KEY, used_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE candidate (
    rows TEXT NOT NULL,
    candidate TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (rows, candidate)
) WITHOUT ROWID;
"""
UPGRADES = (SCHEMA, CALLS)  # UPGRADES[n] leads from schema number n to n + 1
VERSION = len(UPGRADES)

_FOREIGN = """
SELECT type, name FROM sqlite_master WHERE type NOT IN ('table', 'index') OR sql LIKE 'CREATE VIRTUAL%'
"""
_PATIENCE = 60.0  # seconds to wait for another process's transaction
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "lustre", "ceph", "glusterfs"}


def create(path: Path, text: StoredText = StoredText.FULL) -> sqlite3.Connection:
    """Open the file, make or upgrade its tables, and choose its journal: for the one process that begins.

    Args:
        path: Of the file.
        text: ``HASH``: no text stays in the file, not even in pages that are free.

    Raises:
        EvidenceError: If the file is damaged, of a newer version, or no row store.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _opened(path) as connection:
        _check(connection)
        _choose_journal(connection, path)
        with transaction(connection):
            _upgrade(connection, path)
        if text is StoredText.HASH:
            hash_texts(connection)
        return connection


def join(path: Path, *, threads: bool = False) -> sqlite3.Connection:
    """Open a file that another process has created.

    Args:
        path: Of the file.
        threads: The connection will be used by several threads, one at a time.

    Raises:
        EvidenceError: If it is missing, damaged, of another version, or no row store.
    """
    if not path.is_file():
        raise EvidenceError(f"the row store {path} does not exist: evaluate first, or give the path it is at")
    with _opened(path, threads=threads) as connection:
        if _version(connection, path) < VERSION:
            raise EvidenceError(f"the row store {path} is of an older version: run once without xdist to upgrade it")
        return connection


def upgrade_copy(copy: Path, path: Path, text: StoredText) -> None:
    """Bring a copy of a store to this version.

    Args:
        copy: The file.
        path: What it was copied from, for messages.
        text: ``HASH``: no text stays in the copy.

    Raises:
        EvidenceError: If it is damaged, of a newer version, or no row store.
    """
    with _opened(copy, path) as connection:
        _check(connection)
        if _version(connection, path) == 0:
            raise EvidenceError(f"{path} is empty, so it is no row store: give another path")
        with transaction(connection):
            _upgrade(connection, path)
        if text is StoredText.HASH:
            hash_texts(connection)
        connection.close()


def hash_texts(connection: sqlite3.Connection) -> None:
    """Turn every text into its hash, and forget recorded calls; write the file anew, so that nothing is left."""
    connection.create_function("hashed", 1, hashed, deterministic=True)
    connection.create_function("error_class", 1, error_class, deterministic=True)
    with transaction(connection):
        changed = connection.execute(
            "UPDATE prediction SET output = hashed(output), error = error_class(error)"
            " WHERE output IS NOT hashed(output) OR error IS NOT error_class(error)"
        ).rowcount
        changed += connection.execute("DELETE FROM call").rowcount
    if changed:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


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
    except BrokenPipeError:  # of what is printed within, as to `| head`
        raise
    except OSError as error:
        raise EvidenceError(f"the row store {path} cannot be used: {error.strerror}") from error


@contextmanager
def _opened(path: Path, shown: Path | None = None, *, threads: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection, closed again if what comes next finds the file wanting."""
    with explained(shown or path):
        connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=not threads)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")  # it may be another's file
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")  # what is replaced by a hash is overwritten
            # SQLite 3.7.0 to 3.51.2 can lose a write when two processes checkpoint at once: only the creator does it.
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            yield connection
        except BaseException:
            connection.close()
            raise


def _check(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(" ".join(found.split()))
    foreign = connection.execute(_FOREIGN).fetchone()
    if foreign is not None:
        raise sqlite3.DatabaseError(f"no row store has the {foreign[0]} {foreign[1]!r}, which would act by itself")


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

"""The rows of a task's data as the lock knows them: by their fingerprints, so that it can be said which have changed.

They are one artifact, a line for each row: the hash of its input fields, of all its fields, and its split. No text
of the data is in it. All stages of a task refer to the same file, since artifacts are named by what they hold.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from pytest_finetune.core.fingerprint import data_fingerprint
from pytest_finetune.errors import LockError
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.model import Data, Version

SPLITS = ("train", "dev", "test")
_LINE = re.compile(rf"([0-9a-f]{{16}}) ([0-9a-f]{{16}}) ({'|'.join(SPLITS)})")
_SHOWN = 3  # places named of each kind of change
_ORDER = ("changed", "added", "removed", "moved")


class KnownRow(NamedTuple):
    """A row by its fingerprints.

    Attributes:
        input_id: of the fields that are asked: what a row is recognised by when another field of it has changed.
        row_id: of all fields.
        split: the split that it is in.
        where: its file and line, of a row of today's data.
    """

    input_id: str
    row_id: str
    split: str
    where: str = ""


def put_data(artifacts: Artifacts, rows: Iterable[KnownRow]) -> str:
    """Keep the rows of all splits beside the lock; give their reference."""
    lines = sorted(f"{row.input_id} {row.row_id} {row.split}\n" for row in rows)
    return artifacts.put_bytes("data", "".join(lines).encode())


def get_data(artifacts: Artifacts, ref: str, data: Data) -> tuple[KnownRow, ...]:
    """Give the rows that `put_data` kept.

    Args:
        artifacts: The files beside the lock.
        ref: The reference that the lock has.
        data: What the lock says of the splits, which the rows must agree with.

    Raises:
        LockError: As `Artifacts.get_bytes`; with the line that is no row; and if these are other rows than those that
            the lock pins.
    """
    lines = artifacts.get_bytes(ref).decode("ascii", "replace").splitlines()
    rows = tuple(_read(artifacts, ref, number, line) for number, line in enumerate(lines, start=1))
    for split in SPLITS:
        if data_fingerprint(row.row_id for row in rows if row.split == split) != getattr(data, split):
            raise LockError(
                f"{artifacts.path(ref)} has other rows of the {split} split than the lock pins: {artifacts.repair}"
            )
    return rows


def _read(artifacts: Artifacts, ref: str, number: int, line: str) -> KnownRow:
    match = _LINE.fullmatch(line)
    if match is None:
        raise LockError(f"{artifacts.path(ref)}:{number}: is no row (two hashes and a split): {artifacts.repair}")
    return KnownRow(*match.groups())


def row_changes(before: Iterable[KnownRow], now: Iterable[KnownRow]) -> dict[str, str]:
    """Say what became of the rows of each split, as ``3 rows changed (tickets.jsonl:12, …), 1 added, 2 removed``.

    A row with the inputs of an earlier one has *changed*, one with new inputs was *added*, and one that was in
    another split has *moved*, whatever else became of it.

    Args:
        before: All rows, as they were.
        now: As they are, in the order in which their places are named.

    Returns:
        The words, by the field of the lock that differs (``data.test``).
    """
    found: dict[str, dict[str, list[KnownRow]]] = {split: defaultdict(list) for split in SPLITS}
    pairs, gone, come = _matched(before, now)
    for old, new in pairs:
        if old.split == new.split:
            found[new.split]["changed"].append(new)
        else:
            found[old.split][f"moved to {new.split}"].append(new)
            found[new.split][f"moved here from {old.split}"].append(new)
    for rows, kind in ((come, "added"), (gone, "removed")):
        for row in rows:
            found[row.split][kind].append(row)
    return {f"data.{split}": _words(kinds) for split, kinds in found.items() if kinds}


def changes_between(artifacts: Artifacts, old: Version, new: Version) -> dict[str, str]:
    """Say it of two versions, as `row_changes` does; nothing where the rows of one of them are not at hand."""
    was, is_now = old.artifacts.data, new.artifacts.data
    if was is None or is_now is None:
        return {}
    try:
        return row_changes(get_data(artifacts, was, old.data), get_data(artifacts, is_now, new.data))
    except LockError:  # of a commit whose files are not checked out
        return {}


def _matched(
    before: Iterable[KnownRow], now: Iterable[KnownRow]
) -> tuple[list[tuple[KnownRow, KnownRow]], list[KnownRow], list[KnownRow]]:
    """Rows that are not as they were, beside what they were; those that are gone; and those that have come.

    A row is first looked for as a whole, in another split, and then by its inputs.
    """
    pairs: list[tuple[KnownRow, KnownRow]] = []
    was, is_now = ({(row.row_id, row.split): row for row in rows} for rows in (before, now))
    gone = [row for key, row in was.items() if key not in is_now]
    come = [row for key, row in is_now.items() if key not in was]
    for identity in (attrgetter("row_id"), attrgetter("input_id")):
        left, unmatched = defaultdict[str, list[KnownRow]](list), list[KnownRow]()
        for row in gone:
            left[identity(row)].append(row)
        for row in come:
            if left[identity(row)]:
                pairs.append((left[identity(row)].pop(), row))
            else:
                unmatched.append(row)
        gone, come = [row for rows in left.values() for row in rows], unmatched
    return pairs, gone, come


def _words(kinds: Mapping[str, Sequence[KnownRow]]) -> str:
    (first, rows), *rest = sorted(kinds.items(), key=lambda kind: _ORDER.index(kind[0].partition(" ")[0]))
    counted = f"{len(rows)} {'row' if len(rows) == 1 else 'rows'} {first}{_places(rows)}"
    return ", ".join([counted, *(f"{len(rows)} {kind}{_places(rows)}" for kind, rows in rest)])


def _places(rows: Sequence[KnownRow]) -> str:
    """The first places of today's data; what is gone has none."""
    places = [row.where for row in rows if row.where]
    more = ", …" if len(places) > _SHOWN else ""
    return f" ({', '.join(places[:_SHOWN])}{more})" if places else ""

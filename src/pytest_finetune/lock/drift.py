"""What differs between an entry of the lock and what would be run now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pytest_finetune.errors import DriftError
from pytest_finetune.lock.model import Facts

_MEANING = {
    "base": "another model would be built from, or asked",
    "endpoint": "the locked model lives on the locked endpoint",
    "adapter": "prompts would be written in another way than those the model was built with",
    "recipe": "the stage would be built in another way",
    "optimizer": "the program would be optimized in another way",
    "seed": "the stage would be built from another seed",
    "fingerprints.metric": "the metric gives other scores, so the locked ones cannot be compared",
    "fingerprints.program": "the program in the tasks file is another one: its fields, their types, or its code",
    "fingerprints.prompt": "the model would be sent other messages than those it was built with",
    "data.train": "the rows it was built from have changed",
    "data.dev": "the rows it was tuned on have changed",
    "data.test": "the rows it was scored on have changed, so the locked scores cannot be compared",
    "data.salt": "rows would fall into other splits",
    "decoding": "answers would be drawn in another way",
    "params": "the stage would be built with other parameters",
}
_BUILT_FROM = ("recipe", "optimizer", "seed", "data.train", "data.dev", "params")
_SPLITS = ("train", "dev", "test")
_OF_ROWS = {f"data.{split}" for split in _SPLITS}
_COUNTS = {f"data.{split}_rows" for split in _SPLITS}

RowChanges: TypeAlias = "Callable[[], Mapping[str, str]]"
"""Says what became of the rows of each split that differs, by its field, where that is known."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One thing that differs.

    Attributes:
        field: its name, as ``data.test`` or ``decoding.temperature``.
        locked: what the lock says; None where it says nothing.
        now: what would be run; None where that is not set.
        message: what that means, in one sentence.
    """

    field: str
    locked: Any
    now: Any
    message: str

    @property
    def comparable(self) -> bool:
        """Whether the locked scores still say something: the stage was built differently, but runs the same."""
        return self.field.startswith(_BUILT_FROM)


def compare(locked: Facts, now: Facts, row_changes: RowChanges = dict) -> tuple[Drift, ...]:
    """Name every fact that differs, in the order of the lock.

    Args:
        locked: the entry of the lock.
        now: the same stage, from the tasks file and the data as they are.
        row_changes: is asked only if a split differs.
    """
    before, after = _flat(locked), _flat(now)
    fields = [
        field
        for field in dict.fromkeys([*before, *after])
        if before.get(field) != after.get(field) and field not in _COUNTS
    ]
    changes = row_changes() if not _OF_ROWS.isdisjoint(fields) else {}
    return tuple(
        Drift(field, before.get(field), after.get(field), _message(field, before, after, changes)) for field in fields
    )


def drift_error(locked: Facts, drifts: Sequence[Drift]) -> DriftError:
    """Make the error that names each field that differs, and what to do."""
    listed = "\n".join(f"  {drift.message}" for drift in drifts)
    frozen = ", or gate the lock as it is: --ft-frozen" if all(drift.comparable for drift in drifts) else ""
    return DriftError(
        f"{locked.task}/{locked.stage}: what would be run is not what the lock pins:\n{listed}\n"
        f"Undo the change, or build and gate again: pytest --ft-retrain --ft-task {locked.task}{frozen}"
    )


def _flat(facts: Facts) -> dict[str, Any]:
    held = facts.model_dump(include=set(Facts.model_fields) - {"task", "stage"}, exclude_none=True)
    return dict(_leaves("", held))


def _leaves(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value


def _message(field: str, before: Mapping[str, Any], after: Mapping[str, Any], changes: Mapping[str, str]) -> str:
    meaning = _MEANING.get(field) or _MEANING[field.partition(".")[0]]
    if field in _OF_ROWS:
        was, is_now = before[f"{field}_rows"], after[f"{field}_rows"]
        counts = f"{was} rows, now {is_now}" if was != is_now else f"{was} rows, some with other contents"
        return f"{field}: {changes.get(field, counts)}: {meaning}"
    if field.startswith("fingerprints."):
        return f"{field}: {meaning}"
    return f"{field}: locked {_shown(before.get(field))}, now {_shown(after.get(field))}: {meaning}"


def _shown(value: object) -> str:
    return "not set" if value is None else repr(value)

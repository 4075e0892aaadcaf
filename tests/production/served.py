"""A project as it is deployed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.conftest import make_rows

from pytest_finetune.lock import Entry, Event, Lock, State, Version, read_lock, write_lock
from pytest_finetune.production import load
from pytest_finetune.sandbox import Sandbox

ROWS = [(row["text"], row["department"]) for row in make_rows(11, test=40)]


@dataclass(frozen=True)
class Production:
    """The deployed files, and where the model is served."""

    path: Path
    provider: Sandbox

    @property
    def lock(self) -> Path:
        return self.path / "models.lock"

    @property
    def entry(self) -> Entry:
        return read_lock(self.lock).entry("tickets", "finetuned")

    def relock(self, entry: Entry) -> None:
        """Put another entry in the place of its stage's."""
        others = [one for one in read_lock(self.lock).models if (one.task, one.stage) != (entry.task, entry.stage)]
        write_lock(self.lock, Lock(model=(*others, entry)))

    def load(self, **options: Any) -> Any:
        return load(self.lock, "tickets", **{"base_url": self.provider.base_url, **options})

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.path / name).read_text(encoding="utf-8")
        assert old in text
        (self.path / name).write_text(text.replace(old, new), encoding="utf-8")


def in_state(version: Version, state: State, **changes: Any) -> Version:
    return version.model_copy(update={"state": state, **changes})


def entry_of(version: Version, previous: Iterable[Version] = ()) -> Entry:
    """A stage with these versions, and the history by which they came to their states."""
    versions = (version, *previous)
    fields = {name: getattr(version, name) for name in Version.model_fields}
    return Entry(**fields, previous=versions[1:], history=_history(versions))


def _history(versions: Sequence[Version]) -> tuple[Event, ...]:
    """The latest first: what is deprecated was in production before the version that is."""
    order = ("rolled_back", "retired", "deprecated", "production")
    lived = [version for version in reversed(versions) if version.state != "candidate"]
    lived.sort(key=lambda version: order.index(version.state))
    events = [
        Event(
            what="production" if version.state == "deprecated" else version.state,
            model=version.model,
            version=version.key,
            at=datetime(2026, 11, 21, hour, tzinfo=timezone.utc),
            by="Ada",
        )
        for hour, version in enumerate(lived)
        if version.state != "candidate"
    ]
    return tuple(reversed(events))


def promoted(entry: Entry) -> Entry:
    return entry_of(in_state(entry.version, "production"))

"""What a request handler can reach, and what it is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel

from .clock import Clock
from .errors import ApiError
from .faults import FaultKind, FaultPlan
from .jobs import Jobs
from .models import Models
from .runner import Runner
from .settings import Settings
from .state import State


class Identified(Protocol):
    """An object with an id."""

    id: str


Listed = TypeVar("Listed", bound=Identified)


@dataclass
class Services:
    """The parts of one server.

    Attributes:
        requests: Chat requests that arrived, by model and by the digest of their messages.
    """

    settings: Settings
    clock: Clock
    state: State
    faults: FaultPlan
    models: Models
    jobs: Jobs
    runner: Runner
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)

    @classmethod
    def build(cls, settings: Settings, folder: Path) -> Services:
        """The parts for these settings, with their state in this folder."""
        clock, state = Clock(settings.clock_speed), State(folder)
        models, jobs = Models(settings, state, clock), Jobs(settings, state, clock)
        return cls(settings, clock, state, FaultPlan(settings.seed), models, jobs, Runner(jobs, models))


@dataclass(frozen=True)
class Upload:
    """The file of a multipart request."""

    filename: str
    content: bytes


@dataclass(frozen=True)
class Call:
    """One request, checked.

    Attributes:
        services: The server's parts.
        path: The path's parameters.
        query: The query, as the operation's class.
        body: The JSON body or the form's fields, as the operation's class.
        content: The raw body.
        upload: The file, for a multipart request.
        fault: A fault that the handler itself has to act out.
    """

    services: Services
    path: dict[str, str]
    query: BaseModel | None
    body: BaseModel | None
    content: bytes
    upload: Upload | None
    fault: FaultKind | None


Params = TypeVar("Params", bound=BaseModel)


def expect(value: BaseModel | None, kind: type[Params]) -> Params:
    """The query or body as the class that the operation declares."""
    if not isinstance(value, kind):
        raise TypeError(f"the operation declares no {kind.__name__}")
    return value


def page(items: Iterable[Listed], after: str | None, limit: int) -> tuple[list[Listed], bool]:
    """One page of a list and whether more follows; nothing follows an id that is not in the list."""
    rest: Sequence[Listed] = list(items)
    if after is not None:
        ids = [item.id for item in rest]
        rest = rest[ids.index(after) + 1 :] if after in ids else []
    return list(rest[:limit]), len(rest) > limit


def found(value: Params | None, kind: str, identifier: str) -> Params:
    """The object, or the 404 that says there is none."""
    if value is None:
        raise ApiError(404, f"No such {kind} object: {identifier}", param="id")
    return value

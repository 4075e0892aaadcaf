"""Whether the models of a lock are still there, and until when: what endpoints tell of them without a paid call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, Any

from pytest_finetune.calls.failures import scrubbed
from pytest_finetune.endpoints import SANDBOX
from pytest_finetune.errors import FinetuneError
from pytest_finetune.lock.model import Entry, Version
from pytest_finetune.lock.tuned import Tuned
from pytest_finetune.workflow.drift import Trouble
from pytest_finetune.workflow.run import Run
from pytest_finetune.workflow.served import way_out

if TYPE_CHECKING:
    import openai
    from openai.types import Model

_DAY = 10  # characters of an ISO date, which a time may follow


@dataclass(frozen=True)
class _Use:
    """A model of a version that serves a stage, and the entry that it is of."""

    entry: Entry
    version: Version
    tuned: Tuned


def unserved(run: Run, today: date, notice: int) -> Iterator[Trouble]:
    """Models that are gone from their endpoint, or will be.

    Each is asked for once, whichever stages it serves. Asked for are the versions that are pinned, and those that
    production runs where these are others.

    Args:
        run: The run; its lock is looked at.
        today: The day, in UTC.
        notice: Days before its end from which on a model is warned of.
    """
    found = defaultdict[tuple[str, str, str], list[_Use]](list)
    for entry in run.accepted.models:
        if entry.task in run.tasks:
            for version in _in_use(entry):
                for tuned in version.models.values():
                    found[version.endpoint, tuned.model, tuned.asked_as].append(_Use(entry, version, tuned))
    for uses in found.values():
        if uses[0].version.endpoint != SANDBOX:
            yield from _of_model(run, uses, today, notice)


def _in_use(entry: Entry) -> tuple[Version, ...]:
    running = entry.in_state("production") or entry.version
    return (entry.version,) if running == entry.version else (entry.version, running)


def _of_model(run: Run, uses: Sequence[_Use], today: date, notice: int) -> Iterator[Trouble]:
    import openai

    entry, version, tuned = uses[0].entry, uses[0].version, uses[0].tuned
    names = ", ".join(dict.fromkeys(use.entry.name for use in uses))
    endpoint = run.endpoint(run.tasks[entry.task])
    where, instead = f"endpoint {endpoint.name!r}", way_out(entry, version)
    if endpoint.identity != version.endpoint:
        yield Trouble(
            f"{names}: {tuned.model!r} is on {version.endpoint}, which the task no longer names", error=False
        )
        return
    try:
        with run.connections.live(endpoint).client() as client:
            told = {name: _told(client, name) for name in dict.fromkeys((tuned.model, tuned.asked_as))}
    except (openai.OpenAIError, FinetuneError) as error:
        yield Trouble(f"{names}: {where} does not say whether it has {tuned.model!r}: {scrubbed(error)}")
        return
    known = [model for model in told.values() if model is not None]
    if not known:
        yield Trouble(f"{names}: {where} has no model {' and no '.join(map(repr, told))}: deploy it, or {instead}")
    elif told[tuned.asked_as] is None:
        said = f"{where} has {tuned.model!r}, and serves nothing as {tuned.asked_as!r}"
        yield Trouble(f"{names}: {said}: deploy it under that name", error=False)
    for model in known:
        yield from _of_end(f"{names}: {model.id!r}", _end(model), where, instead, today, notice)


def _of_end(
    what: str, end: date | str | None, where: str, instead: str, today: date, notice: int
) -> Iterator[Trouble]:
    if isinstance(end, str):
        yield Trouble(f"{what}: {where} says that its end is {end}, which is no date: ask its provider", error=False)
    elif end is not None and (left := (end - today).days) <= notice:
        told = f"is shut down in {left} days" if left > 0 else "has been shut down"
        yield Trouble(f"{what} {told} ({end}) by {where}: {instead}", error=left <= 0)


def _told(client: openai.OpenAI, name: str) -> Model | None:
    """What an endpoint tells of a model; None if it has none of that name. Some only list their models."""
    import openai

    try:
        return client.models.retrieve(name)
    except openai.NotFoundError:
        return next((model for model in client.models.list() if model.id == name), None)


def _end(model: Model) -> date | str | None:
    """The day from which a model answers no more; as text where it cannot be read, and None where nothing is said.

    OpenAI says ``shutdown_date`` (a day), Azure ``deprecation.inference`` (seconds since 1970), Mistral
    ``deprecation`` (a time).
    """
    more: Mapping[str, Any] = model.to_dict(warnings=False)  # openai 3 has a field for what 2 only passes on
    told = more.get("shutdown_date") or more.get("deprecation")
    told = told.get("inference") if isinstance(told, Mapping) else told
    if not told:
        return None
    try:
        if isinstance(told, str):
            return date.fromisoformat(told[:_DAY])
        return datetime.fromtimestamp(told, timezone.utc).date()
    except (ValueError, TypeError, OverflowError, OSError):
        return repr(told)

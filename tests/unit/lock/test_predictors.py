"""A version of several models, one for each predictor."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from pytest_finetune.errors import LockError
from pytest_finetune.lock import Entry, Lock, Tuned
from pytest_finetune.lock.file import parse_lock, render
from pytest_finetune.lock.life import Decision, promote, rollback
from pytest_finetune.lock.merge import merge_locks

MakeEntry = Callable[..., Entry]
PLACE = Path("models.lock")
NOON = 1795240000


def several(entry: MakeEntry, letter: str, **changes: Any) -> Entry:
    """A stage whose predictors ``find`` and ``steps[0]`` have models of their own."""
    refs = {"find": f"sha256:{letter * 64}", "steps[0]": f"sha256:{letter * 63}0"}
    job = {"id": f"ftjob-{letter}", "status": "succeeded", "finished_at": NOON + int(letter, 16)}
    fields = {
        "model": f"ft:find:{letter},ft:step:{letter}",
        "served_as": None,
        "job": None,
        "predictors": {
            "find": {"model": f"ft:find:{letter}", "job": job},
            "steps[0]": {"model": f"ft:step:{letter}"},
        },
        "artifacts": {"program": f"sha256:{letter * 64}", "predictors": refs, "training_rows": 40},
    }
    return entry(**{**fields, **changes})


def test_one_model_answers_for_all_predictors(entry: MakeEntry) -> None:
    one = entry()
    assert one.models == {"": Tuned(model=one.model, served_as=None, job=one.job)}
    assert one.artifacts.trainings == {"": one.artifacts.training}
    assert one.names == {one.model}
    assert entry(job=None, artifacts={"program": f"sha256:{'a' * 64}"}).artifacts.trainings == {}


def test_several_are_written_and_read_whole(entry: MakeEntry) -> None:
    lock = Lock(model=(several(entry, "b").replacing(several(entry, "a")),))
    text = render(lock)
    assert parse_lock(text, PLACE) == lock
    assert render(parse_lock(text, PLACE)) == text
    assert '[model.predictors."steps[0]"]' in text
    assert "[model.previous.predictors.find.job]" in text
    (held,) = lock.models
    assert list(held.models) == ["find", "steps[0]"]
    assert {*held.artifacts.trainings.values()} <= {*held.artifacts.refs()}
    assert held.trained_at == datetime.fromtimestamp(NOON + 11, timezone.utc)
    assert "predictors" not in render(Lock(model=(entry(),)))


def test_it_is_known_by_what_each_is_asked_by(entry: MakeEntry) -> None:
    models = {"find": {"model": "a", "served_as": "x"}, "steps[0]": {"model": "b"}}
    named = several(entry, "a", model="a,b", served_as="x,b", predictors=models)
    assert (named.asked_as, named.identity) == ("x,b", "a,b as x,b")
    assert named.names == {"a", "b", "x"}
    other = several(entry, "a", model="b,a", predictors={"find": {"model": "b"}, "steps[0]": {"model": "a"}})
    assert named.key != other.key


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "ft:find:a"},
        {"served_as": "elsewhere"},
        {"artifacts": {"program": f"sha256:{'a' * 64}", "training": f"sha256:{'b' * 64}"}},
    ],
)
def test_what_it_says_of_all_must_be_what_it_says_of_each(entry: MakeEntry, changes: dict[str, Any]) -> None:
    with pytest.raises(LockError, match="tickets/finetuned: its predictors have other models, or training files"):
        several(entry, "a", **changes)


def test_it_lives_as_one_version(entry: MakeEntry) -> None:
    moment = datetime.fromtimestamp(NOON, timezone.utc)
    first = promote(several(entry, "a"), Decision(moment, "ann"))
    second = promote(several(entry, "b").replacing(first), Decision(moment, "ann"))
    back = rollback(second, Decision(moment, "ann"), "ft:find:a,ft:step:a")
    assert back.models == first.models
    assert (back.state, back.previous[0].state) == ("production", "rolled_back")
    ours, theirs = Lock(model=(second,)), Lock(model=(several(entry, "c").replacing(first),))
    (merged,) = merge_locks(ours, theirs, Lock(model=(first,))).lock.models
    assert {version.model for version in merged.versions} == {f"ft:find:{x},ft:step:{x}" for x in "abc"}
    assert merged.models["find"].model == "ft:find:c"

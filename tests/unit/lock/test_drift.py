from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytest_finetune.lock import Entry, Facts, compare, drift_error

MakeEntry = Callable[..., Entry]
OTHER = "f" * 64


def table(entry: Entry, name: str, **changes: Any) -> dict[str, Any]:
    held: dict[str, Any] = getattr(entry, name).model_dump()
    return {name: held | changes}


@pytest.mark.parametrize(
    ("field", "change", "comparable"),
    [
        ("base", lambda _: {"base": "large"}, False),
        ("endpoint", lambda _: {"endpoint": "sandbox"}, False),
        ("adapter", lambda _: {"adapter": "json"}, False),
        ("recipe", lambda _: {"recipe": None}, True),
        ("optimizer", lambda _: {"optimizer": "gepa"}, True),
        ("seed", lambda _: {"seed": 8}, True),
        ("fingerprints.metric", lambda entry: table(entry, "fingerprints", metric=OTHER), False),
        ("fingerprints.program", lambda entry: table(entry, "fingerprints", program=OTHER), False),
        ("fingerprints.prompt", lambda entry: table(entry, "fingerprints", prompt=OTHER), False),
        ("data.train", lambda entry: table(entry, "data", train=OTHER, train_rows=3201), True),
        ("data.dev", lambda entry: table(entry, "data", dev=OTHER), True),
        ("data.test", lambda entry: table(entry, "data", test=OTHER), False),
        ("data.salt", lambda entry: table(entry, "data", salt="other"), False),
        ("decoding.temperature", lambda _: {"decoding": {"temperature": 0.7}}, False),
        ("decoding.top_p", lambda _: {"decoding": {"temperature": 0.0, "top_p": 0.9}}, False),
        ("params.n_epochs", lambda _: {"params": {"threshold": 0.5, "n_epochs": 4}}, True),
    ],
)
def test_each_difference_is_named(
    entry: MakeEntry, field: str, change: Callable[[Entry], dict[str, Any]], comparable: bool
) -> None:
    locked = entry()
    drifts = compare(locked, entry(**change(locked)))
    assert [drift.field for drift in drifts] == [field]
    assert drifts[0].comparable is comparable
    assert drifts[0].message.startswith(f"{field}: ")


def test_what_came_of_it_is_not_compared(entry: MakeEntry) -> None:
    now = entry(model="ft:other", score=None, job=None, gate=[], env={"dspy": "3.5.0"})
    assert compare(entry(), now) == ()


def test_facts_alone_are_enough(entry: MakeEntry) -> None:
    now = Facts.model_validate(entry().model_dump(include=set(Facts.model_fields)))
    assert compare(entry(), now) == ()


def test_a_parameter_that_is_none_is_one_that_is_not_set(entry: MakeEntry) -> None:
    assert compare(entry(), entry(decoding={"temperature": 0.0})) == ()


def test_the_error_names_them_all(entry: MakeEntry) -> None:
    locked = entry()
    now = entry(
        adapter="json",
        decoding={},
        **table(locked, "data", test=OTHER, test_rows=401),
        **table(locked, "fingerprints", metric=OTHER),
    )
    assert str(drift_error(locked, compare(locked, now))) == (
        "tickets/finetuned: what would be run is not what the lock pins:\n"
        "  adapter: locked 'chat', now 'json': prompts would be written in another way than those the model was "
        "built with\n"
        "  fingerprints.metric: the metric gives other scores, so the locked ones cannot be compared\n"
        "  data.test: 400 rows, now 401: the rows it was scored on have changed, so the locked scores cannot be "
        "compared\n"
        "  decoding.temperature: locked 0.0, now not set: answers would be drawn in another way\n"
        "Undo the change, or build and gate again: pytest --ft-retrain --ft-task tickets"
    )

"""Whether what answered is what is pinned: by the names that endpoints give."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.lock.conftest import make_entry
from tests.workflow.gating import Gating, claim

from pytest_finetune.core.records import Row, RowState
from pytest_finetune.errors import EvidenceError
from pytest_finetune.lock import Entry, read_lock
from pytest_finetune.workflow.accept import accept
from pytest_finetune.workflow.served import check_server, remarks_on_server, served_models, way_out

LADDER = tuple(claim(text) for text in ("finetuned >= prompt_optimized", "prompt_optimized >= baseline"))
TUNED = "ft:gpt-x:acme:tickets:0001"


def rows(*names: str | None) -> list[Row]:
    return [
        Row(f"{number:x}", "stage", 0, RowState.SCORED, score=1.0, served_model=name)
        for number, name in enumerate(names)
    ]


def tuned(**changes: Any) -> Entry:
    return make_entry(**{"model": TUNED, "base": "gpt-x-2026-01-01", **changes})


def plain(**changes: Any) -> Entry:
    return make_entry(**{"stage": "baseline", "model": "gpt-x", "base": "gpt-x", "job": None, **changes})


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("gpt-x", "gpt-x"),
        ("gpt-x-2026-05-01", "gpt-x"),
        ("gpt-x-20260501", "gpt-x"),
        ("gpt-x@20260501", "gpt-x"),
        ("gpt-x", "gpt-x-2026-01-01"),
        ("gpt-x-2026-05-01", "gpt-x-2026-01-01"),
        ("openai/gpt-x", "gpt-x"),
        ("llama-3", "meta/Llama-3"),
        (f"{TUNED}, gpt-x", "gpt-x"),
    ],
)
def test_a_fine_tuned_stage_that_its_base_answered_is_an_error(name: str, base: str) -> None:
    with pytest.raises(EvidenceError) as error:
        check_server(tuned(base=base), rows(TUNED, name, None))
    assert str(error.value) == (
        f"1 of 3 rows of stage 'finetuned' of task 'tickets' were answered by its base (the endpoint says {name!r}),"
        f" not by the pinned {TUNED!r}, first 1: see that the endpoint serves the model, drop these rows"
        " (pytest-finetune rows prune --stage finetuned), and run again"
    )


def test_a_name_that_was_accepted_does_not_excuse_the_base() -> None:
    with pytest.raises(EvidenceError, match="answered by its base"):
        check_server(tuned(served_models=["gpt-x-2026-05-01"]), rows("gpt-x-2026-05-01"))


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        (tuned(), TUNED),
        (tuned(), None),
        (tuned(), "gpt-x-mini"),
        (tuned(base="meta/llama-3", model="acme/llama-3"), "acme/llama-3"),
        (tuned(base="meta/llama-3", served_as="acme/llama-3"), "acme/llama-3"),
        (plain(), "gpt-x-2026-05-01"),
    ],
    ids=[
        "its id",
        "no name",
        "another model",
        "tuned under the same name",
        "served under the same name",
        "no tuning",
    ],
)
def test_nothing_else_is_taken_for_the_base(entry: Entry, name: str | None) -> None:
    check_server(entry, rows(name))


def test_a_tuned_model_that_is_served_by_the_name_of_its_base_cannot_be_told_from_it() -> None:
    with pytest.raises(EvidenceError, match="answered by its base"):
        check_server(tuned(base="gpt-x", served_as="gpt-x"), rows("gpt-x"))


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        (tuned(), [TUNED, None]),
        (tuned(served_as="tickets-v1"), ["tickets-v1", TUNED]),
        (tuned(served_as="tickets-v1"), ["tickets-v1-2026-05-01"]),
        (plain(), ["gpt-x", "gpt-x-2026-05-01"]),
        (plain(served_models=["gpt-x-2026-01-01"]), ["gpt-x-2026-01-01", "gpt-x", None]),
        (tuned(served_models=["somebody else"]), ["somebody else"]),
    ],
    ids=["its id", "its alias", "a snapshot of its alias", "a snapshot", "as it was accepted", "another, accepted"],
)
def test_nothing_is_remarked_where_all_is_as_pinned_or_accepted(entry: Entry, names: list[str | None]) -> None:
    assert remarks_on_server(entry, rows(*names)) == ()


def test_a_model_that_nobody_pinned_is_remarked() -> None:
    (remark,) = remarks_on_server(tuned(), rows(TUNED, "b", "a", "c, d"))
    assert remark == (
        "The endpoint says that stage 'finetuned' was answered by a, b, c, …, where the lock pins"
        f" {TUNED}: see that the endpoint serves what is pinned."
    )
    assert "answered by gpt-y, where the lock pins gpt-x" in remarks_on_server(plain(), rows("gpt-y"))[0]
    assert len(remarks_on_server(plain(model="gpt-x-2026-01-01"), rows("gpt-x-2026-05-01"))) == 1


def test_a_swapped_base_model_is_remarked() -> None:
    entry = plain(served_models=["gpt-x-2026-01-01"])
    (remark,) = remarks_on_server(entry, rows("gpt-x-2026-01-01", "gpt-x-2026-05-01"))
    assert remark == (
        "The endpoint says that stage 'baseline' was answered by gpt-x-2026-05-01; it was gpt-x-2026-01-01 when it"
        " was accepted, so that 'gpt-x' may be another model now. To accept it, build and gate again: pytest"
        " --ft-retrain --ft-task tickets"
    )


def test_the_lock_keeps_the_names_that_say_something() -> None:
    entry = tuned(served_as="tickets-v1")
    assert served_models(entry, rows("b", "tickets-v1", None, f"a, {TUNED}", "b")) == ("a", "b")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "build anew: pytest --ft-retrain --ft-task tickets"),
        ({"model": "gpt-x", "base": "gpt-x"}, "name another model in the tasks file, and build anew: "),
        (
            {"previous": ["ft:before"]},
            "go back to an earlier version: pytest-finetune rollback tickets; or build anew: ",
        ),
        ({"previous": ["ft:before"], "state": "retired"}, "build anew: "),
        ({"previous": [TUNED]}, "build anew: "),
    ],
)
def test_without_a_model_there_is_a_way_out(changes: dict[str, object], said: str) -> None:
    given = dict(changes)
    state, models = given.pop("state", "deprecated"), given.pop("previous", [])
    assert isinstance(models, list)
    entry = tuned(**given)
    held = entry.version.model_dump(exclude_none=True)
    previous = [held | {"model": model, "state": state} for model in models]
    pinned = tuned(**given, previous=previous)
    assert way_out(pinned, pinned).startswith(said)


def test_what_answered_is_kept_when_it_is_accepted_and_a_swap_shows(gating: Gating) -> None:
    def say(name: str) -> None:
        gating.sql(f"UPDATE prediction SET served_model = '{name}' WHERE stage = 'baseline'")  # noqa: S608  # our own

    say("sandbox-small-2026-01-01")
    with gating.run(*LADDER) as run:
        results = [run.gate.judge(scoped, policy) for scoped, policy in LADDER]
        accept(run, "tickets", results)
    lock = read_lock(gating.project.lock)
    assert lock.entry("tickets", "baseline").served_models == ("sandbox-small-2026-01-01",)
    assert lock.entry("tickets", "finetuned").served_models == ()
    assert [result.remarks for result in gating.judge(*LADDER)] == [(), ()]

    say("sandbox-small-2026-05-01")
    tuned, plain = gating.judge(*LADDER)
    assert tuned.remarks == ()
    assert [remark.partition("; ")[2].partition(",")[0] for remark in plain.remarks] == [
        "it was sandbox-small-2026-01-01 when it was accepted"
    ]

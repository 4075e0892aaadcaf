from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from tests.unit.lock.lives import LIVES, NOON, Action, decided, lived, patient, version

from pytest_finetune.errors import LockError
from pytest_finetune.lock import Entry, Lock
from pytest_finetune.lock.file import parse_lock, render
from pytest_finetune.lock.life import check_states, promote, retire, rollback, with_history
from pytest_finetune.lock.merge import merge_locks


def of(*actions: str) -> Entry:
    """A stage after ``retrain 1``, ``promote``, …"""
    life: list[Action] = [(what, "a", letter or "1") for what, _, letter in (text.partition(" ") for text in actions)]
    return lived(Lock(), life).entry("a", "finetuned")


ANEW = (
    "to build another, change its rows, seed= or hyperparameters= in the tasks file, then"
    " pytest --ft-retrain --ft-task a"
)
SERVING = "ft:1 is in production, and something else must be first"


def told(entry: Entry) -> list[str]:
    return [f"{version.model} {version.state}" for version in entry.versions]


def events(entry: Entry) -> list[str]:
    return [f"{event.model} {event.what}" for event in entry.history]


def test_what_is_promoted_takes_the_place_of_what_was_in_production() -> None:
    entry = of("retrain 1", "promote", "retrain 2")
    assert told(entry) == ["ft:2 candidate", "ft:1 production"]
    promoted = promote(entry, decided(9, reason="cheaper"))
    assert told(promoted) == ["ft:2 production", "ft:1 deprecated"]
    event = promoted.history[0]
    assert (event.what, event.model, event.version) == ("production", "ft:2", promoted.key)
    assert (event.at, event.by, event.commit, event.reason) == (
        NOON + timedelta(minutes=9),
        "Ada",
        "7f61883",
        "cheaper",
    )
    assert promoted.history[1:] == entry.history


def test_a_rollback_leaves_a_candidate_for_what_is_in_production() -> None:
    entry = rollback(of("retrain 1", "promote", "retrain 2"), decided(9))
    assert told(entry) == ["ft:1 production", "ft:2 rolled_back"]
    assert events(entry) == ["ft:1 production", "ft:2 rolled_back", "ft:1 production"]


def test_a_rollback_leaves_what_is_in_production_for_what_was_there_before() -> None:
    entry = of("retrain 1", "promote", "retrain 2", "promote", "retrain 3", "promote")
    back = rollback(entry, decided(9))
    assert told(back) == ["ft:2 production", "ft:3 rolled_back", "ft:1 deprecated"]
    assert told(rollback(back, decided(10))) == ["ft:1 production", "ft:2 rolled_back", "ft:3 rolled_back"]


def test_a_rollback_goes_to_any_earlier_version_and_forward_again() -> None:
    entry = of("retrain 1", "promote", "retrain 2", "promote", "retrain 3")
    back = rollback(entry, decided(9), "ft:1")
    assert told(back) == ["ft:1 production", "ft:3 rolled_back", "ft:2 rolled_back"]
    assert (back.artifacts.program, back.previous[1].artifacts.program) == (
        f"sha256:{'1' * 64}",
        f"sha256:{'2' * 64}",
    )
    assert told(rollback(back, decided(10), "ft:2"))[0] == "ft:2 production"


def test_what_was_rolled_back_can_be_promoted_when_it_is_pinned_again() -> None:
    entry = of("retrain 1", "promote", "retrain 2", "promote", "rollback 1", "retrain 2")
    assert told(entry) == ["ft:2 rolled_back", "ft:1 production"]
    assert told(promote(entry, decided(9))) == ["ft:2 production", "ft:1 deprecated"]


def test_what_is_retired_is_no_version_to_promote_or_go_back_to() -> None:
    entry = of("retrain 1", "promote", "retrain 2", "promote")
    retired = retire(entry, "ft:1", decided(9))
    assert told(retired) == ["ft:2 production", "ft:1 retired"]
    refusal = f"a/finetuned: ft:1 was retired on 21 Nov 2026 by Ada, and must not serve again: {ANEW}"
    pinned = retire(of("retrain 1"), "ft:1", decided(9))
    hotter = version("a", "1").model_copy(update={"decoding": {"temperature": 0.7}})
    refused: list[Callable[[], Entry]] = [
        lambda: rollback(retired, decided(10), "ft:1"),
        lambda: promote(pinned, decided(10)),
        lambda: retire(retired, "ft:1", decided(10)),
        lambda: version("a", "1").replacing(retired),
        lambda: version("a", "1").replacing(pinned),
        lambda: hotter.replacing(retired),
    ]
    for step in refused:
        with pytest.raises(LockError, match=f"^{re.escape(refusal)}$"):
            step()


def test_what_is_retired_of_a_base_model_is_its_program() -> None:
    """The model goes on in other stages, and with other prompts."""
    first, second = (version("a", letter).model_copy(update={"model": "small"}) for letter in "12")
    entry = retire(first, "small", decided(9))
    with pytest.raises(LockError) as error:
        first.replacing(entry)
    assert str(error.value) == (
        "a/finetuned: small was retired on 21 Nov 2026 by Ada, and must not serve again: to build another, name"
        " another model in the tasks file, or change its program or optimizer, then pytest --ft-retrain --ft-task a"
    )
    assert told(second.replacing(entry)) == ["small candidate", "small retired"]


def test_only_what_is_pinned_is_a_candidate_to_be_loaded() -> None:
    entry = of("retrain 1", "retrain 2")
    assert told(entry) == ["ft:2 candidate", "ft:1 candidate"]
    assert entry.in_state("candidate") == entry.version
    assert promote(entry, decided(9)).in_state("candidate") is None


def test_what_was_in_production_last_is_the_one_to_go_back_to() -> None:
    """Whichever was trained later: a merge sorts earlier versions by that."""
    early = [("retrain", "a", "2"), ("promote", "a", ""), ("retrain", "a", "1"), ("promote", "a", "")]
    late = [("retrain", "a", "3"), ("promote", "a", "")]
    branches = [lived(lived(Lock(), early), life, start=10, by=by) for life, by in ((late, "Ada"), ([], "Grace"))]
    merged = merge_locks(*branches).lock.entry("a", "finetuned")
    assert told(merged) == ["ft:3 production", "ft:2 deprecated", "ft:1 deprecated"]
    assert merged.in_state("deprecated") == merged.previous[1]
    assert told(rollback(merged, decided(20)))[0] == "ft:1 production"


def test_refusals_say_what_to_do() -> None:
    entry = of("retrain 1", "promote")
    newer = retire(of("retrain 1", "retrain 2"), "ft:1", decided(8))
    known = "ft:1 (retired), ft:2 (candidate), which is pinned"
    refused: dict[str, Callable[[], Entry]] = {
        "ft:1 is in production already": lambda: promote(entry, decided(9)),
        f"there is no version before ft:1 to go back to: {ANEW}": lambda: rollback(entry, decided(9)),
        f"there is no version before ft:2 to go back to: {ANEW}": lambda: rollback(newer, decided(9)),
        "no earlier version was in production: name the one to go back to: the lock has ft:1 (candidate), ft:2"
        " (candidate), which is pinned": lambda: rollback(of("retrain 1", "retrain 2"), decided(9)),
        f"there is no such version 'ft:2': the lock has {known}": lambda: rollback(newer, decided(9), "ft:2"),
        f"{SERVING}: {ANEW} and pytest-finetune promote a": lambda: retire(entry, "ft:1", decided(9)),
        f"{SERVING}: put the pinned version into production: pytest-finetune promote a": lambda: retire(
            of("retrain 1", "promote", "retrain 2"), "ft:1", decided(9)
        ),
        f"{SERVING}: go back to an earlier version: pytest-finetune rollback a ft:2": lambda: retire(
            of("retrain 2", "retrain 1", "promote"), "ft:1", decided(9)
        ),
    }
    for message, step in refused.items():
        with pytest.raises(LockError) as error:
            step()
        assert str(error.value) == f"a/finetuned: {message}"


def test_the_stage_is_in_the_commands_that_are_advised() -> None:
    stage = {"stage": "prompt_optimized"}
    older, serving = (version("a", letter).model_copy(update=stage) for letter in "21")
    entry = promote(serving.replacing(older), decided(1))
    with pytest.raises(LockError, match=r"pytest-finetune rollback a ft:2 --stage prompt_optimized$"):
        retire(entry, "ft:1", decided(9))


def test_versions_of_one_model_are_told_by_their_keys() -> None:
    first, second = (version("a", letter).model_copy(update={"model": "small"}) for letter in "12")
    entry = version("a", "3").replacing(second.replacing(first))
    with pytest.raises(LockError) as error:
        rollback(entry, decided(9), "small")
    assert str(error.value) == (
        "a/finetuned: several versions have the model 'small': name one by its key:"
        f" {second.key[:12]} (candidate) or {first.key[:12]} (candidate)"
    )
    with pytest.raises(LockError, match=f"no such version '{first.key[:6]}'"):
        rollback(entry, decided(9), first.key[:6])
    back = rollback(entry, decided(9), first.key[:12])
    assert told(back) == ["small production", "ft:3 rolled_back", "small candidate"]


def test_a_clock_that_is_behind_does_not_turn_the_history_round() -> None:
    entry = of("retrain 1", "promote", "retrain 2")
    promoted = promote(entry, decided(-60))
    assert [event.at - NOON for event in promoted.history] == [timedelta(minutes=1, seconds=1), timedelta(minutes=1)]
    assert told(promoted) == ["ft:2 production", "ft:1 deprecated"]


def test_a_state_that_was_written_by_hand_is_refused() -> None:
    entry = of("retrain 1", "promote", "retrain 2")
    check_states(entry)
    by_hand = entry.model_copy(update={"state": "production"})
    with pytest.raises(LockError) as error:
        check_states(by_hand)
    assert str(error.value) == (
        "a/finetuned: the lock calls ft:2 production, by its history it is candidate: take back the committed lock"
        " with git checkout, and use pytest-finetune promote, rollback or retire"
    )


@patient
@given(LIVES)
def test_the_history_alone_says_what_serves(life: list[Action]) -> None:
    """States are in the file for people; whatever was done, they follow from the history, and one version serves."""
    for entry in lived(Lock(), life).models:
        check_states(entry)
        assert with_history(entry, entry.history) == entry
        assert sum(one.state == "production" for one in entry.versions) <= 1


@patient
@given(LIVES)
def test_no_version_is_lost_and_every_lock_can_be_read_back(life: list[Action]) -> None:
    lock = lived(Lock(), life)
    built = {(task, f"ft:{letter}") for what, task, letter in life if what == "retrain"}
    assert {(entry.task, one.model) for entry in lock.models for one in entry.versions} == built
    assert parse_lock(render(lock), Path("models.lock")) == lock

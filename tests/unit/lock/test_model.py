from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, get_args

import pydantic
import pytest
from tests.unit.lock.conftest import sha

from pytest_finetune.core.claims import ScopedClaim, parse
from pytest_finetune.core.gate import judge, settle
from pytest_finetune.core.records import Evidence, Inconclusive, Pair, Policy, Scope, Tier
from pytest_finetune.core.results import Result
from pytest_finetune.errors import LockError, UsageError
from pytest_finetune.lock import Entry, Lock, SettledClaim, State

MakeEntry = Callable[..., Entry]
STATE = {"program": f"sha256:{'0' * 64}"}


def test_what_served_before_stays_in_the_entry(entry: MakeEntry) -> None:
    first, second = entry(model="ft:1"), entry(model="ft:2", artifacts=STATE, job=None)
    lock = Lock(model=(first,)).with_entries([second]).with_entries([entry(model="ft:3")])
    assert lock.models[0].previous == (second.version, first.version)
    assert lock.models[0].versions == (entry(model="ft:3").version, second.version, first.version)


def test_what_is_new_to_a_stage_is_a_candidate_and_what_serves_goes_on(entry: MakeEntry) -> None:
    lock = Lock(model=(entry(model="ft:1", state="production"),))
    newer = lock.with_entries([entry(model="ft:2", state="production")]).models[0]
    assert [(version.model, version.state) for version in newer.versions] == [
        ("ft:2", "candidate"),
        ("ft:1", "production"),
    ]
    serving = newer.in_state("production")
    assert serving is not None
    assert (serving.model, newer.in_state("retired")) == ("ft:1", None)


@pytest.mark.parametrize("state", sorted({*get_args(State)} - {"retired"}))
def test_a_version_that_is_accepted_again_keeps_its_state(entry: MakeEntry, state: State) -> None:
    lock = Lock(model=(entry(model="ft:1", state=state),))
    assert lock.with_entries([entry(model="ft:1")]).models[0].state == state
    back = lock.with_entries([entry(model="ft:2")]).with_entries([entry(model="ft:1")]).models[0]
    assert [(version.model, version.state) for version in back.versions] == [("ft:1", state), ("ft:2", "candidate")]


OTHER = "0" * 64
"""A fingerprint of something else."""


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "ft:2"},
        {"served_as": "tickets-v2"},
        {"endpoint": "elsewhere https://models.example/v1"},
        {"adapter": "json"},
        {"decoding": {"temperature": 0.7}},
        {"fingerprints": {"metric": OTHER, "program": OTHER, "prompt": OTHER}},
        {"artifacts": STATE},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_answers_otherwise_is_another_version(entry: MakeEntry, changes: dict[str, Any]) -> None:
    """It was never promoted, so it does not serve; and what serves is not lost."""
    serving = entry(state="production")
    newer = Lock(model=(serving,)).with_entries([entry(**changes)]).models[0]
    assert newer.state == "candidate"
    assert newer.in_state("production") == serving.version


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "retired"},
        {"seed": 8},
        {"score": None},
        {"gate": []},
        {"job": None},
        {"env": {}},
        {"fingerprints": {"metric": OTHER, "program": sha("program"), "prompt": OTHER}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_answers_alike_is_the_same_version(entry: MakeEntry, changes: dict[str, Any]) -> None:
    assert entry(**changes).key == entry().key


def test_two_versions_in_production_are_refused(entry: MakeEntry) -> None:
    serving = entry(model="ft:1", state="production").version
    with pytest.raises(LockError) as error:
        Lock(model=(entry(model="ft:2", state="production", previous=[serving]),))
    assert str(error.value) == (
        "tickets/finetuned: ft:2 and ft:1 are both in production, where one version may be: take back the committed"
        ' lock with git checkout, or write state = "deprecated" with the one that is not to serve'
    )


def test_a_version_of_another_stage_is_refused(entry: MakeEntry) -> None:
    with pytest.raises(
        LockError, match=r"^tickets/finetuned: one of its \[\[model.previous\]\] is of tickets/teacher: "
    ):
        Lock(model=(entry(previous=[entry(stage="teacher").version]),))


def test_the_same_thing_again_is_no_history(entry: MakeEntry) -> None:
    lock = Lock(model=(entry(model="ft:1"),)).with_entries([entry(model="ft:2")])
    again = entry(model="ft:2", score={"mean": 0.5, "n": 4})
    assert lock.with_entries([again]).models == (again.model_copy(update={"previous": lock.models[0].previous}),)


def test_a_stage_that_is_not_there_is_told_with_those_that_are(entry: MakeEntry) -> None:
    lock = Lock(model=(entry("a", "baseline"), entry("a", "finetuned"), entry("b")))
    assert lock.entry("a", "finetuned") == entry("a", "finetuned")
    with pytest.raises(LockError) as task:
        lock.of_task("c")
    assert str(task.value) == "the lock has no task 'c' (it has a, b): pytest --ft-retrain --ft-task c"
    with pytest.raises(LockError) as stage:
        lock.entry("a", "teacher")
    assert str(stage.value) == (
        "the lock has no stage 'teacher' of task 'a' (it has baseline, finetuned): pytest --ft-retrain --ft-task a"
    )


def test_settings_are_kept_as_toml_can_hold_them(entry: MakeEntry) -> None:
    kept = entry(params={"z": 1, "a": {"y": None, "b": (1, 2)}, "n": None}).params
    assert kept == {"a": {"b": [1, 2]}, "z": 1}
    assert list(kept) == ["a", "z"]


@pytest.mark.parametrize("value", [[1, None], float("nan"), object()])
def test_settings_that_toml_cannot_hold_are_refused(entry: MakeEntry, value: Any) -> None:
    with pytest.raises(UsageError):
        entry(params={"a": value})


@pytest.mark.parametrize(
    "changes",
    [
        {"task": ""},
        {"model": ""},
        {"artifacts": {"program": "../../etc/passwd"}},
        {"artifacts": {"program": f"sha256:{'0' * 64}\n"}},
        {"fingerprints": {"metric": "", "program": "", "prompt": ""}},
        {"model": "half a \ud800 character"},
    ],
)
def test_an_entry_that_says_nothing_is_refused(entry: MakeEntry, changes: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        entry(**changes)


def test_figures_are_rounded_and_times_are_utc_to_the_second(entry: MakeEntry) -> None:
    made = entry(
        score={"mean": 2 / 3, "n": 3},
        job={"id": "j", "status": "succeeded", "created_at": "2026-01-01T01:00:00.9+01:00"},
    )
    assert made.score is not None
    assert made.score.mean == 0.666667
    assert made.job is not None
    assert made.job.created_at == datetime(2026, 1, 1, tzinfo=timezone.utc)


def test_a_claim_is_noted_as_it_was_settled() -> None:
    (claim,) = parse("finetuned >= baseline")
    pairs = tuple(Pair(f"{number:016x}", 1.0, float(number % 2)) for number in range(100))
    verdict = judge(claim, Evidence(pairs), Policy(margin=0.02))
    policy = Policy(inconclusive=Inconclusive.FAIL, tier=Tier.SUPPORTING)
    rows, keys = [f"sha256:{letter * 64}" for letter in "bab"], [letter * 64 for letter in "dcd"]
    scope = Scope(by="label", suite="safety", repeats=2, max_rows=150)
    scoped = ScopedClaim("tickets", claim, scope)
    result = Result(
        "tickets", str(scoped), claim.measure, verdict, settle(verdict, policy), policy, scope, seen=101, scores=()
    )
    noted = SettledClaim.of(result, rows, keys, 3)
    assert (noted.text, noted.scope) == ("finetuned >= baseline", replace(scope, max_rows=101))
    assert noted.model_dump(exclude={"lower", "upper"}) == {
        "claim": "finetuned >= baseline by label on safety",
        "outcome": "PASS",
        "held": True,
        "method": "tango",
        "estimate": 0.5,
        "margin": 0.02,
        "alpha": 0.05,
        "n": 100,
        "inconclusive": "fail",
        "tier": "supporting",
        "rows": (rows[1], rows[0]),
        "versions": (keys[1], keys[0]),
        "by": "label",
        "suite": "safety",
        "repeats": 2,
        "seen": 101,
        "planned": None,
        "locked": None,
        "claims": 3,
    }

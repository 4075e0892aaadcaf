"""What a task was accepted on is judged once more on what is kept of it, before it is promoted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.workflow.gating import Gating, claim
from tests.workflow.test_suites import write_suites

from pytest_finetune.core.records import Method, Outcome, Policy, Tier
from pytest_finetune.errors import FinetuneError, LockError
from pytest_finetune.lock import Artifacts, Entry, Lock, SettledClaim, read_lock, write_lock
from pytest_finetune.workflow import life
from pytest_finetune.workflow.accept import accept
from pytest_finetune.workflow.evaluations import Expected
from pytest_finetune.workflow.settings import read_settings

EVERY = Policy(margin=0.02, tier=Tier.ADVISORY)  # whatever comes of it


@pytest.fixture(autouse=True)
def _forget_the_tasks_file() -> Iterator[None]:
    yield
    sys.modules.pop("finetune_tasks", None)


def accepted(gating: Gating, *claims: Expected, **settings: Any) -> tuple[SettledClaim, ...]:
    """What the fine-tuned stage was accepted on, if it is on these claims."""
    with gating.run(*claims, retrain=True, **settings) as run:
        accept(run, "tickets", [run.gate.judge(scoped, policy) for scoped, policy in claims])
    return pinned(gating).gate


def pinned(gating: Gating) -> Entry:
    return read_lock(gating.project.lock).entry("tickets", "finetuned")


def promote(gating: Gating) -> tuple[str, ...]:
    return life.promote(read_settings(gating.project.path, environment={}), "tickets", observed=True).remarks


def edit(gating: Gating, old: SettledClaim, **changes: Any) -> None:
    """Change a claim as somebody may by hand, wherever it stands."""
    new = old.model_copy(update=changes)
    lock = read_lock(gating.project.lock)
    gates = [tuple(new if one == old else one for one in entry.gate) for entry in lock.models]
    entries = (entry.model_copy(update={"gate": of}) for entry, of in zip(lock.models, gates, strict=True))
    write_lock(gating.project.lock, Lock(model=tuple(entries)))


CLAIMS: dict[str, tuple[Expected, dict[str, Any]]] = {
    "slices": (claim("finetuned >= baseline", EVERY, by="department"), {}),
    "a suite": (claim("finetuned >= baseline", EVERY, suite="account"), {}),
    "slices of a suite with a program": (claim("finetuned >= 0.5", EVERY, suite="tone", by="polite"), {}),
    "tokens": (claim("tokens(finetuned) <= 0.9 * tokens(prompt_optimized)", EVERY), {}),
    "a percentile": (claim("tokens_p90(finetuned) <= 40", EVERY), {}),
    "format errors": (claim("format_errors(finetuned) <= 0.1", EVERY), {}),
    "what was accepted": (claim("finetuned >= locked - 0.01", EVERY), {}),
    "some rows": (claim("finetuned >= baseline", EVERY, max_rows=50), {}),
    "repeats": (claim("finetuned >= 0.5", EVERY, repeats=2), {}),
    "what may stop early": (claim("finetuned >= baseline", EVERY), {"stop_early": True}),
}


@pytest.mark.parametrize(("expected", "settings"), CLAIMS.values(), ids=CLAIMS)
def test_every_claim_is_judged_once_more_as_the_gate_did(
    gating: Gating, expected: Expected, settings: dict[str, Any]
) -> None:
    write_suites(gating.project)
    (settled,) = accepted(gating, expected, **settings)
    assert settled.claim == str(expected[0])
    wrong = Outcome.PASS if settled.outcome is not Outcome.PASS else Outcome.INCONCLUSIVE
    edit(gating, settled, outcome=wrong, held=True)
    with pytest.raises(LockError, match=f"its rows say {settled.outcome} with .*: one of them was edited"):
        promote(gating)
    edit(gating, pinned(gating).gate[0], outcome=settled.outcome, held=settled.held)
    assert promote(gating) == (
        f"It rests on the claims that it was accepted on: {settled.claim} ({settled.outcome}, n={settled.n}).",
    )
    assert gating.asked.keys() <= {"sandbox-small", "tuned"}


def test_a_run_that_stopped_early_is_judged_by_the_rows_that_it_saw(gating: Gating) -> None:
    (settled,) = accepted(gating, claim("finetuned >= baseline", EVERY), stop_early=True)
    assert (settled.method, settled.planned) == (Method.BETTING, 320)
    assert (settled.seen or 0) < 320
    assert settled.n == settled.seen


def test_the_rows_accepted_before_are_those_of_an_earlier_version(gating: Gating) -> None:
    before = pinned(gating)
    (settled,) = accepted(gating, claim("finetuned >= locked - 0.01", EVERY))
    assert settled.locked == before.artifacts.rows
    edit(gating, settled, locked=f"sha256:{'0' * 64}")
    with pytest.raises(LockError, match="was compared with rows that no version in the lock was accepted on"):
        promote(gating)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ({}, "its rows say PASS with .* on 319: one of them was edited"),
        ({"metric": "0" * 64}, "the metric changed since"),
    ],
)
def test_it_is_compared_with_that_version_if_it_can_be(gating: Gating, metric: dict[str, str], said: str) -> None:
    (settled,) = accepted(gating, claim("finetuned >= locked - 0.01", EVERY))
    entry, artifacts = pinned(gating), Artifacts.beside(gating.project.lock)
    ref = artifacts.put_rows(artifacts.get_rows(entry.artifacts.rows or "", "finetuned")[1:])
    files = entry.artifacts.model_copy(update={"rows": ref})
    prints = entry.fingerprints.model_copy(update=metric)
    older = entry.version.model_copy(update={"model": "ft:older", "artifacts": files, "fingerprints": prints})
    changed = entry.model_copy(update={"previous": (older,)})
    write_lock(gating.project.lock, read_lock(gating.project.lock).with_stage(changed))
    edit(gating, settled, locked=ref)
    with pytest.raises(LockError, match=said):
        promote(gating)


def test_a_suite_that_has_changed_since_is_noticed(gating: Gating) -> None:
    write_suites(gating.project)
    accepted(gating, claim("finetuned >= 0.1", EVERY, suite="tone"))
    gating.project.edit("finetune_tasks.py", 'prediction.polite == "no"', 'prediction.polite != "no"')
    with pytest.raises(FinetuneError) as error:
        promote(gating)
    assert str(error.value) == (
        "tickets/finetuned: what it was accepted on has changed: the rows of suite 'tone', their metric or their"
        " program: gate it again with pytest --ft-retrain --ft-task tickets"
    )

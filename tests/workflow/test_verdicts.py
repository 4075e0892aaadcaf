"""Whether recorded verdicts carry a promotion: on rows that are made up, beside no project."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.unit.lock.conftest import make_entry, sha

from pytest_finetune.core.claims import ScopedClaim, parse
from pytest_finetune.core.evidence import pair_rows
from pytest_finetune.core.gate import judge, settle
from pytest_finetune.core.records import (
    Evidence,
    Inconclusive,
    Method,
    Outcome,
    Policy,
    Row,
    RowState,
    Scope,
    Tier,
    Usage,
)
from pytest_finetune.core.results import Result
from pytest_finetune.errors import EvidenceError, LockError
from pytest_finetune.lock import Entry, SettledClaim
from pytest_finetune.workflow.verdicts import Verdicts

IDS = [f"{number:04x}" for number in range(200)]
BETTER = "finetuned >= baseline"
LADDER = Policy(margin=0.02)
REFS = {stage: f"sha256:{sha(stage)}" for stage in ("baseline", "finetuned")}


def rows_of(stage: str) -> tuple[Row, ...]:
    right = 3 if stage == "finetuned" else 2
    return tuple(
        Row(row_id, stage, 0, RowState.SCORED, float(hash_of(row_id) % 4 < right), usage=Usage(right, 1), latency=1.0)
        for row_id in IDS
    )


def hash_of(row_id: str) -> int:
    number = int(row_id, 16)
    return number * number // 7


def evidence_of(scoped: ScopedClaim) -> Evidence:
    """What the rows say, as the gate pairs them."""
    claim = scoped.claim
    left, *right = (rows_of(stage) for stage in claim.stages)
    parts = {row_id: str(hash_of(row_id) % 2) for row_id in IDS} if scoped.scope.by else None
    return pair_rows(claim, left, *right, row_ids=IDS[: scoped.scope.max_rows], parts=parts)


@dataclass(frozen=True)
class Rows:
    """The rows of both stages, as they were kept."""

    def evidence(self, scoped: ScopedClaim, settled: SettledClaim) -> Evidence:
        evidence = evidence_of(replace(scoped, scope=replace(scoped.scope, max_rows=settled.seen)))
        return replace(evidence, planned=settled.planned)


def entry(stage: str, *gate: SettledClaim) -> Entry:
    files = {"program": f"sha256:{'0' * 64}", "rows": REFS[stage]}
    return make_entry(stage=stage, model=f"model of {stage}", artifacts=files, gate=gate)


def settled(
    text: str = BETTER,
    policy: Policy = LADDER,
    *,
    claims: int = 1,
    planned: int | None = None,
    **scope: Any,
) -> SettledClaim:
    """A claim as the gate settles it."""
    (claim,) = parse(text)
    scoped = ScopedClaim("tickets", claim, Scope(**scope))
    evidence = replace(evidence_of(scoped), planned=planned)
    verdict = judge(claim, evidence, policy)
    settlement = settle(verdict, policy)
    seen = evidence.n_expected
    result = Result("tickets", str(scoped), claim.measure, verdict, settlement, policy, scoped.scope, seen, scores=())
    refs, keys = [REFS[stage] for stage in claim.stages], [entry(stage).key for stage in claim.stages]
    return SettledClaim.of(result, refs, keys, claims)


def check(*gate: SettledClaim, observed: bool = False, others: tuple[SettledClaim, ...] | None = None) -> str:
    """What is said of a stage that was accepted on these claims; the other stage has those that name it."""
    also = tuple(claim for claim in gate if "baseline" in claim.claim) if others is None else others
    stage = entry("finetuned", *gate)
    return "\n".join(Verdicts(stage, (entry("baseline", *also), stage), Rows(), REPAIR).check(observed=observed))


def edited(claim: SettledClaim, /, **changes: Any) -> SettledClaim:
    return claim.model_copy(update=changes)


REPAIR = "take it back"
AGAIN = "gate it again with pytest --ft-retrain --ft-task tickets, or where a candidate waits with pytest --ft-accept"


def test_what_is_certified_on_the_pinned_rows_carries_and_is_told() -> None:
    texts = BETTER, "finetuned >= 0.5", "0.9 * finetuned >= baseline"
    gate = [settled(text, claims=3) for text in texts]
    assert {claim.outcome for claim in gate} == {Outcome.PASS}
    assert check(*gate) == (
        "It rests on the claims that it was accepted on: finetuned >= baseline (PASS, n=200); finetuned >= 0.5 (PASS,"
        " n=200); 0.9 * finetuned >= baseline (PASS, n=200)."
    )


CLAIMS = {
    "of two stages": settled(),
    "against a number": settled("finetuned >= 0.5"),
    "with little alpha left": settled(policy=Policy(margin=0.02, alpha=1.23e-7)),
    "of a share": settled("0.9 * finetuned >= baseline"),
    "by slices": settled(policy=Policy(margin=0.1), by="label"),
    "of tokens": settled("tokens(finetuned) <= 2 * tokens(baseline)"),
    "of some rows": settled(max_rows=150),
    "that stopped early": settled(planned=200, max_rows=150),
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_part_of_a_verdict_is_held_against_the_rows(claim: SettledClaim) -> None:
    assert claim.outcome is Outcome.PASS
    check(claim)
    for edit in (
        {"estimate": 0.9},
        {"n": claim.n + 1},
        {"method": Method.CLUSTERED_T},
        {"held": False, "tier": Tier.ADVISORY},
        {"outcome": Outcome.INCONCLUSIVE, "tier": Tier.ADVISORY},
        {"seen": 40},
    ):
        with pytest.raises(LockError, match="one of them was edited"):
            check(edited(claim, **edit), observed=True)


@pytest.mark.parametrize("method", [Method.BINOMIAL, Method.IDENTITY])
def test_a_number_that_is_not_reached_is_not_passed_by_an_edit(method: Method) -> None:
    claim = settled("finetuned >= 0.9")
    assert claim.outcome is Outcome.FAIL
    with pytest.raises(LockError) as error:
        check(edited(claim, outcome=Outcome.PASS, held=True, method=method))
    assert str(error.value) == (
        f"tickets/finetuned: the claim 'finetuned >= 0.9' is PASS with {claim.estimate:+.6f} on 200 rows, says the"
        f" lock; its rows say FAIL with {claim.estimate:+.6f} on 200: one of them was edited: {REPAIR}"
    )


def test_slices_that_do_not_hold_are_not_hidden_by_the_whole() -> None:
    claim = settled("finetuned >= 0.7 ", by="label")
    assert claim.outcome is not Outcome.PASS
    with pytest.raises(LockError, match="one of them was edited"):
        check(edited(claim, outcome=Outcome.PASS, held=True))
    with pytest.raises(LockError, match=r"'finetuned >= 0.7 by label' is none that can be judged: gate it again"):
        check(edited(claim, outcome=Outcome.PASS, held=True, by=None))


def test_what_is_not_kept_is_believed_and_that_is_told() -> None:
    claim = settled("latency(finetuned) <= 2")
    assert check(edited(claim, estimate=0.9)).splitlines()[1:] == [
        "Believed as recorded, since latency is not kept: latency(finetuned) <= 2."
    ]
    with pytest.raises(LockError, match="was judged on other rows"):
        check(edited(claim, rows=(REFS["baseline"],)))


@pytest.mark.parametrize(
    "text", ["whatever", "finetuned >= 0.5 on safety", "finetuned >= baseline >= 0.1", BETTER[:9]]
)
def test_a_claim_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(LockError) as error:
        check(edited(settled(), claim=text))
    assert str(error.value) == f"tickets/finetuned: the claim {text!r} is none that can be judged: {AGAIN}"


@pytest.mark.parametrize("edit", [{"alpha": 0.99}, {"margin": -0.5}])
def test_a_policy_that_nobody_may_set_is_refused(edit: dict[str, float]) -> None:
    with pytest.raises(LockError, match=r"must be in .*: gate it again with"):
        check(edited(settled(), **edit))


@pytest.mark.parametrize(
    "policy", [{"inconclusive": Inconclusive.WARN}, {"tier": Tier.SUPPORTING}, {"tier": Tier.ADVISORY}]
)
def test_what_need_not_hold_need_not_be_certified(policy: dict[str, Any]) -> None:
    mean = sum(row.score or 0.0 for row in rows_of("finetuned")) / len(IDS)
    claim = settled(f"finetuned >= {mean!r}")
    assert (claim.outcome, claim.held) == (Outcome.INCONCLUSIVE, True)
    with pytest.raises(EvidenceError) as error:
        check(claim)
    assert str(error.value) == (
        f"tickets/finetuned: the claim 'finetuned >= {mean!r}' held as observed and is not certified (n=200): judge"
        " it on more rows, or promote what was only observed with --observed"
    )
    check(claim, observed=True)
    check(settled(f"finetuned >= {mean!r}", Policy(**policy)))
    check(settled(f"finetuned >= {mean + 0.01!r}", Policy(**policy)))


def test_what_does_not_hold_is_refused_even_as_observed() -> None:
    worse = "baseline >= finetuned"
    for policy in (Policy(), Policy(inconclusive=Inconclusive.WARN), Policy(tier=Tier.SUPPORTING)):
        with pytest.raises(EvidenceError) as error:
            check(settled(worse, policy), observed=True)
        assert str(error.value) == f"tickets/finetuned: the claim '{worse}' does not hold (FAIL): {AGAIN}"
    assert "baseline >= finetuned (FAIL, n=200)" in check(settled(worse, Policy(tier=Tier.ADVISORY)))


@pytest.mark.parametrize("edit", [{"rows": ()}, {"versions": ()}, {"seen": None}, {"claims": None}])
def test_without_what_a_verdict_rests_on_there_is_no_promotion(edit: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError) as error:
        check(edited(settled(), **edit))
    assert str(error.value) == (
        f"tickets/finetuned: the claim '{BETTER}' was judged before all was noted that it rests on: {AGAIN}"
    )


def test_without_a_verdict_there_is_no_promotion() -> None:
    with pytest.raises(EvidenceError) as error:
        check()
    assert str(error.value) == (
        "tickets/finetuned: no claim that was judged names it: write one that names 'finetuned' with"
        f" @pytest.mark.ft_claim, then {AGAIN}"
    )


OTHER = f"sha256:{'9' * 64}"


@pytest.mark.parametrize("rows", [[REFS["baseline"]], [REFS["finetuned"], OTHER], [OTHER], [*REFS.values(), OTHER]])
def test_a_verdict_on_other_rows_is_none(rows: list[str]) -> None:
    with pytest.raises(LockError) as error:
        check(edited(settled(), rows=tuple(rows)))
    assert str(error.value) == (
        f"tickets/finetuned: the claim '{BETTER}' was judged on other rows than the pinned ones: {AGAIN}"
    )


def test_a_verdict_on_rows_of_a_suite_that_none_were_accepted_of_is_none() -> None:
    with pytest.raises(LockError, match="was judged on other rows"):
        check(settled(suite="safety"))


@pytest.mark.parametrize("keys", [["finetuned"], ["baseline"], []])
def test_a_verdict_on_another_version_is_none(keys: list[str]) -> None:
    versions = tuple(sorted([*(entry(stage).key for stage in keys), sha("another")]))
    with pytest.raises(LockError) as error:
        check(edited(settled(), versions=versions))
    assert str(error.value) == (
        f"tickets/finetuned: the claim '{BETTER}' was judged on other versions than the pinned ones: {AGAIN}"
    )


def test_a_verdict_on_a_stage_that_is_gone_is_none() -> None:
    stage = entry("finetuned", settled())
    with pytest.raises(LockError, match="on other versions than the pinned ones"):
        Verdicts(stage, (stage,), Rows(), REPAIR).check(observed=False)


def test_a_claim_that_was_taken_out_is_missed() -> None:
    two, one = settled(claims=2), settled("finetuned >= 0.5", claims=2)
    check(two, one)
    for gate, others in (
        ((two,), (two,)),  # what nobody else has
        ((one,), (two,)),  # what the other stage still has
        ((two, one), ()),  # what it has itself
        ((two, one), (edited(two, alpha=0.04),)),  # the two disagree
        ((two, one), (two, settled("baseline >= 0.1"))),  # one more
    ):
        with pytest.raises(LockError) as error:
            check(*gate, others=others)
        assert str(error.value) == (
            f"tickets/finetuned: the lock does not have all claims that tickets was accepted on: {REPAIR}"
        )

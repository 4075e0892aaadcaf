"""Whether recorded verdicts carry a promotion: on rows that are made up, beside no project."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.lock.conftest import make_entry

from pytest_finetune.core.claims import Reading, parse
from pytest_finetune.core.evidence import pair_rows
from pytest_finetune.core.gate import judge, settle
from pytest_finetune.core.records import Inconclusive, Method, Outcome, Policy, Row, RowState, Tier
from pytest_finetune.dataset import DataRow
from pytest_finetune.errors import EvidenceError, LockError
from pytest_finetune.lock import Artifacts, Entry, SettledClaim
from pytest_finetune.workflow.verdicts import Verdicts

IDS = [f"{number:04x}" for number in range(199, -1, -1)]  # the dataset's order is not that of the ids
DATA = [
    DataRow(row_id, row_id, {}, ("text",), "test", "a.jsonl", line, group=f"group {line // 2}")
    for line, row_id in enumerate(IDS)
]
BETTER = "finetuned >= baseline"


def rows_of(stage: str) -> tuple[Row, ...]:
    """Two answers to each row, of which the second is right more often."""
    right = 3 if stage == "finetuned" else 2
    return tuple(
        Row(row_id, stage, repeat, RowState.SCORED, score=float(hash_of(row_id) % 4 < right + repeat))
        for row_id in IDS
        for repeat in range(2)
    )


def hash_of(row_id: str) -> int:
    number = int(row_id, 16)
    return number * number // 7


def settled(
    text: str,
    rows: list[str],
    policy: Policy = Policy(margin=0.02),  # noqa: B008  # frozen
    *,
    n: int = len(IDS),
    repeats: int = 1,
    grouped: bool = False,
) -> SettledClaim:
    """A claim as the gate settles it on the first rows."""
    (claim,) = parse(text)
    sides = [[row for row in rows_of(stage) if row.repeat < repeats] for stage in claim.stages]
    evidence = pair_rows(
        claim,
        sides[0],
        sides[1] if isinstance(claim.right, Reading) else (),
        row_ids=IDS[:n],
        groups={row.row_id: row.group for row in DATA if row.group} if grouped else None,
    )
    verdict = judge(claim, evidence, policy)
    return SettledClaim.of(text, verdict, settle(verdict, policy), policy, rows)


class Stages:
    """Two stages with their rows beside a lock."""

    def __init__(self, folder: Path) -> None:
        self.artifacts = Artifacts(folder)
        self.refs = {stage: self.artifacts.put_rows(rows_of(stage)) for stage in ("baseline", "finetuned")}

    def entry(self, stage: str, *gate: SettledClaim, **artifacts: Any) -> Entry:
        files = {"program": f"sha256:{'0' * 64}", "rows": self.refs[stage]} | artifacts
        return make_entry(stage=stage, model=f"model of {stage}", artifacts=files, gate=gate)

    def check(self, *gate: SettledClaim, observed: bool = False, rows: list[DataRow] | None = None) -> None:
        entry = self.entry("finetuned", *gate)
        together = (self.entry("baseline"), entry)
        Verdicts(entry, together, self.artifacts, rows).check(observed=observed)

    def claim(self, text: str = BETTER, policy: Policy = Policy(margin=0.02), **how: Any) -> SettledClaim:  # noqa: B008
        (claim,) = parse(text)
        return settled(text, [self.refs[stage] for stage in claim.stages], policy, **how)


@pytest.fixture
def stages(tmp_path: Path) -> Stages:
    return Stages(tmp_path)


AGAIN = "gate it again with pytest --ft-retrain --ft-task tickets, or where a candidate waits with pytest --ft-accept"


def test_what_is_certified_on_the_pinned_rows_carries(stages: Stages) -> None:
    gate = stages.claim(), stages.claim("finetuned >= 0.5"), stages.claim("0.9 * finetuned >= baseline")
    assert {claim.outcome for claim in gate} == {Outcome.PASS}
    stages.check(*gate)
    stages.check(*gate, rows=[replace(row, group=None) for row in DATA])


@pytest.mark.parametrize("known", [True, False])
def test_what_was_judged_on_more_answers_to_a_row_carries(stages: Stages, known: bool) -> None:
    claim = stages.claim(repeats=2)
    assert claim.estimate != stages.claim().estimate
    stages.check(claim, rows=[replace(row, group=None) for row in DATA] if known else None)


def test_what_was_judged_by_groups_carries_where_they_are_known(stages: Stages) -> None:
    claim = stages.claim(grouped=True)
    assert claim.method is Method.CLUSTERED_T
    stages.check(claim, rows=DATA)
    with pytest.raises(LockError, match="one of them was edited"):
        stages.check(claim.model_copy(update={"outcome": Outcome.FAIL, "tier": Tier.ADVISORY}), rows=DATA)


def test_what_was_judged_on_the_first_rows_is_held_against_these(stages: Stages) -> None:
    claim = stages.claim(n=70)
    assert claim.estimate != stages.claim().estimate
    plain = [replace(row, group=None) for row in DATA]
    stages.check(claim, rows=plain)
    stages.check(claim)  # which rows these were, nobody knows
    wrong = claim.model_copy(update={"estimate": stages.claim().estimate})
    with pytest.raises(LockError, match="one of them was edited"):
        stages.check(wrong, rows=plain)


@pytest.mark.parametrize("n", [70, 200])
def test_what_might_have_stopped_early_carries(stages: Stages, n: int) -> None:
    """It is judged by the betting test, which takes how many rows were planned."""
    (claim,) = parse(BETTER)
    sides = [[row for row in rows_of(stage) if row.repeat == 0] for stage in claim.stages]
    evidence = pair_rows(claim, *sides, row_ids=IDS[:n])
    verdict = judge(claim, replace(evidence, planned=200), Policy())
    settlement = settle(verdict, Policy())
    early = SettledClaim.of(BETTER, verdict, settlement, Policy(), [stages.refs[stage] for stage in claim.stages])
    assert (early.method, early.held) == (Method.BETTING, True)
    stages.check(early, observed=True, rows=[replace(row, group=None) for row in DATA])
    with pytest.raises(LockError, match="one of them was edited"):
        stages.check(early.model_copy(update={"estimate": 0.5}), rows=[replace(row, group=None) for row in DATA])


def test_rows_without_answers_carry_nothing(stages: Stages) -> None:
    empty = stages.artifacts.put_rows(())
    entry = stages.entry("finetuned", settled("finetuned >= 0.5", [empty]), rows=empty)
    with pytest.raises(EvidenceError, match="rows to judge it on: 0, where a verdict needs 10"):
        Verdicts(entry, (entry,), stages.artifacts).check(observed=False)


def test_an_edited_verdict_is_told_with_what_the_rows_say(stages: Stages) -> None:
    claim = stages.claim()
    with pytest.raises(LockError) as error:
        stages.check(claim.model_copy(update={"estimate": 0.9}))
    assert str(error.value) == (
        "tickets/finetuned: the claim 'finetuned >= baseline' is PASS with +0.900000 on 200 rows, says the lock; its"
        f" rows say PASS with {claim.estimate:+.6f} on 200: one of them was edited. Take back the committed lock and"
        " its folder with git checkout, or build again with `pytest --ft-retrain`"
    )


@pytest.mark.parametrize(
    "edit",
    [{"n": 201}, {"n": 0}, {"n": -1}, {"alpha": 1e-12}, {"outcome": Outcome.INCONCLUSIVE, "tier": Tier.ADVISORY}],
)
def test_every_part_of_a_verdict_is_held_against_the_rows(stages: Stages, edit: dict[str, Any]) -> None:
    with pytest.raises(LockError, match="one of them was edited"):
        stages.check(stages.claim().model_copy(update=edit))


@pytest.mark.parametrize(
    "policy", [{"inconclusive": Inconclusive.WARN}, {"tier": Tier.SUPPORTING}, {"tier": Tier.ADVISORY}]
)
def test_what_need_not_hold_need_not_be_certified(stages: Stages, policy: dict[str, Any]) -> None:
    mean = sum(row.score or 0.0 for row in rows_of("finetuned") if row.repeat == 0) / len(IDS)
    claim = stages.claim(f"finetuned >= {mean!r}")
    assert (claim.outcome, claim.held) == (Outcome.INCONCLUSIVE, True)
    with pytest.raises(EvidenceError) as error:
        stages.check(claim)
    assert str(error.value) == (
        f"tickets/finetuned: the claim 'finetuned >= {mean!r}' held as observed and is not certified (n=200): judge"
        " it on more rows, or promote what was only observed with --observed"
    )
    stages.check(claim, observed=True)
    stages.check(stages.claim(f"finetuned >= {mean!r}", Policy(**policy)))
    stages.check(stages.claim(f"finetuned >= {mean + 0.01!r}", Policy(**policy)))


def test_what_does_not_hold_is_refused_even_as_observed(stages: Stages) -> None:
    worse = "baseline >= finetuned"
    for policy in (Policy(), Policy(inconclusive=Inconclusive.WARN), Policy(tier=Tier.SUPPORTING)):
        with pytest.raises(EvidenceError) as error:
            stages.check(stages.claim(worse, policy), observed=True)
        assert str(error.value) == f"tickets/finetuned: the claim '{worse}' does not hold (FAIL): {AGAIN}"
    stages.check(stages.claim(worse, Policy(tier=Tier.ADVISORY)))


def test_without_a_verdict_or_without_its_rows_there_is_no_promotion(stages: Stages) -> None:
    with pytest.raises(EvidenceError) as error:
        stages.check()
    assert str(error.value) == f"tickets/finetuned: no claim on model of finetuned was judged: {AGAIN}"
    with pytest.raises(EvidenceError) as error:
        stages.check(stages.claim().model_copy(update={"rows": ()}))
    assert str(error.value) == (
        f"tickets/finetuned: the claim 'finetuned >= baseline' was judged before rows were noted: {AGAIN}"
    )


@pytest.mark.parametrize("rows", [["baseline"], ["finetuned", "other"], ["other"]])
def test_a_verdict_on_other_rows_is_none(stages: Stages, rows: list[str]) -> None:
    refs = stages.refs | {"other": f"sha256:{'9' * 64}"}
    claim = stages.claim().model_copy(update={"rows": tuple(refs[name] for name in rows)})
    with pytest.raises(LockError) as error:
        stages.check(claim)
    assert str(error.value) == (
        f"tickets/finetuned: the claim 'finetuned >= baseline' was judged on other rows than the pinned ones: {AGAIN}"
    )


def test_a_verdict_that_names_a_stage_and_not_its_rows_is_none(stages: Stages) -> None:
    claim = stages.claim().model_copy(update={"rows": (stages.refs["finetuned"],)})
    with pytest.raises(LockError, match="was not judged on the pinned rows of 'baseline': gate it again"):
        stages.check(claim)


@pytest.mark.parametrize(
    "text", [f"{BETTER} by label", f"{BETTER} on safety", "finetuned >= locked - 0.01", "tokens(finetuned) <= 9"]
)
def test_what_rows_alone_do_not_give_is_believed(stages: Stages, text: str) -> None:
    claim = stages.claim().model_copy(update={"claim": text, "estimate": 0.9})
    stages.check(claim)

"""Which rows a claim looks at: suites and slices, repeats, and a part of the rows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.conftest import Project, make_rows
from tests.workflow.gating import ALL, Gating, claim

from pytest_finetune.core.records import Inconclusive, Method, Outcome, Policy, Row
from pytest_finetune.errors import DriftError, EvidenceError, NotEvaluated, UsageError
from pytest_finetune.lock import Artifacts, Lock, read_lock
from pytest_finetune.workflow.accept import accept
from pytest_finetune.workflow.evaluations import Bench
from pytest_finetune.workflow.gate import NothingAccepted

SUITES = """
class Tone(dspy.Signature):
    '''Say whether the message is polite.'''

    text: str = dspy.InputField()
    polite: Literal["yes", "no"] = dspy.OutputField()


def says_no(example, prediction, trace=None):
    return prediction.polite == "no"


tickets = task(
    teacher="sandbox-large",
    suites={
        "account": Dataset.from_file("account.jsonl", inputs=["text"], split="split"),
        "tone": Suite(
            Dataset.from_file("tone.jsonl", inputs=["text"]), metric=says_no, program=lambda: dspy.Predict(Tone)
        ),
    },
)
"""
ON_ACCOUNT, ON_TONE = 60, 30
WARN = Policy(margin=0.02, inconclusive=Inconclusive.WARN)


def write_suites(project: Project) -> None:
    """Rows of the one department at which the fine-tuned model is worse than its base, and rows of another task."""
    project.edit("finetune_tasks.py", "Dataset, Task", "Dataset, Suite, Task")
    project.edit("finetune_tasks.py", 'tickets = task(teacher="sandbox-large")\n', SUITES)
    of_account = [row for row in make_rows(11, train=400) if row["department"] == "account"][:ON_ACCOUNT]
    for number, row in enumerate(of_account):  # all splits are asked
        row["split"] = "test" if number == 0 else "dev" if number == 1 else "train"
    project.write("account.jsonl", "".join(f"{json.dumps(row)}\n" for row in of_account))
    polite = [{"text": row["text"], "polite": "yes"} for row in make_rows(12, test=ON_TONE)]
    project.write("tone.jsonl", "".join(f"{json.dumps(row)}\n" for row in polite))


def test_a_suite_is_asked_of_the_stages_models_with_its_own_metric_and_program(gating: Gating) -> None:
    write_suites(gating.project)
    worse, tone = gating.judge(
        claim("finetuned >= baseline", suite="account"), claim("0.9 >= finetuned", suite="tone")
    )
    assert gating.asked == {"sandbox-small": ON_ACCOUNT, "tuned": ON_ACCOUNT + ON_TONE}
    assert (worse.claim, worse.verdict.outcome, worse.verdict.n) == (
        "finetuned >= baseline on account",
        Outcome.FAIL,
        ON_ACCOUNT,
    )
    assert [(score.stage, score.suite, score.n) for score in worse.scores] == [
        ("finetuned", "account", ON_ACCOUNT),
        ("baseline", "account", ON_ACCOUNT),
    ]
    assert [flip.expected for flip in worse.flips] == ["account"] * 10
    assert (tone.claim, tone.verdict.n) == ("finetuned <= 0.9 on tone", ON_TONE)
    said = {row.output for row in answers(gating, "tone", "finetuned")}
    assert said <= {'{"polite":"yes"}', '{"polite":"no"}'}
    gating.project.edit("finetune_tasks.py", 'prediction.polite == "no"', 'prediction.polite != "no"')
    (turned,) = gating.judge(claim("finetuned >= 0.1", suite="tone"))
    assert gating.asked == {}
    assert turned.verdict.left == pytest.approx(1 - tone.verdict.left)


def answers(gating: Gating, suite: str | None, stage: str) -> tuple[Row, ...]:
    with gating.run() as run:
        return run.evaluations.rows(Bench("tickets", suite), stage)


def test_every_slice_must_hold(gating: Gating) -> None:
    whole, sliced, lenient = gating.judge(
        claim("finetuned >= baseline"),
        claim("finetuned >= baseline", WARN, by="department"),
        claim("finetuned >= prompt_optimized - 0.4", WARN, by="department"),
    )
    assert gating.asked == {}
    assert (whole.verdict.outcome, sliced.verdict.outcome) == (Outcome.PASS, Outcome.FAIL)
    assert sliced.settlement.blocking
    parts = {part.name: part.verdict for part in sliced.verdict.parts}
    assert {name: verdict.outcome for name, verdict in parts.items()} == {
        "account": Outcome.FAIL,
        "billing": Outcome.PASS,
        "shipping": Outcome.PASS,
        "technical": Outcome.PASS,
    }
    assert sliced.verdict.parts[0].name == "account"
    assert sum(verdict.n for verdict in parts.values()) == ALL
    assert lenient.verdict.outcome is not Outcome.FAIL


def test_the_rows_of_suites_are_locked_and_compared_one_by_one(gating: Gating) -> None:
    write_suites(gating.project)
    on_suite = claim("finetuned >= locked", suite="account")
    with pytest.raises(NothingAccepted, match="nothing has been accepted yet for stage 'finetuned'"):
        gating.judge(on_suite)
    with gating.run(on_suite, retrain=True) as run:
        assert accept(run, "tickets", []) == [f"tickets: locked in {gating.project.lock}"]
    lock = read_lock(gating.project.lock)
    assert list(lock.entry("tickets", "finetuned").artifacts.suites) == ["account"]
    assert not lock.entry("tickets", "baseline").artifacts.suites
    ref = lock.entry("tickets", "finetuned").artifacts.suites["account"].rows
    accepted = Artifacts.beside(gating.project.lock).get_rows(ref, "finetuned")
    asked = answers(gating, "account", "finetuned")
    assert {(row.row_id, row.output, row.score) for row in accepted} == {
        (row.row_id, row.output, row.score) for row in asked
    }

    claims = (
        on_suite,
        claim("finetuned >= locked"),
        claim("finetuned >= locked", WARN, by="department", suite="account"),
    )
    unchanged = gating.judge(*claims)
    assert [(result.verdict.method, result.settlement.certified) for result in unchanged] == [
        (Method.IDENTITY, True)
    ] * 3
    right = [row.row_id for row in accepted if row.score == 1][:12]
    gating.sql(
        'UPDATE prediction SET output = \'{"department":"billing"}\''  # noqa: S608  # our own
        f" WHERE stage = 'finetuned' AND row_id IN ({', '.join(map(repr, right))})",
    )
    gating.sql("DELETE FROM score")
    changed, same, by_department = gating.judge(*claims)
    assert gating.asked == {}
    assert (changed.verdict.outcome, changed.verdict.losses, changed.verdict.wins) == (Outcome.FAIL, 12, 0)
    assert {flip.row_id for flip in changed.flips} <= set(right)
    assert same.verdict.method is Method.IDENTITY
    assert by_department.settlement.blocking


def test_offline_the_rows_of_a_suite_come_from_the_lock(gating: Gating) -> None:
    write_suites(gating.project)
    on_suite = claim("finetuned >= 0.4", suite="account")
    with gating.run(on_suite, retrain=True) as run:
        accept(run, "tickets", [])
    online = gating.judge(on_suite)
    gating.forget_rows()
    offline = gating.judge(on_suite, offline=True)
    assert offline[0].verdict == online[0].verdict


def test_accepted_rows_of_a_suite_count_only_while_its_metric_program_and_data_stay(gating: Gating) -> None:
    write_suites(gating.project)
    at_least, as_before = claim("finetuned >= 0.01", suite="tone"), claim("finetuned >= locked", suite="tone")
    with gating.run(at_least, as_before, retrain=True) as run:
        accept(run, "tickets", [])
    gating.forget_rows()
    gating.project.edit("finetune_tasks.py", 'prediction.polite == "no"', 'prediction.polite != "no"')
    with pytest.raises(NotEvaluated, match=f"{ON_TONE} of {ON_TONE} rows of stage 'finetuned' .* are not recorded"):
        gating.judge(at_least, offline=True)
    changed = "the metric changed since stage 'finetuned' of task 'tickets' on suite 'tone' was accepted"
    with pytest.raises(DriftError, match=f"{changed}.*pytest --ft-retrain --ft-task tickets"):
        gating.judge(as_before)
    gating.project.edit("finetune_tasks.py", "Say whether the message is polite.", "Is it polite?")
    with pytest.raises(DriftError, match="the metric and program changed"):
        gating.judge(as_before)


def test_a_candidate_is_not_compared_with_what_another_metric_scored(gating: Gating) -> None:
    as_before = claim("finetuned >= locked")
    gating.judge(as_before)
    entry = read_lock(gating.project.lock).entry("tickets", "finetuned")
    of_another = entry.fingerprints.model_copy(update={"metric": "0" * 64})
    with gating.run(as_before, retrain=True) as run:
        run.accepted = Lock(model=(entry.model_copy(update={"fingerprints": of_another}),))
        with pytest.raises(NothingAccepted, match="the metric changed since stage 'finetuned' of task 'tickets' was"):
            run.gate.judge(*as_before)


def test_a_suite_may_have_few_rows(gating: Gating) -> None:
    write_suites(gating.project)
    rows = (gating.project.path / "tone.jsonl").read_text().splitlines()[:12]
    gating.project.write("tone.jsonl", "\n".join(rows) + "\n")
    (result,) = gating.judge(claim("finetuned >= 0.01", suite="tone"))
    assert result.verdict.n == 12


def test_a_row_of_a_suite_that_the_model_was_trained_on_is_refused(gating: Gating) -> None:
    write_suites(gating.project)
    with gating.run() as run:
        seen = [row.fields for row in run.tasks["tickets"].dataset.rows("train")[:10]]
    rows = [*make_rows(11, test=40), *seen]
    gating.project.write("account.jsonl", "".join(f"{json.dumps({**row, 'split': 'test'})}\n" for row in rows))
    with pytest.raises(
        EvidenceError, match=r"suite 'account' of task 'tickets': [1-9]0? of 50 rows were used to build"
    ):
        gating.judge(claim("finetuned >= baseline", suite="account"))


def test_repeats_are_asked_one_by_one_averaged_and_kept(gating: Gating) -> None:
    for name in ("finetune_tasks.py", "models.lock"):
        old, new = ('student="', 'temperature=0.7, student="') if name.endswith("py") else ("= 0.0", "= 0.7")
        gating.project.edit(name, old, new)
    thrice = claim("finetuned >= baseline", max_rows=20, repeats=3)
    once = claim("finetuned >= 0.01", max_rows=40)
    first = gating.judge(thrice, once)
    assert gating.asked == {"sandbox-small": 60, "tuned": 120}
    assert [result.verdict.n for result in first] == [20, 40]
    assert [(score.stage, score.n) for score in first[0].scores] == [("finetuned", 120), ("baseline", 60)]
    gating.sql("UPDATE score SET value = 0")
    gating.sql("UPDATE score SET value = 1 WHERE key IN (SELECT key FROM prediction WHERE repeat = 1)")
    with gating.run(thrice, once) as run:
        evidence = [run.gate.evidence(scoped) for scoped, _ in (thrice, once)]
        assert [pair.left for pair in evidence[0].pairs] == [pytest.approx(1 / 3)] * 20
        assert [pair.left for pair in evidence[1].pairs] == [0.0] * 40
    assert gating.asked == {}


def test_a_part_of_the_rows_is_always_the_same_one_and_each_stage_is_asked_for_no_more(gating: Gating) -> None:
    gating.forget_rows()
    few = claim("prompt_optimized >= baseline", max_rows=50)
    alone = gating.judge(few)
    assert gating.asked == {"sandbox-small": 100}
    with gating.run(few) as run:
        taken = [pair.row_id for pair in run.gate.evidence(few[0]).pairs]
        assert taken == [row.row_id for row in run.tasks["tickets"].dataset.rows("test")[:50]]
    more = claim("finetuned >= baseline", max_rows=80)
    together = gating.judge(few, more)
    assert gating.asked == {"sandbox-small": 30, "tuned": 80}
    assert together[0].verdict == alone[0].verdict
    assert together[1].verdict.n == 80


@pytest.mark.parametrize(
    ("scopes", "lacking"),
    [
        ([{}], False),
        ([{"suite": "account"}], True),
        ([{}, {"repeats": 2}], True),
        ([{"max_rows": 9, "by": "text"}], False),
    ],
)
def test_a_server_is_needed_for_what_claims_look_at_and_for_nothing_else(
    gating: Gating, scopes: list[dict[str, Any]], lacking: bool
) -> None:
    write_suites(gating.project)
    gating.sql("DELETE FROM prediction WHERE stage = 'teacher'")
    with gating.run(*(claim("finetuned >= baseline", **scope) for scope in scopes)) as run:
        assert run.evaluations.lacks_rows("tickets") is lacking


def test_percentiles_are_judged_on_all_rows(gating: Gating) -> None:
    quick, slow, relative = gating.judge(
        claim("latency_p95(finetuned) <= 60"),
        claim("latency_p50(finetuned) <= 0.000001"),
        claim("tokens_p90(finetuned) <= 2 * tokens_p90(prompt_optimized)"),
    )
    assert [result.verdict.outcome for result in (quick, slow, relative)] == [
        Outcome.PASS,
        Outcome.FAIL,
        Outcome.PASS,
    ]
    assert {result.verdict.method for result in (quick, slow, relative)} == {Method.QUANTILE}
    assert quick.verdict.n == ALL


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        ({"by": "departmnt"}, "by='departmnt': task 'tickets' has no such field: did you mean 'department'?"),
        ({"by": "x"}, "by='x': task 'tickets' has no such field; its rows have: department, text"),
        ({"suite": "acount"}, "task 'tickets' has no suite 'acount': did you mean 'account'?"),
        ({"suite": "x"}, "task 'tickets' has no suite 'x'; there are: account, tone"),
        ({"suite": "tone", "by": "department"}, "by='department': task 'tickets' has no such field; its rows have: "),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_asked(
    gating: Gating, scope: dict[str, Any], message: str
) -> None:
    write_suites(gating.project)
    with pytest.raises(UsageError) as caught, gating.run(claim("finetuned >= 0.1", **scope)):
        pass
    assert message in str(caught.value)


def test_a_suite_that_is_no_dataset_is_refused_where_it_stands(gating: Gating) -> None:
    write_suites(gating.project)
    gating.project.edit(
        "finetune_tasks.py", 'Dataset.from_file("account.jsonl", inputs=["text"], split="split")', '"account.jsonl"'
    )
    with (
        pytest.raises(UsageError, match=r"finetune_tasks.py:\d+: .* suite 'account' must be a Dataset, or a Suite"),
        gating.run(),
    ):
        pass

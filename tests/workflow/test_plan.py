"""A plan, held against what a gated run then does."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Project, make_rows
from tests.workflow.gating import ALL, Gating, claim

from pytest_finetune.core.plan import Asking, Plan, TaskPlan, Total
from pytest_finetune.errors import LockError, UsageError
from pytest_finetune.lock import read_lock
from pytest_finetune.store import Store
from pytest_finetune.workflow.plan import plan
from pytest_finetune.workflow.run import STORE, Run
from pytest_finetune.workflow.settings import read_settings

LADDER = [claim("prompt_optimized >= baseline"), claim("finetuned >= prompt_optimized"), claim("finetuned >= 0.5")]
CLAIMED = ("baseline", "prompt_optimized", "finetuned")
REASONED = """

reasoned = dict(program=lambda: dspy.ChainOfThought(Route), recipe="bootstrap")
tickets = task(student="gpt-4o-mini", endpoint="openai", **reasoned)
"""
SPEECHLESS = """
class Silence(dspy.ChatAdapter):
    def format(self, *args):
        raise ValueError("no words")


class Speechless(Task):
    def make_adapter(self):
        return Silence()


def task("""

Planned = Callable[..., Plan]


@pytest.fixture
def planned(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Planned]:
    """Plans the project, with settings."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def call(*tasks: str, **settings: Any) -> Plan:
        sys.modules.pop("finetune_tasks", None)
        return plan(Run(replace(read_settings(project.path, environment={}), **settings)), tasks)

    yield call
    sys.modules.pop("finetune_tasks", None)


def only(plan: Plan) -> TaskPlan:
    (task,) = plan.tasks
    return task


def stages(task: TaskPlan) -> dict[str, Asking]:
    return {stage.stage: stage for stage in task.stages}


def store(project: Project) -> Path:
    return project.path / ".pytest-finetune" / STORE


def change_store(project: Project, statement: str) -> int:
    """Run a statement; say how many rows it changed."""
    with sqlite3.connect(store(project)) as connection:
        return connection.execute(statement).rowcount


class TestAgainstTheRun:
    def test_a_run_without_a_store_asks_and_costs_what_was_planned(self, gating: Gating, planned: Planned) -> None:
        store(gating.project).unlink()
        task = only(planned())
        expected = stages(task)
        assert not store(gating.project).exists()
        assert {(stage.answers, stage.asked, stage.calls) for stage in task.stages} == {(ALL, ALL, ALL)}
        assert [stage.stage for stage in task.stages if stage.claimed] == list(CLAIMED)

        Store.create(store(gating.project)).close()
        results = gating.judge(*LADDER)
        assert gating.asked == {
            "sandbox-small": expected["baseline"].calls + expected["prompt_optimized"].calls,
            "tuned": expected["finetuned"].calls,
        }
        paid = {score.stage: score.cost or 0.0 for result in results for score in result.scores}
        for name in CLAIMED:
            assert expected[name].cost == pytest.approx(paid[name], rel=0.1)
            assert expected[name].recorded == ALL
        total = Total.of(stage for stage in task.stages if stage.claimed)
        assert total.calls == sum(gating.asked.values())
        assert total.cost == pytest.approx(sum(paid.values()), rel=0.1)

    def test_what_is_stored_is_not_asked_for(self, gating: Gating, planned: Planned) -> None:
        kept = stages(only(planned()))
        assert {(stage.asked, stage.calls, stage.cost) for stage in kept.values()} == {(0, 0, 0.0)}
        gone = change_store(gating.project, "DELETE FROM prediction WHERE stage = 'finetuned' AND row_id < '5'")
        assert gone > 50
        lacking = stages(only(planned()))
        assert {name: stage.asked for name, stage in lacking.items() if stage.asked} == {"finetuned": gone}
        gating.judge(*LADDER)
        assert gating.asked == {"tuned": gone}

    def test_a_run_that_stops_early_asks_about_as_much_as_was_planned(self, gating: Gating, planned: Planned) -> None:
        gating.forget_rows()
        whole, expected = stages(only(planned())), stages(only(planned(stop_early=True)))
        gating.judge(LADDER[0], stop_early=True)
        assert gating.asked.keys() == {"sandbox-small"}
        calls = expected["baseline"].calls + expected["prompt_optimized"].calls
        assert calls == pytest.approx(gating.asked["sandbox-small"], rel=0.25)
        for name in CLAIMED:
            assert expected[name].share < 1
            assert expected[name].cost == pytest.approx((whole[name].cost or 0) * expected[name].share)
        assert expected["teacher"].share == 1  # no claim is about it

    def test_a_sliced_claim_is_followed_to_the_end(self, built: Project, planned: Planned) -> None:
        claimed = 'claim = "finetuned >= prompt_optimized'
        built.edit("models.lock", f'{claimed}"', f'{claimed} by department"')
        found = stages(only(planned(stop_early=True)))
        assert (found["finetuned"].share, found["prompt_optimized"].share) == (1, 1)
        assert found["baseline"].share < 1

    def test_rows_that_took_several_calls_are_planned_with_as_many(self, built: Project, planned: Planned) -> None:
        change_store(built, "UPDATE prediction SET attempts = 2 WHERE stage = 'baseline'")
        gone = change_store(built, "DELETE FROM prediction WHERE stage = 'baseline' AND row_id < '5'")
        baseline = stages(only(planned()))["baseline"]
        assert (baseline.asked, baseline.calls) == (gone, 2 * gone)

    @pytest.mark.usefixtures("built")
    def test_each_answer_is_asked_for_as_often_as_is_set(self, planned: Planned) -> None:
        twice = stages(only(planned(repeats=2)))["baseline"]
        assert (twice.answers, twice.asked) == (2 * ALL, ALL)  # the first answers are stored

    def test_a_stage_under_two_names_is_asked_once(self, built: Project, planned: Planned) -> None:
        store(built).unlink()
        text = built.lock.read_text(encoding="utf-8")
        state = read_lock(built.lock).entry("tickets", "baseline").artifacts.program
        optimized = read_lock(built.lock).entry("tickets", "prompt_optimized")
        assert optimized.artifacts.program in text
        found = stages(only(planned()))
        assert found["prompt_optimized"].asked == ALL
        baseline = read_lock(built.lock).entry("tickets", "baseline")
        built.lock.write_text(
            text.replace(optimized.artifacts.program, state).replace(
                optimized.fingerprints.prompt, baseline.fingerprints.prompt
            ),
            encoding="utf-8",
        )
        task = only(planned())
        shared = stages(task)
        assert task.sets[0].outlooks[0].between == ("finetuned", "prompt_optimized")  # the others hold by identity
        assert (shared["baseline"].asked, shared["prompt_optimized"].asked) == (ALL, 0)


class TestWhatRowsCertify:
    def test_recorded_rows_of_the_stages_that_claims_compare_say_how_much_they_differ(
        self, built: Project, planned: Planned
    ) -> None:
        (rows,) = only(planned()).sets
        *told, best = rows.outlooks
        assert [outlook.between for outlook in told] == [
            ("prompt_optimized", "baseline"),
            ("finetuned", "prompt_optimized"),
        ]
        scores = {}
        for name in CLAIMED:
            ref = read_lock(built.lock).entry("tickets", name).artifacts.rows or ""
            file = built.path / "models.lock.d" / f"rows-{ref.removeprefix('sha256:')[:16]}.jsonl"
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            scores[name] = {line["row_id"]: line["score"] for line in lines}
        for outlook in told:
            left, right = (scores[name] for name in outlook.between or ())
            assert outlook.differ == sum(left[row] != right[row] for row in left) / ALL
        assert rows.deciding.between == ("finetuned", "prompt_optimized")
        assert best.needed[0.02] == 149

    def test_a_margin_that_is_asked_about_is_told(self, planned: Planned) -> None:
        found = planned(margin=0.03, alpha=0.1)
        assert (found.margin, found.alpha) == (0.03, 0.1)
        assert list(only(found).sets[0].deciding.needed) == [0.01, 0.02, 0.03, 0.05]
        assert only(found).sets[0].deciding.needed[0.02] < only(planned()).sets[0].deciding.needed[0.02]
        assert planned(margin=0.0).margin == planned().margin == 0.02

    def test_rows_of_a_group_are_counted_together(self, project: Project, planned: Planned) -> None:
        rows = [
            {**row, "customer": f"{row['split']} {n % 40}"} for n, row in enumerate(make_rows(5, train=9, test=240))
        ]
        project.write("tickets.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
        (alone,) = only(planned()).sets
        project.edit("finetune_tasks.py", 'split="split"', 'split="split", group="customer"')
        (grouped,) = only(planned(stop_early=True)).sets
        assert (alone.rows, alone.groups, grouped.rows, grouped.groups) == (240, None, 240, 40)
        assert (grouped.deciding.certifiable or 1) > 2 * (alone.deciding.certifiable or 1)
        assert {stage.share for stage in grouped.stages} == {1.0}

    def test_each_suite_has_its_own_rows(self, project: Project, planned: Planned) -> None:
        rows = make_rows(8, train=10, dev=10, test=10)
        project.write("few.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
        suite = 'suites={"hard": Dataset.from_file("few.jsonl", inputs=["text"], split="split")}'
        project.edit("finetune_tasks.py", 'teacher="sandbox-large"', suite)
        found = only(planned()).sets
        assert [(rows.suite, rows.rows) for rows in found] == [(None, ALL), ("hard", 30)]
        assert [stage.asked for stage in found[1].stages] == [30, 30, 30]
        assert found[1].deciding.needed == found[0].deciding.needed
        assert (found[1].deciding.certifiable or 1) > (found[0].deciding.certifiable or 1)

    def test_a_claim_on_a_suite_is_about_its_rows_alone(self, built: Project, planned: Planned) -> None:
        suite = 'teacher="sandbox-large", suites={"hard": Dataset.from_file("few.jsonl", inputs=["text"])}'
        built.write("few.jsonl", "".join(f"{json.dumps(row)}\n" for row in make_rows(8, test=60)))
        built.edit("finetune_tasks.py", 'teacher="sandbox-large"', suite)
        built.edit(
            "models.lock", 'claim = "finetuned >= prompt_optimized"', 'claim = "finetuned >= baseline on hard"'
        )
        test, hard = only(planned()).sets
        assert [outlook.between for outlook in test.outlooks] == [("prompt_optimized", "baseline"), None]
        assert [stage.stage for stage in hard.stages if stage.claimed] == ["baseline", "finetuned"]
        assert {stage.recorded for stage in hard.stages} == {0}
        assert [outlook.between for outlook in hard.outlooks] == [None] * 4

    def test_without_such_a_claim_neighbours_are_compared(self, built: Project, planned: Planned) -> None:
        text = built.lock.read_text(encoding="utf-8")
        built.lock.write_text(re.sub(r"\[\[model.gate\]\]\n(?:.+\n)+", "", text), encoding="utf-8")
        task = only(planned())
        assert [outlook.between for outlook in task.sets[0].outlooks] == [
            ("prompt_optimized", "baseline"),
            ("finetuned", "prompt_optimized"),
            ("teacher", "finetuned"),
            None,
        ]
        assert all(stage.claimed for stage in task.stages)


class TestBeforeTheFirstBuild:
    def test_every_stage_is_estimated(self, planned: Planned) -> None:
        found = planned()
        assert found.lock is None
        task = only(found)
        assert (task.locked, task.drift, task.judges) == (False, None, ())
        assert {(stage.asked, stage.calls, stage.recorded) for stage in task.stages} == {(ALL, ALL, 0)}
        assert [outlook.between for outlook in task.sets[0].outlooks] == [None] * 4
        costs = {name: stage.cost or 0 for name, stage in stages(task).items()}
        assert costs["finetuned"] == pytest.approx(2 * costs["baseline"])  # as the prices of tuned models are
        assert costs["teacher"] > 10 * costs["baseline"] > 0

    def test_the_estimate_is_near_to_what_is_then_used(
        self, built_folder: Path, project: Project, planned: Planned
    ) -> None:
        estimated = stages(only(planned()))["baseline"]
        shutil.copytree(built_folder, project.path, dirs_exist_ok=True)
        store(project).unlink()
        measured = stages(only(planned()))["baseline"]
        assert (estimated.recorded, measured.recorded) == (0, ALL)
        assert estimated.tokens == pytest.approx(measured.tokens, rel=0.1)

    def test_a_reasoning_that_the_data_lack_is_counted_and_a_key_is_not_needed(
        self, project: Project, planned: Planned
    ) -> None:
        plain = stages(only(planned()))["baseline"]
        project.write("finetune_tasks.py", (project.path / "finetune_tasks.py").read_text() + REASONED)
        task = only(planned())
        assert task.endpoint == "openai"
        assert stages(task)["baseline"].completion_tokens > plain.completion_tokens + 100 * ALL
        assert (task.training.tokens, task.training.cost) == (None, None)

    def test_a_price_that_is_unknown_is_unknown(self, project: Project, planned: Planned) -> None:
        project.edit("finetune_tasks.py", 'student="sandbox-small"', 'student="mystery"')
        found = stages(only(planned()))
        assert {name: stage.cost for name, stage in found.items() if name != "teacher"} == dict.fromkeys(CLAIMED)
        assert (found["teacher"].cost or 0) > 0
        assert Total.of(found.values()).unpriced == ("mystery", "ft:mystery")

    def test_stopping_early_is_planned_for_equal_stages(self, planned: Planned) -> None:
        shares = {stage.share for stage in only(planned(stop_early=True)).stages}
        assert len(shares) == 1
        assert shares.pop() == pytest.approx(0.68, abs=0.05)

    def test_models_that_judge_are_named(self, project: Project, planned: Planned) -> None:
        project.edit(
            "finetune_tasks.py",
            'metric=metrics.exact_match("department")',
            "metric=metrics.judged(right, model='big')",
        )
        project.edit(
            "finetune_tasks.py", "def task(", "def right(example, prediction, trace=None):\n    ...\n\ndef task("
        )
        assert only(planned()).judges == ("big",)


class TestTheNextJob:
    def test_it_takes_what_the_last_one_took(self, built: Project, planned: Planned) -> None:
        job = read_lock(built.lock).entry("tickets", "finetuned").job
        training = only(planned()).training
        assert job is not None
        assert (training.tokens, training.measured) == (job.trained_tokens, True)
        assert training.cost == pytest.approx((job.trained_tokens or 0) * 3e-6)  # sandbox-small: $3 for a million

    def test_before_the_first_it_is_estimated_where_the_epochs_are_set(
        self, built_folder: Path, project: Project, planned: Planned
    ) -> None:
        assert only(planned()).training.tokens is None
        project.edit("finetune_tasks.py", 'recipe="labels",', 'recipe="labels", hyperparameters={"n_epochs": 3},')
        training = only(planned()).training
        job = read_lock(built_folder / "models.lock").entry("tickets", "finetuned").job
        assert job is not None
        assert not training.measured
        assert training.tokens == pytest.approx(job.trained_tokens, rel=0.1)

    def test_a_field_that_the_data_lack_leaves_it_unknown(self, project: Project, planned: Planned) -> None:
        project.edit("finetune_tasks.py", 'recipe="labels",', 'recipe="bootstrap", hyperparameters={"n_epochs": 3},')
        assert only(planned()).training.tokens is not None
        project.edit("finetune_tasks.py", "dspy.Predict(Route)", 'dspy.Predict("text -> department, urgency")')
        assert only(planned()).training.tokens is None

    def test_an_unknown_price_of_training_is_unknown(self, built: Project, planned: Planned) -> None:
        prices = "[tool.pytest-finetune.prices.sandbox-small]\nprompt = 1\ncompletion = 1\n"
        built.write("pyproject.toml", prices)
        training = only(planned()).training
        assert (training.cost, training.measured) == (None, True)


class TestTrouble:
    def test_a_lock_that_does_not_fit_is_said_and_its_rows_still_tell_what_they_used(
        self, built: Project, planned: Planned
    ) -> None:
        built.edit("finetune_tasks.py", 'exact_match("department")', 'token_f1("department")')
        task = only(planned())
        assert not task.locked
        assert task.drift is not None
        assert "metric" in task.drift
        assert {(stage.asked, stage.recorded) for stage in task.stages} == {(ALL, ALL)}
        assert task.training.measured

    def test_an_unknown_task_and_a_damaged_artifact_are_errors(self, built: Project, planned: Planned) -> None:
        with pytest.raises(UsageError, match="there is no task 'tikets'"):
            planned("tikets")
        built.artifact("rows").write_text("{}\n")
        with pytest.raises(LockError, match="its SHA-256 is not the one in the lock"):
            planned()

    def test_prompts_that_cannot_be_written_are_one_message(self, project: Project, planned: Planned) -> None:
        project.edit("finetune_tasks.py", "    return Task(", "    return Speechless(")
        project.edit("finetune_tasks.py", "def task(", SPEECHLESS)
        with pytest.raises(UsageError, match=r"stage 'baseline', row \w+ \(tickets.jsonl:\d+\).*no words"):
            planned()

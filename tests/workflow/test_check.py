"""What a check gathers: from the data, the lock and the store, without a call; and what it does to a build."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dspy
import pytest
from tests.conftest import Project, make_rows

from pytest_finetune import Dataset, Task, metrics
from pytest_finetune.core.checklist import Checklist, Finding, State
from pytest_finetune.core.prospects import Probe
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import UsageError
from pytest_finetune.lock import read_lock
from pytest_finetune.sandbox import Sandbox
from pytest_finetune.training.journal import Journal
from pytest_finetune.training.remote import KEY, TASK
from pytest_finetune.training.request import mark_of
from pytest_finetune.workflow.check import check, outside, probe
from pytest_finetune.workflow.preflight import check_training_price, preflight
from pytest_finetune.workflow.run import Run
from pytest_finetune.workflow.settings import read_settings

Checked = Callable[..., Checklist]
CAPITALS = {
    "train": [("France", "Paris"), ("Spain", "Madrid"), ("Italy", "Rome")],
    "dev": [("Norway", "Oslo"), ("France again", "Paris"), ("Oslo, of which land?", "Oslo")],
    "test": [("Peru", "Lima")],
}


@pytest.fixture
def run(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    """Makes runs of the project, with settings."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    runs = []

    def call(**settings: Any) -> Run:
        sys.modules.pop("finetune_tasks", None)
        runs.append(Run(replace(read_settings(project.path, environment={}), **settings)))
        return runs[-1]

    yield call
    sys.modules.pop("finetune_tasks", None)
    for each in runs:
        each.close()


@pytest.fixture
def checked(run: Callable[..., Run]) -> Checked:
    """Checks the project, with settings; nothing may be asked."""

    def call(**settings: Any) -> Checklist:
        (checklist,) = check(run(**settings), report=pytest.fail)
        return checklist

    return call


def found(checklist: Checklist) -> Mapping[str, Finding]:
    return {finding.name: finding for finding in checklist.findings}


CHAT = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
PRICE = '[tool.pytest-finetune.prices."sandbox-*"]\nprompt = 1.0\ncompletion = 1.0\ntraining = 3.0\n'


def begin(project: Project, state: str, endpoint: str) -> None:
    """A line of the journal, as a build of the project writes it."""
    about = {"endpoint": endpoint, "model": "sandbox-small", "comeback": "pytest-finetune train tickets"}
    Journal(project.path / ".pytest-finetune" / "jobs.jsonl").write("k", state, job="ftjob-1", **about)


@pytest.fixture
def closed() -> Iterator[str]:
    """An endpoint that answers 404 to everything: it cannot list its jobs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def question(metric: Any = None, rows: Mapping[str, list[tuple[str, str]]] | None = None) -> Task:
    """A task on capitals."""
    told = {
        split: [dspy.Example(land=land, capital=capital).with_inputs("land") for land, capital in pairs]
        for split, pairs in (rows or CAPITALS).items()
    }
    return Task(
        name="capitals",
        program=lambda: dspy.Predict("land -> capital"),
        dataset=Dataset.from_examples(told),
        metric=metric or metrics.exact_match("capital"),
        student="small",
    )


def write_rows(project: Project, rows: Iterable[dict[str, str]]) -> None:
    project.write("tickets.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))


class TestTheMetricOnGoldAnswers:
    def test_one_that_compares_separates(self) -> None:
        assert probe(question()) == Probe(1.0, 0.0, constant=False)

    def test_one_that_does_not_look_is_constant(self) -> None:
        assert probe(question(lambda *_: 0.5)) == Probe(0.5, 0.5, constant=True)

    def test_where_lower_is_better_gold_answers_are_still_the_better_ones(self) -> None:
        wrong = metrics.as_metric(lambda gold, said, _=None: gold.capital != said.capital, higher_is_better=False)
        assert probe(question(wrong)) == Probe(1.0, 0.0, constant=False)

    def test_one_that_asks_a_model_is_left_alone(self) -> None:
        def right(gold: Any, said: Any, trace: Any = None) -> bool:  # noqa: ARG001  # the shape of a metric
            raise AssertionError

        assert probe(question(metrics.judged(right, model="big"))) == "right asks a model, which is not done here"

    def test_one_that_fails_is_not_known(self) -> None:
        told = probe(question(metrics.as_metric(lambda _, said, __=None: said.reasoning == "", name="lengthy")))
        assert isinstance(told, str)
        assert told.startswith("metric lengthy: raised AttributeError")
        assert told.endswith("(on a gold answer)")

    def test_answers_that_are_all_the_same_tell_nothing(self) -> None:
        rows = {**CAPITALS, "train": [("France", "Paris"), ("la France", "Paris")]}
        assert probe(question(rows=rows)) == "the training rows hold one and the same answer"


def test_knowledge_is_what_neither_the_inputs_nor_the_training_answers_have() -> None:
    assert outside(question()) == pytest.approx(1 / 3)


def test_before_the_first_build_what_is_not_known_is_said_to_be(checked: Checked, project: Project) -> None:
    told = found(checked())
    unknown = {name for name, finding in told.items() if finding.state is State.UNKNOWN}
    assert unknown == {"prompts first", "score", "goal", "cost", "return"}
    assert told["cost"].next_step == "set n_epochs in the task's hyperparameters"
    assert not (project.path / ".pytest-finetune").exists()


def test_a_damaged_lock_hides_nothing_of_the_data(checked: Checked, project: Project) -> None:
    project.write("models.lock", "version = 'broken")
    told = found(checked())
    assert told["training rows"].evidence == "240 training rows"
    assert told["metric"].state is State.OK
    assert told["test split"].state is State.UNKNOWN
    assert "models.lock" in told["prompts first"].evidence


def test_data_that_a_build_would_refuse_are_told_with_the_reason(checked: Checked, project: Project) -> None:
    project.edit("finetune_tasks.py", 'Literal["account", ', 'Literal["account", "legal", ')
    told = checked()
    reason = "tickets.jsonl: field 'department': no row of the train split shows 'legal'; add such rows to it"
    assert told.because.name == "training rows"
    assert told.because.evidence.startswith(f"240 training rows; {reason}")
    assert told.because.next_step == "correct the data, which a build refuses"


def test_prices_and_a_hosted_endpoint_are_named(checked: Checked, project: Project) -> None:
    project.write(
        "pyproject.toml", '[tool.pytest-finetune.endpoints.mine]\nbase_url = "https://gpu.example.org/v1"\n'
    )
    project.edit("finetune_tasks.py", 'endpoint="sandbox"', 'endpoint="mine", hyperparameters={"n_epochs": 1}')
    told = found(checked())
    assert told["privacy"].state is State.ADVICE
    assert "would be sent to https://gpu.example.org/v1, training and dev rows as files" in told["privacy"].evidence
    assert told["cost"].next_step == (
        "set the prices of sandbox-small, ft:sandbox-small, sandbox-large, sandbox-small (training) in"
        " [tool.pytest-finetune.prices]"
    )


@pytest.mark.parametrize("address", ["http://127.0.0.1:8000/v1", "http://localhost/v1", "http://[::1]:1/v1"])
def test_what_stays_on_this_machine_is_private(checked: Checked, project: Project, address: str) -> None:
    project.write("pyproject.toml", f'[tool.pytest-finetune.endpoints.mine]\nbase_url = "{address}"\n')
    project.edit("finetune_tasks.py", 'endpoint="sandbox"', 'endpoint="mine"')
    assert found(checked())["privacy"].state is State.OK


def test_the_thresholds_are_settings(checked: Checked, project: Project) -> None:
    project.write("pyproject.toml", "[tool.pytest-finetune.check]\nrows = 100\nfloor = 20\nmonths = 12\n")
    assert found(checked())["training rows"].state is State.OK


@pytest.mark.parametrize(("line", "words"), [("row = 1", "check.row: Extra"), ("score = 2", "check.score: Input")])
def test_a_threshold_that_is_none_is_refused(project: Project, line: str, words: str) -> None:
    project.write("pyproject.toml", f"[tool.pytest-finetune.check]\n{line}\n")
    with pytest.raises(UsageError, match=words):
        read_settings(project.path, environment={})


class TestOfABuiltProject:
    def test_scores_tokens_and_goal_are_those_that_are_recorded(self, built: Project, checked: Checked) -> None:
        told = found(checked())
        mean = read_lock(built.lock).entry("tickets", "prompt_optimized").score
        assert mean is not None
        assert told["prompts first"].evidence == f"prompt_optimized scores {mean.mean:.3f} on 320 rows"
        assert "(wanted" not in told["goal"].evidence
        assert told["goal"].threshold == "at least 0.5"  # of the claim that it was locked with
        assert told["cost"].state is State.OK
        assert "against prompt_optimized" in told["return"].evidence
        assert "of teacher's costs" in told["return"].evidence

    def test_the_store_tells_as_much_as_the_rows_beside_the_lock(self, built: Project, checked: Checked) -> None:
        with_store = checked()
        (built.path / ".pytest-finetune" / "rows.sqlite").unlink()
        assert checked() == with_store

    def test_a_program_that_has_changed_has_no_score(self, built: Project, checked: Checked) -> None:
        built.edit("finetune_tasks.py", 'exact_match("department")', 'token_f1("department")')
        told = found(checked())
        assert told["prompts first"].state is State.UNKNOWN
        assert "fingerprints.metric" in told["prompts first"].evidence


class TestBeforeABuild:
    def test_what_could_be_better_is_one_sentence(self, run: Callable[..., Run]) -> None:
        said: list[str] = []
        preflight(run(), ["tickets"], said.append)
        assert " ".join(map(str.strip, said)) == (
            "tickets: 240 training rows (wanted: at least 500, better 1,000); 320 test rows certify 0.063 (wanted: a"
            " margin of 0.02). More: pytest-finetune check tickets"
        )

    def test_what_cannot_work_is_refused_with_the_reasons(self, run: Callable[..., Run], project: Project) -> None:
        write_rows(project, make_rows(2, train=30, dev=10, test=9))
        with pytest.raises(UsageError) as refused:
            preflight(run(), ["tickets"], pytest.fail)
        assert str(refused.value) == (
            "task 'tickets' cannot work as it is, and nothing was spent:\n"
            "  training rows: 30 training rows (wanted: at least 50): label 20 more at the least, and 500 in all\n"
            "  test split: 9 test rows (wanted: at least 10): give the dataset a larger test split\n"
            "All of it: pytest-finetune check tickets. To build all the same: --ft-skip-check (of train:"
            " --skip-check)"
        )

    def test_a_cap_that_the_build_would_pass_stops_it(self, run: Callable[..., Run], project: Project) -> None:
        project.edit("finetune_tasks.py", 'endpoint="sandbox"', 'endpoint="sandbox", hyperparameters={"n_epochs": 3}')
        preflight(run(max_cost=100.0), ["tickets"], lambda _: None)
        with pytest.raises(UsageError, match=r"cost: traces \$0\.0000, job \$0\.\d+, .* \(wanted: at most \$0\.01\)"):
            preflight(run(max_cost=0.01), ["tickets"], pytest.fail)

    @pytest.mark.parametrize(("state", "paid"), [("created", True), ("succeeded", True), ("failed", False)])
    def test_a_job_that_was_handed_in_is_not_held_against_a_lower_cap(
        self, run: Callable[..., Run], project: Project, state: str, paid: bool
    ) -> None:
        project.edit("finetune_tasks.py", 'endpoint="sandbox"', 'endpoint="sandbox", hyperparameters={"n_epochs": 3}')
        begin(project, state, "sandbox")
        said: list[str] = []
        with nullcontext() if paid else pytest.raises(UsageError, match="wanted: at most"):
            preflight(run(max_cost=0.01), ["tickets"], said.append)
        told = "tickets: a job was handed in before, so that only what it does not cover is held against the cap."
        assert (told in said) is paid

    def test_a_cap_needs_the_price_of_training_but_for_a_job_that_was_handed_in(
        self, run: Callable[..., Run], project: Project, closed: str
    ) -> None:
        project.write("pyproject.toml", f'[tool.pytest-finetune.endpoints.mine]\nbase_url = "{closed}"\n')
        project.edit("finetune_tasks.py", 'endpoint="sandbox"', 'endpoint="mine"')
        capped = run(max_cost=5.0)
        with pytest.raises(UsageError, match="needs the price of training 'sandbox-small'"):
            check_training_price(capped, capped.tasks["tickets"], lambda _: None)
        begin(project, "created", "mine")
        check_training_price(capped, capped.tasks["tickets"], lambda _: None)
        free = run()
        check_training_price(free, free.tasks["tickets"], pytest.fail)

    @pytest.mark.parametrize(("theirs", "ours"), [({}, False), ({TASK: "0" * 32}, False), (None, True)])
    def test_jobs_of_others_on_the_same_endpoint_lift_no_check(
        self, run: Callable[..., Run], project: Project, theirs: dict[str, str] | None, ours: bool
    ) -> None:
        with Sandbox() as server:
            address = f'[tool.pytest-finetune.endpoints.mine]\nbase_url = "{server.base_url}"\n'
            project.write("pyproject.toml", address)
            project.edit(
                "finetune_tasks.py", 'endpoint="sandbox"', 'endpoint="mine", hyperparameters={"n_epochs": 3}'
            )
            capped = run(max_cost=0.01)
            task = capped.tasks["tickets"]
            mark = {TASK: mark_of(task)} if theirs is None else theirs
            with Endpoint("mine", server.base_url).client() as client:
                file = client.files.create(file=("rows.jsonl", CHAT * 12), purpose="fine-tune")
                metadata = {KEY: "f" * 32, **mark}
                client.fine_tuning.jobs.create(model="sandbox-small", training_file=file.id, metadata=metadata)
            with nullcontext() if ours else pytest.raises(UsageError, match="needs the price of training"):
                check_training_price(capped, task, lambda _: None)
            project.write("pyproject.toml", address + PRICE)
            with nullcontext() if ours else pytest.raises(UsageError, match=r"wanted: at most \$0\.01"):
                preflight(run(max_cost=0.01), ["tickets"], lambda _: None)

    def test_a_cap_that_an_unknown_cost_may_pass_is_told(self, run: Callable[..., Run]) -> None:
        said: list[str] = []
        preflight(run(max_cost=100.0), ["tickets"], said.append)
        assert "job unknown" in " ".join(said)
        assert "(wanted: at most $100)" in " ".join(map(str.strip, said))

    def test_it_can_be_skipped(self, run: Callable[..., Run], project: Project) -> None:
        write_rows(project, make_rows(2, train=30, dev=10, test=9))
        preflight(run(skip_check=True), ["tickets"], pytest.fail)

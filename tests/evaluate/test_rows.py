"""What comes of an evaluation: the rows, and what a second one costs."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from pathlib import Path

import dspy
import pytest
from tests.evaluate.colours import METRIC, Name, ThinkThenName, rows, stage

from pytest_finetune import metrics
from pytest_finetune.core.records import Row, RowState, Usage
from pytest_finetune.errors import UsageError
from pytest_finetune.evaluate import Progress, evaluate
from pytest_finetune.sandbox import Sandbox
from pytest_finetune.store import Store


def asked(sandbox: Sandbox) -> int:
    return int(sandbox.request_counts()["total"])


def test_every_row_of_every_stage_is_answered_and_scored(sandbox: Sandbox, store: Store) -> None:
    stages = [
        stage("one call", sandbox.base_url),
        stage("two calls", sandbox.base_url, ThinkThenName(), model="sandbox-large"),
    ]
    data = rows(30)
    found = evaluate(stages, data, METRIC, store, concurrency=8, timeout=30)
    assert list(found) == ["one call", "two calls"]
    for name, model in (("one call", "sandbox-small"), ("two calls", "sandbox-large")):
        assert [row.row_id for row in found[name]] == [row.row_id for row in data]
        assert {row.state for row in found[name]} == {RowState.SCORED}
        assert {row.served_model for row in found[name]} == {model}
        for row, given in zip(found[name], data, strict=True):
            assert row.stage == name
            assert row.score == float(f'"colour":"{given.fields["colour"]}"' in (row.output or ""))
            assert row.latency is not None
            assert row.latency > 0
    assert asked(sandbox) == 30 + 2 * 30
    usage = [row.usage or Usage(0, 0) for row in (found["one call"][0], found["two calls"][0])]
    assert usage[1].prompt_tokens > usage[0].prompt_tokens > 100
    assert usage[1].completion_tokens > usage[0].completion_tokens > 5


def test_a_second_run_asks_nothing_and_gives_the_same(sandbox: Sandbox, path: Path) -> None:
    told: list[Progress] = []
    found: list[dict[str, tuple[Row, ...]]] = []
    for _ in range(2):
        with Store.create(path) as store:
            stages = [stage("baseline", sandbox.base_url)]
            found.append(evaluate(stages, rows(20), METRIC, store, timeout=30, progress=told.append))
        assert asked(sandbox) == 20
    assert found[0] == found[1]
    assert (told[-1].total, told[-1].done, told[-1].asked, told[-1].reused) == (20, 20, 0, 20)
    assert told[-1].reused_since is not None


def test_a_changed_metric_scores_again_without_asking(sandbox: Sandbox, store: Store) -> None:
    stages = [stage("baseline", sandbox.base_url)]
    exact = evaluate(stages, rows(20), METRIC, store, timeout=30)["baseline"]
    always = metrics.as_metric(lambda _e, _p, _t=None: 0.25, name="quarter", version="1")
    again = evaluate(stages, rows(20), always, store, timeout=30)["baseline"]
    assert {row.score for row in again} == {0.25}
    assert [row.output for row in again] == [row.output for row in exact]
    assert asked(sandbox) == 20


def test_a_corrected_label_scores_again_without_asking(sandbox: Sandbox, store: Store) -> None:
    class Echo(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
        """Say it."""

        thing: str = dspy.InputField()
        colour: str = dspy.OutputField()

    stages = [stage("baseline", sandbox.base_url, dspy.Predict(Echo))]
    data = rows(6)
    before = evaluate(stages, data, METRIC, store, timeout=30)["baseline"]
    asked_before = asked(sandbox)
    right = {row.row_id: row.output or "" for row in before}

    corrected = [
        dataclasses.replace(row, row_id=f"new {row.row_id}", fields={**row.fields, **json.loads(right[row.row_id])})
        for row in data
    ]
    after = evaluate(stages, corrected, METRIC, store, timeout=30)["baseline"]
    assert [row.score for row in after] == [1.0] * 6
    assert [row.row_id for row in after] == [row.row_id for row in corrected]
    assert asked(sandbox) == asked_before


def test_one_changed_stage_is_asked_alone(sandbox: Sandbox, store: Store) -> None:
    stages = [stage("a", sandbox.base_url), stage("b", sandbox.base_url)]
    evaluate(stages, rows(10), METRIC, store, timeout=30)
    assert asked(sandbox) == 20
    evaluate([stages[0], stage("b", sandbox.base_url, model="sandbox-large")], rows(10), METRIC, store, timeout=30)
    assert asked(sandbox) == 30


def test_stages_that_are_the_same_thing_share_their_answers(sandbox: Sandbox, store: Store) -> None:
    kept = stage("baseline", sandbox.base_url)
    stages = [kept, dataclasses.replace(kept, name="prompt_optimized")]
    found = evaluate(stages, rows(10), METRIC, store, timeout=30)
    assert asked(sandbox) == 10
    assert [row.score for row in found["baseline"]] == [row.score for row in found["prompt_optimized"]]
    assert {row.stage for row in found["prompt_optimized"]} == {"prompt_optimized"}


@pytest.mark.parametrize("adapter", [dspy.JSONAdapter(), dspy.XMLAdapter()], ids=["json", "xml"])
def test_other_adapters_give_what_dspy_gives_without_us(
    sandbox: Sandbox, store: Store, adapter: dspy.Adapter
) -> None:
    asks = stage("baseline", sandbox.base_url, adapter=adapter)
    data = rows(4)
    found = evaluate([asks], data, METRIC, store, timeout=30)["baseline"]
    with dspy.context(adapter=adapter):
        plain = [dict(asks.program(thing=row.fields["thing"]).items()) for row in data]
    assert [json.loads(row.output or "") for row in found] == plain


def test_repeats_are_asked_apart(sandbox: Sandbox, store: Store) -> None:
    found = evaluate([stage("baseline", sandbox.base_url)], rows(4), METRIC, store, timeout=30, repeats=3)
    assert [row.repeat for row in found["baseline"]] == [0, 1, 2] * 4
    assert asked(sandbox) == 12


def test_a_metric_that_fails_names_the_row_and_loses_no_answer(sandbox: Sandbox, store: Store) -> None:
    data = rows(12)

    def picky(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> float:
        assert example.thing != data[0].fields["thing"], f"what is {prediction.colour}? {trace}"
        return 1.0

    stages = [stage("baseline", sandbox.base_url)]
    with pytest.raises(UsageError, match=rf"metric picky, stage baseline, row {data[0].row_id} .*AssertionError"):
        evaluate(stages, data, metrics.as_metric(picky, version="1"), store, concurrency=2, timeout=30)
    before = asked(sandbox)
    evaluate(stages, data, METRIC, store, timeout=30)
    assert asked(sandbox) == 12
    assert before >= 1


def test_a_metric_sees_the_types_of_the_program_also_when_it_scores_again(sandbox: Sandbox, store: Store) -> None:
    class Many(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
        """Name colours."""

        thing: str = dspy.InputField()
        colours: set[str] = dspy.OutputField()

    def is_a_set(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> bool:
        return isinstance(prediction.colours, set) and not trace and "thing" in example

    class Both(dspy.Module):  # type: ignore[misc]  # dspy ships no types
        def __init__(self) -> None:
            super().__init__()
            self.name = dspy.Predict(Name)
            self.unused = dspy.Predict(Many)

        def forward(self, thing: str) -> dspy.Prediction:
            return dspy.Prediction(colours={self.name(thing=thing).colour, "red"})

    stages = [stage("baseline", sandbox.base_url, Both())]
    for version in ("1", "2"):
        metric = metrics.as_metric(is_a_set, version=version)
        assert [r.score for r in evaluate(stages, rows(3), metric, store, timeout=30)["baseline"]] == [1.0] * 3
    assert asked(sandbox) == 3


def test_nothing_leaks_into_or_out_of_the_settings_of_the_tests(sandbox: Sandbox, store: Store) -> None:
    module = sys.modules["dspy.dsp.utils.settings"]
    theirs = dspy.LM("openai/never-asked", api_base="http://127.0.0.1:9/v1", api_key="none")
    before = dict(module.main_thread_config)
    threads = set(threading.enumerate())
    try:
        with dspy.context(lm=theirs, adapter=dspy.JSONAdapter()):
            evaluate([stage("baseline", sandbox.base_url)], rows(5), METRIC, store, timeout=30)
            assert dspy.settings.lm is theirs
        assert dict(module.main_thread_config) == before
        assert theirs.history == []
    finally:
        for thread in set(threading.enumerate()) - threads:
            thread.join(timeout=5)
    assert set(threading.enumerate()) <= threads


def test_the_program_that_was_given_is_not_changed(sandbox: Sandbox, store: Store) -> None:
    given = stage("baseline", sandbox.base_url)
    lm = given.program.lm
    evaluate([given], rows(3), METRIC, store, timeout=30)
    assert given.program.lm is lm
    assert (given.program.history, lm.history) == ([], [])


@pytest.mark.parametrize("problem", ["no lm", "foreign lm", "no predictor", "names", "concurrency"])
def test_what_cannot_be_evaluated_is_said_before_anything_is_asked(
    sandbox: Sandbox, store: Store, problem: str
) -> None:
    good = stage("baseline", sandbox.base_url)
    program: dspy.Module = dspy.Predict(Name)
    if problem == "foreign lm":
        program.set_lm(dspy.LM("anthropic/claude", api_key="none"))
    elif problem == "no predictor":
        program = dspy.Module()
    stages = [good, good] if problem == "names" else [dataclasses.replace(good, program=program)]
    messages = {
        "no lm": "stage baseline, predictor self: it has no LM",
        "foreign lm": "its LM 'anthropic/claude' does not come from an endpoint",
        "no predictor": "has no predictor",
        "names": "two stages have the same name",
        "concurrency": "concurrency=0",
    }
    with pytest.raises(UsageError, match=messages[problem]):
        evaluate(stages, rows(3), METRIC, store, timeout=30, concurrency=0 if problem == "concurrency" else 4)
    assert asked(sandbox) == 0


def test_where_lower_is_better_what_is_kept_is_the_rest_to_one(sandbox: Sandbox, store: Store) -> None:
    def wrong(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> bool:  # noqa: ARG001
        return bool(example.colour != prediction.colour)

    error = metrics.as_metric(wrong, higher_is_better=False)
    run = [stage("baseline", sandbox.base_url)]
    right, kept = (evaluate(run, rows(30), metric, store, timeout=30)["baseline"] for metric in (METRIC, error))
    assert {row.score for row in right} == {0.0, 1.0}
    assert [row.score for row in kept] == [row.score for row in right]

"""What a provider does to an evaluation, and what the evaluation makes of it."""

from __future__ import annotations

import socket
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dspy
import pytest
from tests.evaluate.colours import METRIC, QUICK, Name, ThinkThenName, rows, stage

from pytest_finetune.core.records import RowState
from pytest_finetune.dataset import SPLITS, Dataset
from pytest_finetune.errors import EndpointError, UsageError
from pytest_finetune.evaluate import Retries, evaluate
from pytest_finetune.sandbox import Fault, FaultKind, Sandbox
from pytest_finetune.store import Store

FIVE_PERCENT = [
    Fault(kind=FaultKind.RATE_LIMIT, rate=0.05, seconds=0.1),
    Fault(kind=FaultKind.SERVER_ERROR, rate=0.05),
    Fault(kind=FaultKind.DROP, rate=0.05),
    Fault(kind=FaultKind.HANG, rate=0.05, seconds=20),
]


def test_five_percent_of_every_fault_change_no_score(sandbox: Sandbox, store: Store) -> None:
    data = rows(150)
    stages = [
        stage("one call", sandbox.base_url),
        stage("two calls", sandbox.base_url, ThinkThenName(), model="sandbox-large"),
    ]
    calm = evaluate(stages, data, METRIC, store, timeout=30)
    sandbox.set_faults(*FIVE_PERCENT)
    sandbox.forget_requests()
    again = [stage(f"{one.name} again", sandbox.base_url, one.program, model=one.model) for one in stages]
    stormy = evaluate(again, data, METRIC, store, timeout=0.5, retries=QUICK)
    for one, other in zip(calm.values(), stormy.values(), strict=True):
        assert [(row.state, row.score, row.output) for row in one] == [
            (row.state, row.score, row.output) for row in other
        ]
    before = sandbox.request_counts()["total"]
    assert before > 450  # dropped answers were given, and asked for again
    evaluate(again, data, METRIC, store, timeout=0.5, retries=QUICK)
    assert sandbox.request_counts()["total"] == before


@pytest.mark.parametrize(("count", "in_a_row"), [(100, 8), (2, 2)])
def test_a_dead_server_is_an_error_and_never_a_score(store: Store, count: int, in_a_row: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
    hasty = Retries(attempts=2, first=0.01)
    expected = rf"baseline: {in_a_row} rows in a row got no answer .*refused.*What was answered is kept"
    with pytest.raises(EndpointError, match=expected):
        evaluate([stage("baseline", address)], rows(count), METRIC, store, timeout=5, retries=hasty)


def test_a_row_that_finds_no_answer_is_an_error_and_is_asked_again_by_the_next_run(
    sandbox: Sandbox, path: Path
) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.SERVER_ERROR, times=3))
    stages = [stage("baseline", sandbox.base_url)]
    with Store.create(path) as first:
        found = evaluate(
            stages, rows(10), METRIC, first, concurrency=1, timeout=5, retries=Retries(attempts=3, first=0.01)
        )["baseline"]
    assert [row.state for row in found] == [RowState.ERROR] + [RowState.SCORED] * 9
    assert (found[0].score, found[0].served_model) == (None, None)
    assert found[0].error == (
        "server: The server had an error while processing your request. Sorry about that! (after 3 requests)"
    )
    with Store.create(path) as second:
        found = evaluate(stages, rows(10), METRIC, second, timeout=5)["baseline"]
    assert {row.state for row in found} == {RowState.SCORED}
    assert sandbox.request_counts()["total"] == 10


@pytest.mark.parametrize(("seconds", "attempts"), [(0.4, 2), (90.0, 1)], ids=["waits", "gives up"])
def test_retry_after_is_honoured_within_reason(sandbox: Sandbox, store: Store, seconds: float, attempts: int) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.RATE_LIMIT, times=1, seconds=seconds))
    start = time.monotonic()
    stages = [stage("baseline", sandbox.base_url)]
    found = evaluate(stages, rows(2), METRIC, store, concurrency=1, timeout=30, retries=QUICK)["baseline"]
    took = time.monotonic() - start
    if attempts == 2:
        assert {row.state for row in found} == {RowState.SCORED}
        assert 0.4 <= took < 3
    else:
        assert [row.state for row in found] == [RowState.ERROR, RowState.SCORED]
        assert took < 3


def test_a_model_that_is_gone_ends_the_evaluation_with_one_error(sandbox: Sandbox, store: Store) -> None:
    stages = [stage("baseline", sandbox.base_url), stage("finetuned", sandbox.base_url, model="ft:gone")]
    said = "stage finetuned: model 'ft:gone' is not deployed: unsupported_model: The"
    with pytest.raises(EndpointError, match=said):
        evaluate(stages, rows(300), METRIC, store, concurrency=4, timeout=5)
    assert sandbox.request_counts()["total"] <= 8


def test_a_garbled_answer_is_the_models_fault(sandbox: Sandbox, store: Store) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.GARBLE, rate=0.2))
    strict = dspy.ChatAdapter(use_json_adapter_fallback=False)
    found = evaluate([stage("baseline", sandbox.base_url, adapter=strict)], rows(60), METRIC, store, timeout=30)
    states = Counter(row.state for row in found["baseline"])
    assert set(states) == {RowState.SCORED, RowState.FORMAT_ERROR}
    broken = next(row for row in found["baseline"] if row.state is RowState.FORMAT_ERROR)
    assert broken.error == "unparseable: the answer does not have the fields that the adapter asked for"
    assert broken.score is None
    assert "completed" in (broken.output or "")
    assert broken.usage is not None
    assert sandbox.request_counts()["total"] == 60
    sandbox.set_faults()
    evaluate([stage("baseline", sandbox.base_url, adapter=strict)], rows(60), METRIC, store, timeout=30)
    assert sandbox.request_counts()["total"] == 60


def test_a_truncated_answer_is_told_from_an_unparseable_one(sandbox: Sandbox, store: Store) -> None:
    cut = stage("baseline", sandbox.base_url, max_tokens=2)
    found = evaluate([cut], rows(2), METRIC, store, timeout=30)["baseline"]
    assert {(row.state, (row.error or "").split(":")[0]) for row in found} == {(RowState.FORMAT_ERROR, "truncated")}


class Swallows(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    """What many a careful program does, and no gate may believe."""

    def __init__(self) -> None:
        super().__init__()
        self.name = dspy.Predict(Name)

    def forward(self, thing: str) -> dspy.Prediction:
        try:
            return self.name(thing=thing)
        except Exception:  # noqa: BLE001  # that is what it is here for
            return dspy.Prediction(colour="red")


def test_an_outage_that_the_program_swallows_is_an_error_all_the_same(sandbox: Sandbox, store: Store) -> None:
    sandbox.set_faults(Fault(kind=FaultKind.SERVER_ERROR, times=1))
    stages = [stage("baseline", sandbox.base_url, Swallows())]
    found = evaluate(stages, rows(3), METRIC, store, concurrency=1, timeout=5, retries=Retries(attempts=1))
    assert [row.state for row in found["baseline"]] == [RowState.ERROR, RowState.SCORED, RowState.SCORED]


class Fails(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    """A program with a mistake that some rows bring out."""

    def __init__(self, things: str) -> None:
        super().__init__()
        self.name = dspy.Predict(Name)
        self.things = things

    def forward(self, thing: str) -> dspy.Prediction:
        if self.things in thing:
            raise KeyError(thing)
        return self.name(thing=thing)


def test_a_program_that_raises_is_an_error_with_its_place(sandbox: Sandbox, store: Store) -> None:
    stages = [stage("baseline", sandbox.base_url, Fails("number 7"))]
    found = evaluate(stages, rows(10), METRIC, store, concurrency=1, timeout=5)["baseline"]
    (failed,) = [row for row in found if row.state is RowState.ERROR]
    assert failed.error is not None
    assert failed.error.startswith("program: raised KeyError: 'grass number 7' (test_faults.py:")


def test_a_program_that_always_raises_is_stopped(sandbox: Sandbox, store: Store) -> None:
    stages = [stage("baseline", sandbox.base_url, Fails("number"))]
    with pytest.raises(
        UsageError, match="8 rows in a row failed in the program itself; the last one: program: raised"
    ):
        evaluate(stages, rows(100), METRIC, store, concurrency=1, timeout=5)


def test_a_program_that_never_ends_is_left_behind(
    sandbox: Sandbox, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sleeps(Fails):
        def forward(self, thing: str) -> dspy.Prediction:
            if self.things in thing:
                time.sleep(30)
            return self.name(thing=thing)

    monkeypatch.setattr("pytest_finetune.evaluate.runner._RENEWAL", 0.1)
    stages = [stage("baseline", sandbox.base_url, Sleeps("number 7"))]
    found = evaluate(stages, rows(10), METRIC, store, concurrency=2, timeout=0.2)["baseline"]
    assert Counter(row.state for row in found) == {RowState.SCORED: 9, RowState.ERROR: 1}
    assert [row.error for row in found if row.error] == ["timeout: the program was still running after 2 s"]


class Gives(Fails):
    """A program whose result cannot be kept."""

    def forward(self, thing: str) -> object:
        self.name(thing=thing)
        return {"nothing": None, "object": dspy.Prediction(colour=object())}[self.things]


@pytest.mark.parametrize(
    ("result", "message"),
    [("nothing", "gave a NoneType; it must give a dspy.Prediction"), ("object", "type object has no canonical form")],
)
def test_a_result_that_cannot_be_kept_is_the_programs_mistake(
    sandbox: Sandbox, store: Store, result: str, message: str
) -> None:
    with pytest.raises(UsageError, match=rf"stage baseline.*{message}"):
        evaluate([stage("baseline", sandbox.base_url, Gives(result))], rows(20), METRIC, store, timeout=5)


class Threaded(Swallows):
    """Asks in threads of its own, which know nothing of the row."""

    def forward(self, thing: str) -> dspy.Prediction:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(super().forward, thing).result()


def test_a_call_from_a_thread_that_knows_no_row_is_no_answer(sandbox: Sandbox, store: Store) -> None:
    stages = [stage("baseline", sandbox.base_url, Threaded())]
    with pytest.raises(
        UsageError, match=r"asks 'openai/sandbox-small' from a thread.* use dspy\.Parallel, or run the"
    ):
        evaluate(stages, rows(3), METRIC, store, concurrency=1, timeout=5)


class Exits(Fails):
    """A program that wants to end the process on some rows."""

    def forward(self, thing: str) -> dspy.Prediction:
        if self.things in thing:
            sys.exit(3)
        return self.name(thing=thing)


def test_a_program_that_exits_ends_the_run_at_once_with_its_name(sandbox: Sandbox, store: Store) -> None:
    began = time.monotonic()
    with pytest.raises(UsageError, match="raised SystemExit, which no program or metric may: 3"):
        evaluate([stage("baseline", sandbox.base_url, Exits("number 2"))], rows(5), METRIC, store, timeout=60)
    assert time.monotonic() - began < 30


class Edits(Fails):
    """A program that changes what it is given."""

    def forward(self, thing: Any) -> dspy.Prediction:
        thing.append("seen")
        return dspy.Prediction(colour=str(len(thing)), name=self.name(thing=thing[0]).colour)


def test_a_program_that_changes_its_inputs_changes_them_for_no_other_stage(sandbox: Sandbox, store: Store) -> None:
    splits = {split: [{"thing": [f"{split} {n}"], "colour": "2"} for n in range(5)] for split in SPLITS}
    held = Dataset.from_examples(splits, inputs=["thing"]).rows("test")
    stages = [stage(name, sandbox.base_url, Edits("")) for name in ("first", "second")]
    found = evaluate(stages, held, METRIC, store, timeout=30)
    assert {row.score for of_stage in found.values() for row in of_stage} == {1.0}

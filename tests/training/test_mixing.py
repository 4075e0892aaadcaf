"""Rows of other work in the training file: which, how many, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.training.conftest import Report, make_rows, make_task
from tests.training.test_recipes import build, rows_of, score

from pytest_finetune import Dataset, Mix
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import EvidenceError, UsageError
from pytest_finetune.lock.artifacts import Artifacts
from pytest_finetune.lock.model import ArtifactRefs, Entry
from pytest_finetune.programs import dump_state, load_state
from pytest_finetune.task import FINETUNED, Task
from pytest_finetune.training.mixing import mixed_rows
from pytest_finetune.workflow.facts import facts_of
from pytest_finetune.workflow.leaks import check_leaks, leaks_of
from pytest_finetune.workflow.stages import pinned_stage

HERE = Endpoint("sandbox", "http://127.0.0.1:9/v1")
SIZES = ["tiny", "small", "large", "huge"]


def make_sizes(count: int) -> list[dict[str, str]]:
    return [
        {"animal": f"animal {number} of {SIZES[number % 4]} breed", "size": SIZES[number % 4]}
        for number in range(count)
    ]


def sizes(count: int = 40) -> Dataset:
    return Dataset.from_examples(make_sizes(count), inputs=["animal"])


def size_program() -> Any:
    return dspy.Predict(dspy.Signature("animal -> size", "Say how big it is."))


def mixing(share: float = 0.25, count: int = 40, **changes: Any) -> Task:
    return make_task(recipe="labels", mix=Mix(sizes(count), share, size_program), **changes)


@given(st.floats(0.01, 0.9), st.integers(1, 60), st.integers(0, 9))
def test_the_share_is_that_of_the_file_as_far_as_there_are_rows(share: float, count: int, seed: int) -> None:
    task = mixing(share, seed=seed)
    rows = mixed_rows(task, count)
    assert len(rows) == min(40, round(share * count / (1 - share)))
    assert rows == mixed_rows(mixing(share, seed=seed), count)
    assert len({json.dumps(row) for row in rows}) == len(rows)


def test_another_seed_draws_others_and_no_mix_draws_none() -> None:
    assert mixed_rows(mixing(seed=1), 30) != mixed_rows(mixing(seed=2), 30)
    assert mixed_rows(make_task(), 60) == []


def test_mixed_rows_are_trained_on_with_their_own_prompts_and_answers(
    endpoint: Endpoint, journal: Path, report: Report
) -> None:
    task = mixing()
    built = build(task, endpoint, journal, report)
    trained = rows_of(built.models[""].training_file)
    mixed = [messages for messages in trained if "Say how big it is." in messages[0]["content"]]
    assert (len(trained), len(mixed)) == (80, 20)
    for _, user, assistant in mixed:
        assert any(f"of {size} breed" in user["content"] and size in assistant["content"] for size in SIZES)
    assert "Mixing in 20 rows of other work with 60 of the task." in report
    assert sum(count for count, _ in built.kept.values()) == 60
    assert score(task, built.program) > 0.8
    assert (
        build(task, endpoint, journal.parent / "b" / "jobs.jsonl", report, concurrency=1).models[""].job
        == built.models[""].job
    )


def pinned_with(tmp_path: Path, task: Task, training: bytes) -> Any:
    artifacts = Artifacts(tmp_path / "models.lock.d")
    state = dump_state(task.program())
    facts = facts_of(task, FINETUNED, load_state(task.program(), state), HERE)
    refs = ArtifactRefs(
        program=artifacts.put_json("program", state), training=artifacts.put_bytes("training", training)
    )
    entry = Entry(**facts.model_dump(), model="ft:x", artifacts=refs)
    return pinned_stage(task, entry, HERE, artifacts)


def leaked(tmp_path: Path, suite: Sequence[dict[str, str]]) -> Task:
    guard = Dataset.from_examples(list(suite), inputs=["animal"])
    task = mixing(suites={"sizes": guard})
    training = b"".join(json.dumps(row).encode() + b"\n" for row in mixed_rows(task, 60))
    pinned = pinned_with(tmp_path, task, training)
    rows = task.held_out("sizes").rows
    check_leaks(task, {FINETUNED: leaks_of(rows, pinned)}, suite="sizes")
    assert leaks_of(task.dataset.rows("test"), pinned).exact == ()
    return task


def test_a_guard_suite_must_not_hold_what_was_mixed_in(tmp_path: Path) -> None:
    other = [{"animal": f"beast {number} quite unlike the others", "size": "huge"} for number in range(20)]
    leaked(tmp_path, other)
    with pytest.raises(EvidenceError, match=r"suite 'sizes' of task 'colours': 20 of 40 rows were used to build"):
        leaked(tmp_path, make_sizes(40))


def facts(task: Task) -> dict[str, Any]:
    return dict(facts_of(task, FINETUNED, task.program(), HERE).params)


def test_what_is_mixed_in_is_a_fact_of_the_lock_and_only_where_it_is() -> None:
    assert facts(make_task()) == {}
    told = facts(mixing())["mix"]
    assert (told["share"], len(told["data"]), len(told["program"])) == (0.25, 64, 64)
    assert facts(mixing(share=0.3)) != facts(mixing()) != facts(mixing(count=39))
    assert facts(make_task(seeds=(3, 4))) == {"seeds": [3, 4]}
    lenient = make_task().scorer.for_bootstrapping(threshold=0.5)
    assert facts(make_task(metric=lenient)).keys() == {"bootstrap_metric"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"mix": Mix(sizes())},
            r"mix: the data .* have no field 'thing', .* give the program that these rows are of",
        ),
        ({"mix": Mix(sizes(), 1.0)}, "share=1.0 is a share of the training file"),
        ({"mix": make_rows(3, 1)}, "mix must be a Dataset, or a Mix with one"),
        ({"seeds": (1, 1)}, "give different whole numbers"),
        ({"seeds": (1, 0.5)}, "give different whole numbers"),
    ],
)
def test_what_cannot_be_mixed_is_refused(journal: Path, report: Report, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build(make_task(recipe="labels", **changes), HERE, journal, report)


def test_a_dataset_alone_is_mixed_in_as_rows_of_the_task(endpoint: Endpoint, journal: Path, report: Report) -> None:
    more = Dataset.from_examples(make_rows(30, 9), inputs=["thing"])
    built = build(make_task(recipe="labels", mix=more), endpoint, journal, report)
    assert len(rows_of(built.models[""].training_file)) == 67

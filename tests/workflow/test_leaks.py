"""Test rows in what a stage was built from are found, whatever its program, and nothing is judged on them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import pytest
from tests.conftest import Project

from pytest_finetune import Dataset, Task, metrics
from pytest_finetune.core.leaks import Leak, Leaks
from pytest_finetune.endpoints import SANDBOX, Endpoint
from pytest_finetune.errors import EvidenceError, LockError
from pytest_finetune.lock import ArtifactRefs, Artifacts, Entry, read_lock, update_lock
from pytest_finetune.programs import dump_state
from pytest_finetune.task import FINETUNED, PROMPT_OPTIMIZED
from pytest_finetune.training.rows import Call, to_jsonl, written
from pytest_finetune.workflow.facts import facts_of
from pytest_finetune.workflow.leaks import check_leaks, leaks_of
from pytest_finetune.workflow.run import Run
from pytest_finetune.workflow.settings import read_settings
from pytest_finetune.workflow.stages import pinned_stage

Fields = Mapping[str, Any]

# --- a project that was built -------------------------------------------------------------------------------


@pytest.fixture
def run(built: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    run = Run(read_settings(built.path, options={"models": [str(built.lock)]}, environment={}))
    yield run
    run.close()
    sys.modules.pop("finetune_tasks", None)


def leaks_in(run: Run, stage: str) -> Leaks:
    task = run.tasks["tickets"]
    entry = read_lock(run.locks.of("tickets")).entry("tickets", stage)
    pinned = pinned_stage(task, entry, run.endpoint(task), run.artifacts("tickets"))
    return leaks_of(task.dataset.rows("test"), pinned)


def repin(run: Run, stage: str, **refs: str) -> None:
    entry = read_lock(run.locks.of("tickets")).entry("tickets", stage)
    changed = entry.artifacts.model_copy(update=refs)
    update_lock(run.locks.of("tickets"), [entry.model_copy(update={"artifacts": changed})])


def train_on(run: Run, *texts: str) -> Path:
    """Put messages in the place of the first that the model was trained on."""
    ref = read_lock(run.locks.of("tickets")).entry("tickets", FINETUNED).artifacts.training or ""
    lines = run.artifacts("tickets").get_bytes(ref).decode().splitlines()
    for number, text in enumerate(texts):
        row = json.loads(lines[number])
        header, said, *rest = row["messages"][1]["content"].split("\n")
        assert header == "[[ ## text ## ]]"
        assert said
        row["messages"][1]["content"] = "\n".join([header, text, *rest])
        lines[number] = json.dumps(row)
    ref = run.artifacts("tickets").put_bytes("training", "".join(f"{line}\n" for line in lines).encode())
    repin(run, FINETUNED, training=ref)
    return run.artifacts("tickets").path(ref)


def test_unbroken_no_stage_has_seen_a_test_row_or_one_near_to_it(run: Run) -> None:
    task = run.tasks["tickets"]
    found = {stage: leaks_in(run, stage) for stage in task.stages}
    assert found == dict.fromkeys(task.stages, Leaks())
    assert check_leaks(task, found) == frozenset()


def test_a_test_row_in_the_training_file_is_named_with_its_line_and_the_way_out(run: Run) -> None:
    task = run.tasks["tickets"]
    row = task.dataset.rows("test")[5]
    assert row.where == f"tickets.jsonl:{row.line}"
    path = train_on(run, "something else", row.fields["text"])
    leaks = leaks_in(run, FINETUNED)
    assert leaks == Leaks(exact=(Leak(row.row_id, f"training row 2 of {path}", 1.0),))
    with pytest.raises(EvidenceError) as caught:
        check_leaks(task, {"baseline": Leaks(), FINETUNED: leaks})
    assert str(caught.value).splitlines() == [
        "task 'tickets': 1 of 320 test rows were used to build a stage, whose score on them says nothing:",
        f"  {row.where} (row {row.row_id}): stage 'finetuned', training row 2 of {path}, similarity 1.00",
        (
            "Take them out of the training data and build again (pytest --ft-retrain --ft-task tickets); or give the"
            " data a `group` field, which keeps in one split what belongs together; or take a fresh test split."
        ),
    ]


def test_a_demonstration_that_is_a_test_row_is_found(run: Run) -> None:
    row = run.tasks["tickets"].dataset.rows("test")[0]
    entry = read_lock(run.locks.of("tickets")).entry("tickets", PROMPT_OPTIMIZED)
    state = run.artifacts("tickets").get_json(entry.artifacts.program)
    state["predictors"]["self"]["demos"][2] = {"text": row.fields["text"], "department": "billing"}
    repin(run, PROMPT_OPTIMIZED, program=run.artifacts("tickets").put_json("program", state))
    assert leaks_in(run, PROMPT_OPTIMIZED).exact == (Leak(row.row_id, "demonstration 3 of predictor 'self'", 1.0),)


def test_near_rows_are_told_up_to_a_share_and_refused_beyond(run: Run) -> None:
    task = run.tasks["tickets"]
    rows = task.dataset.rows("test")[:7]
    path = train_on(run, *(f"{row.fields['text'].title()}!" for row in rows))
    found = {FINETUNED: leaks_in(run, FINETUNED)}
    assert found[FINETUNED].exact == ()
    assert check_leaks(task, {FINETUNED: Leaks(near=found[FINETUNED].near[:6])}) == {row.row_id for row in rows[:6]}
    assert check_leaks(task, found, max_near=0.03) == {row.row_id for row in rows}
    with pytest.raises(EvidenceError) as caught:
        check_leaks(task, found)
    assert str(caught.value).splitlines() == [
        (
            "task 'tickets': 7 of 320 test rows (2.2%) are nearly the same as what was used to build a stage;"
            " max_near_leaks allows 2.0%:"
        ),
        *(
            f"  {row.where} (row {row.row_id}): stage 'finetuned', training row {n} of {path}, similarity 1.00"
            for n, row in enumerate(rows[:3], start=1)
        ),
        "  … and 4 more",
        (
            "Give the data a `group` field, which keeps in one split what belongs together, or take a fresh test"
            " split; where rows are that much alike by nature, set max_near_leaks."
        ),
    ]


# --- programs of other shapes -------------------------------------------------------------------------------

HERE = Endpoint(SANDBOX, "http://127.0.0.1:1/v1")
QA = "context, question -> answer"
SAME = [{"question": "who", "answer": answer} for answer in ("Ann", "Bob")]


class Steps(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    """The last step answers the question with what others found out."""

    def __init__(self) -> None:
        self.search = dspy.Predict("question -> query")
        self.answer = dspy.ChainOfThought("notes, question, history: dspy.History -> answer")


def make_task(program: Any, test: Sequence[Fields], inputs: Sequence[str], **changes: Any) -> Task:
    blank = {name: "…" for row in test for name in row}
    rows = {
        "train": [blank | dict.fromkeys(inputs, "to train on")],
        "dev": [blank | dict.fromkeys(inputs, "to tune on")],
    }
    dataset = Dataset.from_examples({**rows, "test": test}, inputs=inputs)
    made = Task(program=program, dataset=dataset, metric=metrics.exact_match("answer"), student="m", **changes)
    made.bind("qa", Path(), "")
    return made


def leaks_of_stage(
    folder: Path, task: Task, training: bytes | None = None, demos: Mapping[str, Sequence[Fields]] | None = None
) -> Leaks:
    """What a stage has seen that was trained on a file, and has demonstrations."""
    artifacts = Artifacts(folder / "models.lock.d")
    state = dump_state(task.program())
    for name, shown in (demos or {}).items():
        state["predictors"][name]["demos"] = shown
    refs = ArtifactRefs(
        program=artifacts.put_json("program", state),
        training=None if training is None else artifacts.put_bytes("training", training),
    )
    facts = facts_of(task, FINETUNED, task.program(), HERE)
    entry = Entry(**facts.model_dump(), model="ft:m:1", artifacts=refs)
    return leaks_of(task.dataset.rows("test"), pinned_stage(task, entry, HERE, artifacts))


def training_file(task: Task, *calls: Call) -> bytes:
    return to_jsonl(written(task.make_adapter(), task.program(), [calls]))


def texts_found(task: Task, leaks: Leaks) -> list[tuple[Any, str]]:
    """The questions of the rows that were seen as they are, and what they were seen in, without the file's name."""
    questions = {row.row_id: row.fields["question"] for row in task.dataset.rows("test")}
    return [(questions[leak.row_id], leak.where.split(" of ")[0]) for leak in leaks.exact]


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
def test_rows_are_found_by_all_their_fields_and_not_by_what_is_around_them(tmp_path: Path, adapter: str) -> None:
    context = ["Ann < Bob\n\n& Co.", *(f"fact {n}" for n in range(50))]
    test = [{"context": context, "question": question, "answer": "?"} for question in ("Who?", "When was it?")]
    fields = "context: list[str], question -> answer"
    task = make_task(lambda: dspy.Predict(fields), test, ["question", "context"], adapter=adapter)
    seen = {"context": context, "question": "Who?"}, {"context": context, "question": "Where is Ann?"}
    training = training_file(task, *(("self", inputs, {"answer": "?"}) for inputs in seen))
    leaks = leaks_of_stage(tmp_path, task, training)
    assert [(question, where[:-1]) for question, where in texts_found(task, leaks)] == [("Who?", "training row ")]
    assert leaks.near == ()


def test_a_row_is_found_in_any_step_that_is_given_all_of_it(tmp_path: Path) -> None:
    asked = ["who\nwrote it", "when was it", "where is it", "what is it"]
    task = make_task(Steps, [{"question": question, "answer": "?"} for question in asked], ["question"])
    earlier = dspy.History(messages=[{"notes": "none", "question": asked[3], "answer": "?"}])
    training = training_file(
        task,
        (
            "answer.predict",
            {"notes": "n", "question": asked[0], "history": earlier},
            {"reasoning": "r", "answer": "a"},
        ),
    ) + training_file(task, ("search", {"question": asked[1]}, {"query": "q"}))
    demos = {
        "answer.predict": [{"notes": "n"}, {"notes": "n", "question": asked[2], "reasoning": "r", "answer": "a"}]
    }
    found = texts_found(task, leaks_of_stage(tmp_path, task, training, demos))
    assert sorted(found) == [
        ("when was it", "training row 2"),
        ("where is it", "demonstration 2"),
        ("who\nwrote it", "training row 1"),
    ]


class Retry(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    """The prompt of the second step is that of the first, with one field more."""

    def __init__(self) -> None:
        self.first = dspy.Predict("question -> answer")
        self.again = dspy.Predict("question, doubts -> answer")


def test_a_prompt_is_read_by_the_predictor_that_wrote_it(tmp_path: Path) -> None:
    task = make_task(Retry, [{"question": "who", "answer": "?"}], ["question"])
    training = training_file(task, ("again", {"question": "who", "doubts": "many"}, {"answer": "?"}))
    assert texts_found(task, leaks_of_stage(tmp_path, task, training)) == [("who", "training row 1")]


class TwoReaders(dspy.Module):  # type: ignore[misc]  # dspy ships no types
    """The first step reads a part of the row only."""

    def __init__(self) -> None:
        self.digest = dspy.Predict("context -> notes")
        self.answer = dspy.Predict(QA)


def test_a_part_of_a_row_is_no_leak(tmp_path: Path) -> None:
    test = [{"context": "a long story", "question": question, "answer": "?"} for question in ("who", "when")]
    task = make_task(TwoReaders, test, ["context", "question"])
    part = {"context": "a long story", "notes": "short"}
    whole = {"context": "a long story", "question": "who", "answer": "?"}
    assert leaks_of_stage(tmp_path, task, demos={"digest": [part]}) == Leaks()
    found = leaks_of_stage(tmp_path, task, demos={"digest": [part], "answer": [whole]})
    assert texts_found(task, found) == [("who", "demonstration 1")]


def test_what_several_test_rows_ask_tells_none_of_them_apart(tmp_path: Path) -> None:
    test = [{"question": question, "language": "en", "answer": "?"} for question in ("who", "when")]
    task = make_task(lambda: dspy.Predict("said, language -> answer"), test, ["question", "language"])
    demos = {"self": [{"said": "how", "language": "en", "answer": "?"}]}
    assert leaks_of_stage(tmp_path, task, demos=demos) == Leaks()


def test_a_program_that_reads_no_field_of_the_rows_shows_none_of_them(tmp_path: Path) -> None:
    task = make_task(lambda: dspy.Predict("said -> answer"), SAME[:1], ["question"])
    assert leaks_of_stage(tmp_path, task, demos={"self": [{"said": "who", "answer": "Ann"}]}) == Leaks()


def test_images_count_as_what_they_are(tmp_path: Path) -> None:
    shown = [dspy.Image(url=f"https://example.org/{n}.png") for n in range(3)]
    test = [{"image": image, "question": f"what is it, {n}", "answer": "?"} for n, image in enumerate(shown)]
    task = make_task(lambda: dspy.Predict("image: dspy.Image, question -> answer"), test, ["image", "question"])
    seen = {"image": shown[1], "question": "what is it, 1"}, {"image": shown[0], "question": "what is it, 2"}
    training = b"".join(training_file(task, ("self", inputs, {"answer": "?"})) for inputs in seen)
    assert texts_found(task, leaks_of_stage(tmp_path, task, training)) == [("what is it, 1", "training row 1")]


def test_rows_with_the_same_inputs_are_all_found(tmp_path: Path) -> None:
    task = make_task(lambda: dspy.Predict("question -> answer"), SAME, ["question"])
    found = leaks_of_stage(tmp_path, task, demos={"self": [{"question": "who", "answer": "Eve"}]})
    assert texts_found(task, found) == [("who", "demonstration 1")] * 2


def test_rows_may_have_different_inputs(tmp_path: Path) -> None:
    longer = {"context": "c", "question": "when", "answer": "?"}
    rows = [dspy.Example(SAME[0]).with_inputs("question"), dspy.Example(longer).with_inputs("context", "question")]
    task = make_task(lambda: dspy.Predict(QA), [longer], ["context", "question"])
    built_from = {split: list(getattr(task.dataset, split)) for split in ("train", "dev")}
    task = replace(task, dataset=Dataset.from_examples({**built_from, "test": rows}))
    assert texts_found(task, leaks_of_stage(tmp_path, task, demos={"self": [longer]})) == [
        ("when", "demonstration 1")
    ]


def test_a_prompt_that_the_program_does_not_write_is_an_error(tmp_path: Path) -> None:
    task = make_task(lambda: dspy.Predict(QA), [{"context": "c", "question": "q", "answer": "a"}], ["question"])
    training = training_file(task, ("self", {"question": "q"}, {"answer": "a"}))
    with pytest.raises(EvidenceError, match=r"qa/finetuned: training row 1 of .* has a prompt that no predictor of"):
        leaks_of_stage(tmp_path, task, training)


@pytest.mark.parametrize(
    "line", ["no JSON", "[]", "{}", '{"messages": []}', '{"messages": [{"role": "user", "content": [1]}]}']
)
def test_a_line_that_is_no_training_row_is_an_error(tmp_path: Path, line: str) -> None:
    task = make_task(lambda: dspy.Predict("question -> answer"), SAME, ["question"])
    with pytest.raises(LockError, match=r"training row 1 of .*training-\w+\.jsonl is none: take back the committed"):
        leaks_of_stage(tmp_path, task, f"{line}\n".encode())

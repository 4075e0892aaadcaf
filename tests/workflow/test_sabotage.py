"""Whatever is broken on purpose, the gate is red or says clearly why it cannot judge: never green."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator

import pytest
from syrupy.assertion import SnapshotAssertion
from tests.conftest import Project

from pytest_finetune.core.claims import ScopedClaim, ladder
from pytest_finetune.core.records import Policy
from pytest_finetune.core.results import Result
from pytest_finetune.errors import EvidenceError, FinetuneError
from pytest_finetune.lock import Artifacts, read_lock
from pytest_finetune.lock.artifacts import Kind
from pytest_finetune.workflow.run import Run
from pytest_finetune.workflow.settings import read_settings


def swap_the_finetuned_model_for_its_base(project: Project) -> None:
    model = next(line for line in project.lock.read_text().splitlines() if line.startswith('model = "ft:'))
    project.edit("models.lock", model, 'model = "sandbox-small"')


def swap_the_base_as_well(project: Project) -> None:
    text = project.lock.read_text()
    model = next(line for line in text.splitlines() if line.startswith('model = "ft:'))
    before, after = text.split(model)
    after = after.replace('base = "sandbox-small"', 'base = "sandbox-tiny"', 1)
    project.write("models.lock", f'{before}model = "sandbox-small"{after}')


def weaken_the_baseline(project: Project) -> None:
    project.edit(
        "models.lock", 'stage = "baseline"\nmodel = "sandbox-small"', 'stage = "baseline"\nmodel = "nothing"'
    )


def damage(kind: str) -> Callable[[Project], None]:
    def damage_it(project: Project) -> None:
        for path in (project.path / "models.lock.d").glob(f"{kind}-*"):
            path.write_bytes(path.read_bytes().replace(b"e", b"E", 1))

    damage_it.__name__ = f"damage_the_{kind}_artifacts"
    return damage_it


def shuffle_the_labels_that_were_trained_on(project: Project) -> None:
    path = project.artifact("training")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    labels = [row["messages"][-1] for row in rows]
    for row, label in zip(rows, labels[1:] + labels[:1], strict=True):
        row["messages"][-1] = label
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def lose_the_artifacts(project: Project) -> None:
    for path in (project.path / "models.lock.d").glob("program-*"):
        path.unlink()


def change_the_metric(project: Project) -> None:
    project.edit("finetune_tasks.py", 'metrics.exact_match("department")', "metrics.contains('department')")


def change_the_program(project: Project) -> None:
    project.edit("finetune_tasks.py", "dspy.Predict(Route)", "dspy.ChainOfThought(Route)")


def change_the_instruction(project: Project) -> None:
    project.edit("finetune_tasks.py", "Name the department", "Guess the department")


def change_the_adapter(project: Project) -> None:
    project.edit("finetune_tasks.py", 'student="sandbox-small"', 'student="sandbox-small", adapter="json"')


def change_the_test_data(project: Project) -> None:
    lines = (project.path / "tickets.jsonl").read_text().splitlines()
    easy = [line for line in lines if '"test"' not in line or "password" in line]
    project.write("tickets.jsonl", "\n".join(easy) + "\n")


def correct_labels_to_fit(project: Project) -> None:
    last = (project.path / "tickets.jsonl").read_text().splitlines()[-1]
    other = {**json.loads(last), "department": "account"}
    project.edit("tickets.jsonl", last, json.dumps(other))


def gate_on_what_was_trained_on(project: Project) -> None:
    project.edit("tickets.jsonl", '"split": "train"}', '"split": "TRAIN"}')
    project.edit("tickets.jsonl", '"split": "test"}', '"split": "train"}')
    project.edit("tickets.jsonl", '"split": "TRAIN"}', '"split": "test"}')


def name_another_student(project: Project) -> None:
    project.edit("finetune_tasks.py", 'student="sandbox-small"', 'student="sandbox-large"')


def move_the_lock_to_another_endpoint(project: Project) -> None:
    project.edit("models.lock", 'endpoint = "sandbox"', 'endpoint = "openai https://api.openai.com/v1"')


def damage_the_store(project: Project) -> None:
    (project.path / ".pytest-finetune" / "rows.sqlite").write_bytes(b"SQLite format 3\0" + bytes(4000))


def lose_the_store_and_the_training_file(project: Project) -> None:
    (project.path / ".pytest-finetune" / "rows.sqlite").unlink()
    project.artifact("training").unlink()


def rewrite(project: Project, stage: str, kind: Kind, change: Callable[[bytes], bytes]) -> None:
    """Edit an artifact, and its hash in the lock with it."""
    artifacts = Artifacts.beside(project.lock)
    refs = read_lock(project.lock).entry("tickets", stage).artifacts
    ref = str(getattr(refs, kind))
    project.edit("models.lock", ref, artifacts.put_bytes(kind, change(artifacts.get_bytes(ref))))


def raise_the_scores_of_the_accepted_rows(project: Project) -> None:
    rewrite(project, "finetuned", "rows", lambda content: content.replace(b'"score":0.0', b'"score":1.0'))


def drop_the_accepted_rows_that_were_wrong(project: Project) -> None:
    def only_right(content: bytes) -> bytes:
        return b"".join(line for line in content.splitlines(keepends=True) if b'"score":0.0' not in line)

    rewrite(project, "finetuned", "rows", only_right)


def drop_the_accepted_rows(project: Project) -> None:
    lines = project.lock.read_text().splitlines(keepends=True)
    project.write("models.lock", "".join(line for line in lines if not line.startswith('rows = "')))


def raise_the_score_in_the_lock(project: Project) -> None:
    score = read_lock(project.lock).entry("tickets", "finetuned").score
    assert score is not None
    project.edit("models.lock", f"mean = {score.mean}", "mean = 0.99")


def put_it_into_production_by_hand(project: Project) -> None:
    model = f'model = "{read_lock(project.lock).entry("tickets", "finetuned").model}"'
    project.edit("models.lock", model, f'{model}\nstate = "production"')


def pass_a_stage_off_as_another(project: Project) -> None:
    lock = read_lock(project.lock)
    good, weak = (lock.entry("tickets", stage).artifacts.program for stage in ("prompt_optimized", "baseline"))
    project.edit("models.lock", good, weak)


def drop_a_stage_from_the_lock(project: Project) -> None:
    text = project.lock.read_text()
    blocks = text.split("[[model]]")
    project.write(
        "models.lock", "[[model]]".join(block for block in blocks if 'stage = "prompt_optimized"' not in block)
    )


def pin_a_stage_twice(project: Project) -> None:
    text = project.lock.read_text()
    project.write("models.lock", text + "\n[[model]]" + text.split("[[model]]")[1])


def cut_the_lock_off(project: Project) -> None:
    text = project.lock.read_text()
    project.write("models.lock", text[: text.index("sha256:", len(text) // 2) + len("sha256:")])


def take_a_lock_of_the_future(project: Project) -> None:
    project.edit("models.lock", "version = 1", "version = 99")


def loosen_the_decoding(project: Project) -> None:
    project.edit("finetune_tasks.py", 'student="sandbox-small"', 'student="sandbox-small", temperature=0.7')


def cut_answers_short(project: Project) -> None:
    project.edit("finetune_tasks.py", 'student="sandbox-small"', 'student="sandbox-small", max_tokens=3')


def split_by_another_salt(project: Project) -> None:
    project.edit("finetune_tasks.py", 'split="split")', 'salt="luckier")')


def repeat_the_easy_rows(project: Project) -> None:
    lines = (project.path / "tickets.jsonl").read_text().splitlines()
    project.write("tickets.jsonl", "\n".join([*lines, *[line for line in lines if '"test"' in line][:50]]) + "\n")


def put_test_rows_into_training(project: Project) -> None:
    row = json.loads(
        next(line for line in (project.path / "tickets.jsonl").read_text().splitlines() if '"test"' in line)
    )
    line = json.dumps({**row, "split": "train"})
    project.write("tickets.jsonl", (project.path / "tickets.jsonl").read_text() + line + "\n")


def train_on_a_test_row(project: Project) -> None:
    rows = [json.loads(line) for line in (project.path / "tickets.jsonl").read_text().splitlines()]
    seen, unseen = (next(row["text"] for row in rows if row["split"] == split) for split in ("train", "test"))
    rewrite(project, "finetuned", "training", lambda content: content.replace(seen.encode(), unseen.encode()))


def let_one_model_answer_for_two(project: Project) -> None:
    store(
        project,
        "UPDATE prediction SET output = (SELECT other.output FROM prediction AS other WHERE other.row_id ="
        " prediction.row_id AND other.stage = 'prompt_optimized') WHERE stage = 'finetuned'",
    )


def let_the_base_answer_for_the_tuned_model(project: Project) -> None:
    store(project, "UPDATE prediction SET served_model = 'sandbox-small' WHERE stage = 'finetuned' AND row_id < '8'")


def turn_rows_that_were_wrong_into_errors(project: Project) -> None:
    store(
        project,
        "UPDATE prediction SET state = 'error', output = NULL, error = 'timeout', asked_at = asked_at + 86400"
        " WHERE key IN (SELECT key FROM score WHERE value = 0) AND stage = 'finetuned'",
    )


def give_every_answer_the_same_score(project: Project) -> None:
    store(project, "UPDATE score SET value = 1")


def store(project: Project, statement: str) -> None:
    connection = sqlite3.connect(project.path / ".pytest-finetune" / "rows.sqlite")
    with connection:
        connection.execute(statement)
    connection.close()


SABOTAGE = [
    swap_the_finetuned_model_for_its_base,
    swap_the_base_as_well,
    weaken_the_baseline,
    damage("program"),
    damage("rows"),
    shuffle_the_labels_that_were_trained_on,
    lose_the_artifacts,
    change_the_metric,
    change_the_program,
    change_the_instruction,
    change_the_adapter,
    change_the_test_data,
    correct_labels_to_fit,
    gate_on_what_was_trained_on,
    name_another_student,
    move_the_lock_to_another_endpoint,
    damage_the_store,
    lose_the_store_and_the_training_file,
    raise_the_scores_of_the_accepted_rows,
    drop_the_accepted_rows_that_were_wrong,
    drop_the_accepted_rows,
    raise_the_score_in_the_lock,
    put_it_into_production_by_hand,
    pass_a_stage_off_as_another,
    drop_a_stage_from_the_lock,
    pin_a_stage_twice,
    cut_the_lock_off,
    take_a_lock_of_the_future,
    loosen_the_decoding,
    cut_answers_short,
    split_by_another_salt,
    repeat_the_easy_rows,
    put_test_rows_into_training,
    train_on_a_test_row,
    let_one_model_answer_for_two,
    let_the_base_answer_for_the_tuned_model,
    turn_rows_that_were_wrong_into_errors,
    give_every_answer_the_same_score,
]
LADDER = [ScopedClaim("tickets", claim) for claim in ladder(min_score=0.5)]
POLICY = Policy(margin=0.02)


@pytest.fixture
def gate(built: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[Result]]]:
    """Judge the ladder, as the plugin does."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    runs: list[Run] = []

    def judge() -> list[Result]:
        run = Run(read_settings(built.path, options={"models": [str(built.lock)]}, environment={}))
        runs.append(run)
        run.check()
        run.expect((claim, POLICY) for claim in LADDER)
        return [run.gate.judge(claim, POLICY) for claim in LADDER]

    yield judge
    sys.modules.pop("finetune_tasks", None)
    for run in runs:
        run.close()


def test_unbroken_it_holds(gate: Callable[[], list[Result]]) -> None:
    assert [(result.settlement.held, result.settlement.certified) for result in gate()] == [(True, True)] * 3


@pytest.mark.parametrize("sabotage", SABOTAGE, ids=lambda sabotage: sabotage.__name__)
def test_broken_it_is_an_error_that_names_what_differs(
    built: Project,
    gate: Callable[[], list[Result]],
    sabotage: Callable[[Project], None],
    snapshot: SnapshotAssertion,
) -> None:
    sabotage(built)
    with pytest.raises(FinetuneError) as caught:
        gate()
    message = re.sub(
        r"(program|rows|training)-\w+", r"\1-<hash>", str(caught.value).replace(str(built.path), "<project>")
    )
    assert re.sub(r"ft:[\w:-]+|sha256:\w+", "<id>", message) == snapshot


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["plain", "n2"])
def test_in_pytest_it_is_an_error_of_each_test_without_a_traceback(built: Project, workers: tuple[str, ...]) -> None:
    change_the_metric(built)
    result = built.gate("-q", *workers)
    result.assert_outcomes(errors=3)
    assert "Traceback" not in result.stdout.str()
    result.stdout.fnmatch_lines(
        ["*tickets/*: what would be run is not what the lock pins:", "  fingerprints.metric: *"]
    )


@pytest.mark.parametrize("served", ["sandbox-small-2024-07-18", "ft:sandbox-small:x, sandbox-small"])
def test_a_part_in_the_answers_is_enough_for_the_base(
    built: Project, gate: Callable[[], list[Result]], served: str
) -> None:
    store(built, f"UPDATE prediction SET served_model = '{served}' WHERE stage = 'finetuned' AND row_id < '8'")  # noqa: S608  # our own
    with pytest.raises(EvidenceError, match="were answered by its base"):
        gate()


def test_another_model_than_the_pinned_one_is_remarked(built: Project, gate: Callable[[], list[Result]]) -> None:
    store(built, "UPDATE prediction SET served_model = 'somebody else' WHERE stage = 'finetuned'")
    remarks = [remark for result in gate() for remark in result.remarks]
    assert [remark for remark in remarks if "stage 'finetuned' was answered by somebody else" in remark]

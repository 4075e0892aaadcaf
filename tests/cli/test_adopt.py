"""``pytest-finetune jobs adopt``: a model trained elsewhere becomes the candidate's fine-tuned stage."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from tests.conftest import Project

from pytest_finetune.cli import run
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.lock import read_lock
from pytest_finetune.sandbox import Sandbox


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def client(server: Sandbox) -> Iterator[openai.OpenAI]:
    with Endpoint("ours", server.base_url).client() as client:
        yield client


@pytest.fixture
def ours(built: Project, server: Sandbox) -> Project:
    """The built project on an endpoint of its own, with a claim on a few rows."""
    built.write("pyproject.toml", f"[tool.pytest-finetune.endpoints.ours]\nbase_url = '{server.base_url}'\n")
    built.edit("finetune_tasks.py", 'endpoint="sandbox"', 'endpoint="ours"')
    built.candidate.unlink()  # the one that was locked
    claim = '@pytest.mark.ft_claim("tickets", "finetuned >= 0.3", max_rows=12)'
    built.write("test_models.py", f"import pytest\n\n\n{claim}\ndef test_tickets(): ...\n")
    return built


def train(client: openai.OpenAI, content: bytes, model: str = "sandbox-small") -> tuple[str, str, str]:
    """The ids of a job, of its file and of its model, as somebody else trained it."""
    file = client.files.create(file=("theirs.jsonl", content), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=model, training_file=file.id)
    while job.status not in ("succeeded", "failed"):
        job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.fine_tuned_model is not None
    return job.id, file.id, job.fine_tuned_model


@pytest.fixture
def adopt(ours: Project, capsys: pytest.CaptureFixture[str]) -> object:
    def adopting(*args: str) -> tuple[int, str]:
        capsys.readouterr()
        status = run(["jobs", "adopt", "--task", "tickets", "--root", str(ours.path), *args])
        told = capsys.readouterr()
        return status, told.out + told.err

    return adopting


def test_a_job_is_adopted_and_gated(ours: Project, client: openai.OpenAI, adopt: object) -> None:
    assert callable(adopt)
    before, training = ours.lock.read_bytes(), ours.artifact("training").read_bytes()
    job, _, model = train(client, training)
    status, said = adopt(job)
    assert (status, said.splitlines()) == (
        0,
        [
            f"tickets: the candidate's fine-tuned stage is {model}.",
            f"It was trained on {training.count(10)} rows, which are kept beside the lock.",
            "The candidate has the stages baseline, finetuned, prompt_optimized, teacher. Gate it:",
            "  pytest --finetune-models=.pytest-finetune/candidate.lock",
            "Gate it and let it into the lock:",
            "  pytest --ft-accept",
        ],
    )
    assert ours.lock.read_bytes() == before
    entry = read_lock(ours.candidate).entry("tickets", "finetuned")
    assert (entry.model, entry.served_as, entry.job and entry.job.id) == (model, None, job)
    assert (entry.artifacts.training_rows, entry.env) == (training.count(10), {"adopted": job})
    assert {entry.artifacts.data} == {one.artifacts.data for one in read_lock(ours.lock).models}  # they share a file
    assert len([*(ours.path / "models.lock.d").glob("data-*")]) == 1
    ours.run(f"--finetune-models={ours.candidate}").assert_outcomes(passed=1)


def test_what_is_adopted_is_let_in_if_it_holds(ours: Project, client: openai.OpenAI, adopt: object) -> None:
    assert callable(adopt)
    ours.lock.unlink()  # nothing was built yet
    job, _, model = train(client, ours.artifact("training").read_bytes())
    assert adopt(job)[0] == 0
    ours.run("--ft-accept").assert_outcomes(passed=1)
    entry = read_lock(ours.lock).entry("tickets", "finetuned")
    assert (entry.model, entry.score is not None) == (model, True)


def test_a_model_is_found_by_its_id_and_asked_for_by_its_name(
    ours: Project, client: openai.OpenAI, adopt: object
) -> None:
    assert callable(adopt)
    ours.lock.unlink()  # nothing was built yet
    job, _, model = train(client, ours.artifact("training").read_bytes())
    status, said = adopt(model, "--served-as", "tickets-v1")
    assert status == 0
    assert f"fine-tuned stage is {model}, served as tickets-v1." in said
    assert "The candidate has the stages baseline, finetuned. Gate it:" in said
    entry = read_lock(ours.candidate).entry("tickets", "finetuned")
    assert (entry.model, entry.served_as, entry.job and entry.job.id) == (model, "tickets-v1", job)
    gated = ours.run(f"--finetune-models={ours.candidate}")
    gated.assert_outcomes(errors=1)
    gated.stdout.fnmatch_lines(["stage finetuned: model 'tickets-v1' is not deployed: *"])


def test_what_is_adopted_stays_in_the_candidate_beside_what_else_waits_there(
    ours: Project, client: openai.OpenAI, adopt: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(adopt)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(ours.path)
    ours.edit("finetune_tasks.py", "tickets = ", "others = task()\ntickets = ")
    assert run(["train", "others", "--prompts-only"]) == 0
    job, _, model = train(client, ours.artifact("training").read_bytes())
    assert adopt(job)[0] == 0
    assert run(["train", "tickets", "--prompts-only"]) == 0
    kept = read_lock(ours.candidate)
    assert kept.entry("tickets", "finetuned").model == model
    assert [entry.stage for entry in kept.of_task("others")] == ["baseline", "prompt_optimized"]
    sys.modules.pop("finetune_tasks", None)


def test_without_its_training_file_a_model_is_refused(
    ours: Project, client: openai.OpenAI, adopt: object, tmp_path: Path
) -> None:
    assert callable(adopt)
    content = ours.artifact("training").read_bytes()
    job, file, _ = train(client, content)
    client.files.delete(file)
    status, said = adopt(job)
    assert status == 3
    assert said.startswith(f"Error: not adopted: the endpoint does not give out {file} (HTTP 404), so nobody could")
    assert not ours.candidate.exists()
    (kept := tmp_path / "theirs.jsonl").write_bytes(content)
    assert adopt(job, "--training-file", str(kept))[0] == 0

    status, said = adopt("deployed-by-hand", "--served-as", "v1")
    assert (status, "the endpoint knows no job that made this model" in said) == (3, True)
    kept.write_text('{"messages": []}\nno json\n')
    assert adopt("deployed-by-hand", "--served-as", "v1", "--training-file", str(kept)) == (
        4,
        f"Error: {kept}:2: no JSON object; it must have one on each line\n",
    )


def test_a_model_that_was_trained_on_test_rows_is_found_out(
    ours: Project, client: openai.OpenAI, adopt: object
) -> None:
    assert callable(adopt)
    content = ours.artifact("training").read_text()
    rows = [json.loads(line) for line in (ours.path / "tickets.jsonl").read_text().splitlines()]
    texts = {split: next(row["text"] for row in rows if row["split"] == split) for split in ("train", "test")}
    line = next(line for line in content.splitlines() if texts["train"] in line)
    leaked = line.replace(texts["train"], texts["test"])
    job, _, _ = train(client, f"{content}{leaked}\n".encode())
    assert adopt(job)[0] == 0
    gated = ours.run(f"--finetune-models={ours.candidate}")
    gated.assert_outcomes(errors=1)
    gated.stdout.fnmatch_lines(["*1 of 320 test rows were used to build a stage*"])


@pytest.mark.parametrize(
    ("found_as", "message"),
    [
        ("ft:no-such-model", "knows neither a job nor a model 'ft:no-such-model'"),
        ("sandbox-small", "is the student of task 'tickets' itself"),
    ],
)
def test_what_cannot_be_adopted_is_refused_with_why(
    ours: Project, adopt: object, found_as: str, message: str
) -> None:
    assert callable(adopt)
    status, said = adopt(found_as)
    assert (status, message in said, ours.candidate.exists()) == (4, True, False)


def test_a_job_of_another_base_is_refused(ours: Project, client: openai.OpenAI, adopt: object) -> None:
    assert callable(adopt)
    job, _, _ = train(client, ours.artifact("training").read_bytes(), "sandbox-large")
    status, said = adopt(job)
    assert status == 4
    assert f"job {job} tuned 'sandbox-large', and the student of task 'tickets' is 'sandbox-small'" in said

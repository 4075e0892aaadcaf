"""``pytest-finetune train --prompts-only``: what prompts reach, before anybody pays for a job."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from tests.conftest import Project

from pytest_finetune.cli import run
from pytest_finetune.lock import read_lock, write_lock

FIRST = "build its prompts, and no model: pytest-finetune train tickets --prompts-only"


@dataclass(frozen=True)
class Done:
    status: int
    lines: list[str]


@pytest.fixture
def command(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Done]]:
    """The command line in the project."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(project.path)

    def call(*arguments: str) -> Done:
        sys.modules.pop("finetune_tasks", None)
        status = run(list(arguments))
        return Done(status, [line.strip() for line in capsys.readouterr().out.splitlines()])

    yield call
    sys.modules.pop("finetune_tasks", None)


def test_the_prompts_are_built_and_scored_before_any_job_and_a_later_build_takes_them_up(
    project: Project, command: Callable[..., Done]
) -> None:
    assert f"next: {FIRST}" in command("check", "tickets").lines
    done = command("train", "tickets", "--prompts-only")
    assert done.status == 0
    candidate = read_lock(project.candidate)
    assert [entry.stage for entry in candidate.models] == ["baseline", "prompt_optimized", "teacher"]
    assert not (project.path / ".pytest-finetune" / "jobs.jsonl").exists()

    (scored,) = (line for line in done.lines if line.startswith("tickets: prompt_optimized scores"))
    assert scored.endswith(" on 320 test rows.")
    assert done.lines[-1] == "pytest-finetune check tickets"
    found = scored.removeprefix("tickets: ").replace("test rows.", "rows")
    assert f"ok      prompts first  {found}" in command("check", "tickets").lines

    again = command("train", "tickets")
    assert "tickets: Taking up the prompts that an earlier run has kept." in again.lines
    built = read_lock(project.candidate)
    assert [entry.stage for entry in built.models] == ["baseline", "finetuned", "prompt_optimized", "teacher"]
    for stage in ("baseline", "prompt_optimized", "teacher"):
        before, after = candidate.entry("tickets", stage), built.entry("tickets", stage)
        assert after.artifacts.program == before.artifacts.program


def test_it_needs_neither_enough_rows_for_a_job_nor_its_price(project: Project, command: Callable[..., Done]) -> None:
    project.write("pyproject.toml", "[tool.pytest-finetune.check]\nfloor = 1000\n")
    assert command("train", "tickets").status == 4
    assert command("train", "tickets", "--prompts-only", "--max-cost", "5").status == 0
    assert command("train", "tickets", "--prompts-only", "--max-cost", "0").status == 0  # all was asked before


def test_a_cap_holds_for_the_prompts(project: Project, command: Callable[..., Done]) -> None:
    assert command("train", "tickets", "--prompts-only", "--max-cost", "0.0001").status == 3
    assert not project.candidate.exists()


@pytest.fixture
def trained(built: Project) -> Project:
    """A project whose candidate has a model that is in no lock."""
    built.lock.unlink()
    assert "finetuned" in stages(built)
    return built


def stages(project: Project, task: str = "tickets") -> list[str]:
    return [entry.stage for entry in read_lock(project.candidate).of_task(task)]


def test_a_model_that_was_paid_for_stays_in_the_candidate(trained: Project, command: Callable[..., Done]) -> None:
    before = read_lock(trained.candidate).entry("tickets", "finetuned")
    trained.edit("finetune_tasks.py", "tickets = ", "others = task()\ntickets = ")
    for task in ("tickets", "others"):
        assert command("train", task, "--prompts-only").status == 0
        assert read_lock(trained.candidate).entry("tickets", "finetuned") == before
    assert stages(trained) == ["baseline", "finetuned", "prompt_optimized", "teacher"]
    assert stages(trained, "others") == ["baseline", "prompt_optimized"]


def test_one_that_fits_no_more_is_left_out_which_is_told(trained: Project, command: Callable[..., Done]) -> None:
    model = read_lock(trained.candidate).entry("tickets", "finetuned").model
    trained.edit("finetune_tasks.py", 'recipe="labels"', 'recipe="bootstrap"')
    done = command("train", "tickets", "--prompts-only")
    assert stages(trained) == ["baseline", "prompt_optimized", "teacher"]
    told = f"tickets/finetuned: {model} is left out of the candidate: recipe"
    assert told in " ".join(done.lines)


def test_what_the_lock_has_or_went_past_is_no_candidate(built: Project, command: Callable[..., Done]) -> None:
    old = built.accept_another("ft:sandbox-small:sandbox:another")
    done = command("train", "tickets", "--prompts-only")
    entry = read_lock(built.candidate).entry("tickets", "finetuned")
    assert entry == read_lock(built.lock).entry("tickets", "finetuned")
    assert old not in " ".join(done.lines)


def test_a_model_that_the_lock_never_had_and_went_past_is_left_out(
    built: Project, command: Callable[..., Done]
) -> None:
    candidate = read_lock(built.candidate)
    theirs = candidate.entry("tickets", "finetuned").model_copy(update={"model": "ft:theirs"})
    write_lock(built.candidate, candidate.with_stage(theirs))
    told = " ".join(command("train", "tickets", "--prompts-only").lines)
    assert "tickets/finetuned: ft:theirs is left out of the candidate: the lock has gone on to ft:" in told
    assert read_lock(built.candidate).entry("tickets", "finetuned").model != "ft:theirs"


def test_a_damaged_candidate_is_built_anew(trained: Project, command: Callable[..., Done]) -> None:
    trained.candidate.write_text("not a lock", encoding="utf-8")
    done = command("train", "tickets", "--prompts-only")
    assert any(line.startswith("Nothing is kept of the candidate that was there before: ") for line in done.lines)
    assert stages(trained) == ["baseline", "prompt_optimized", "teacher"]

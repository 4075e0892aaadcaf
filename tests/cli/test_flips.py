"""``pytest-finetune flips``."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator

import pytest
from tests.conftest import Project

from pytest_finetune.cli import ExitStatus, run
from pytest_finetune.core.records import RowState
from pytest_finetune.lock import Artifacts, read_lock
from pytest_finetune.workflow.gate import SHOWN_FLIPS

Flips = Callable[..., tuple[int, list[str], str]]
HEAD = "Flipped rows (baseline -> finetuned): "


@pytest.fixture
def flips(built: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Flips]:
    """The command in a project that is built."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(built.path)

    def call(*arguments: str) -> tuple[int, list[str], str]:
        status = run(["flips", *arguments])
        said = capsys.readouterr()
        return status, said.out.splitlines(), said.err

    yield call
    sys.modules.pop("finetune_tasks", None)  # the next project's file has the same name


def scores(project: Project, stage: str) -> dict[str, float]:
    """What was accepted, by row."""
    rows = read_lock(project.lock).entry("tickets", stage).artifacts.rows
    assert rows is not None
    found = Artifacts.beside(project.lock).get_rows(rows, stage)
    assert {row.state for row in found} == {RowState.SCORED}
    return {row.row_id: row.score or 0.0 for row in found}


def test_it_shows_every_flipped_row_of_a_fresh_clone(built: Project, flips: Flips) -> None:
    shutil.rmtree(built.path / ".pytest-finetune")
    before, after = scores(built, "baseline"), scores(built, "finetuned")
    lost = {row_id[:8] for row_id in before if after[row_id] < before[row_id]}
    won = {row_id[:8] for row_id in before if after[row_id] > before[row_id]}
    assert won
    status, lines, _ = flips("tickets", "finetuned >= baseline")
    assert status == ExitStatus.HELD
    assert lines[0] == f"{HEAD}{len(won)} won, {len(lost)} lost"
    rows = [line.rpartition(", row ")[2].split(": ") for line in lines[1::4]]
    assert {row_id for row_id, end in rows if end == "won"} == won
    assert {row_id for row_id, end in rows if end == "lost"} == lost
    assert [end for _, end in rows] == ["lost"] * len(lost) + ["won"] * len(won)
    assert (built.path / "models.lock").exists()


def test_each_row_is_shown_with_its_place_and_both_answers(built: Project, flips: Flips) -> None:
    _, lines, _ = flips("tickets", "finetuned >= baseline", "--limit", "1")
    assert len(lines) == 6
    assert lines[-1].startswith("  … and ")
    place, _, _ = lines[1].strip().partition(", row ")
    name, _, number = place.partition(":")
    row = json.loads((built.path / name).read_text().splitlines()[int(number) - 1])
    assert lines[2] == f"    asked     {row['text']}"
    assert lines[3] == f"    expected  {row['department']}"
    assert row["department"] in lines[4].removeprefix("    answered  ").split(" -> ")


def test_a_chain_and_the_other_direction_and_fewer_rows(flips: Flips) -> None:
    whole = int(flips("tickets", "finetuned >= baseline")[1][0].split()[5])
    _, turned, _ = flips("tickets", "baseline <= finetuned", "--limit", "1")
    assert turned[0].startswith("Flipped rows (finetuned -> baseline): ")
    _, few, _ = flips("tickets", "finetuned >= baseline", "--max-rows", "100")
    assert 0 < int(few[0].split()[5]) < whole
    _, chain, _ = flips("tickets", "finetuned >= prompt_optimized >= baseline", "--limit", "1")
    assert [line.partition(":")[0] for line in chain if line.startswith("Flipped")] == [
        "Flipped rows (prompt_optimized -> finetuned)",
        "Flipped rows (baseline -> prompt_optimized)",
    ]


def test_another_lock(built: Project, flips: Flips) -> None:
    built.lock.rename(built.path / "release.lock")
    (built.path / "models.lock.d").rename(built.path / "release.lock.d")
    assert flips("tickets", "finetuned >= baseline", "--lock", "release.lock")[0] == ExitStatus.HELD
    status, _, error = flips("tickets", "finetuned >= baseline")
    assert status == ExitStatus.NOT_EVALUATED
    assert "there is no lock at" in error


def test_the_command_that_a_report_names_shows_all_rows(built: Project, flips: Flips) -> None:
    built.lock.rename(built.path / "release.lock")
    (built.path / "models.lock.d").rename(built.path / "release.lock.d")
    marker = '@pytest.mark.ft_claim("tickets", "baseline >= finetuned", max_rows=300)'
    built.write("test_models.py", f"import pytest\n\n\n{marker}\ndef test_it(): ...\n")
    result = built.run("-q", "--finetune-models=release.lock", "--ft-offline")
    (more,) = {line.strip() for line in built.said(result).splitlines() if "pytest-finetune flips" in line}
    count, _, command = more.removeprefix("… and ").partition(" more: pytest-finetune flips ")
    assert command.endswith("--max-rows 300 --lock release.lock")
    status, lines, _ = flips(*shlex.split(command))
    (head,) = {line for line in lines if line.endswith(" lost") and "won, " in line}
    won, lost = (int(head.split()[place]) for place in (-4, -2))
    assert (status, won + lost) == (ExitStatus.HELD, int(count) + SHOWN_FLIPS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tickets", "finetuned >= 0.5"], "'finetuned >= 0.5': rows flip between two sides that are right or wrong"),
        (["tickets", "tokens(finetuned) <= tokens(baseline)"], "rows flip between two sides"),
        (["tickets", "finetuned > baseline"], "only '>=' and '<=' compare"),
        (["tickets", "finetuned >= base"], "Did you mean 'baseline'?"),
        (["ticket", "finetuned >= baseline"], "did you mean 'tickets'?"),
        (["tickets", "finetuned >= baseline", "--on", "safety"], "task 'tickets' has no suite 'safety'"),
    ],
)
def test_what_cannot_flip_is_a_usage_error(flips: Flips, arguments: list[str], message: str) -> None:
    status, lines, error = flips(*arguments)
    assert (status, lines) == (ExitStatus.USAGE, [])
    assert message in error


def test_rows_that_are_not_recorded_are_not_asked_for(built: Project, flips: Flips) -> None:
    suite = "suites={'more': Dataset.from_file(data, inputs=['text'], split='split')}"
    built.edit("finetune_tasks.py", "endpoint=", f"{suite}, endpoint=")
    status, lines, error = flips("tickets", "finetuned >= baseline", "--on", "more")
    assert (status, lines) == (ExitStatus.NOT_EVALUATED, [])
    assert "280 of 600" in error
    assert "are not recorded" in error


def test_where_nothing_was_accepted_nothing_is_compared_with_it(built: Project, flips: Flips) -> None:
    status, lines, error = flips("tickets", "finetuned >= locked", "--lock", str(built.candidate))
    assert (status, lines) == (ExitStatus.NOT_EVALUATED, [])
    assert "nothing has been accepted yet for stage 'finetuned'" in error
    assert flips("tickets", "finetuned >= locked")[1] == ["Flipped rows (locked -> finetuned): 0 won, 0 lost"]

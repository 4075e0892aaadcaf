"""``pytest-finetune rows``: what is listed, written out and deleted."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import shutil
from datetime import datetime, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from syrupy.assertion import SnapshotAssertion
from tests.cli.conftest import DAY, NOON, STORE, TUNED, Command, write

from pytest_finetune.cli import ExitStatus, commands
from pytest_finetune.core.records import Answered
from pytest_finetune.store import Store

PAGE = Path(__file__).parents[2] / "docs" / "row-store.md"


def keys(stored: Command, *arguments: str) -> list[str]:
    """The keys that a command writes out, by their number."""
    done = stored("rows", "export", *arguments)
    assert done.status == ExitStatus.HELD, done.err
    return [json.loads(line)["key"].removeprefix("key ") for line in done.out.splitlines()]


def test_the_latest_are_listed_first_in_aligned_columns(stored: Command, snapshot: SnapshotAssertion) -> None:
    done = stored("rows")
    assert (done.status, done.err) == (ExitStatus.HELD, "")
    assert done.out == snapshot


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120])
def test_a_narrow_terminal_is_not_passed(
    stored: Command, snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    out = stored("rows").out
    assert max(map(cell_len, out.splitlines())) <= columns
    assert out == snapshot


def test_a_column_without_a_word_is_left_out(stored: Command) -> None:
    heading = stored("rows", "--state", "error").out.splitlines()[0]
    assert heading.split() == ["asked", "task", "stage", "model", "row", "state", "error", "or", "output"]


def test_more_than_twenty_are_told_and_shown_if_all_are_wanted(command: Command, tmp_path: Path) -> None:
    write(tmp_path / STORE)
    with Store.create(tmp_path / STORE) as store:
        [row] = [row for row, _ in store.read({"key 2": ["0011"]}, "exact").values()]
        more = [f"more {number}" for number in range(30)]
        store.claim({key: [] for key in more}, "exact", limit=99, cap=99)
        store.save(Answered(key, row, 1, "tickets", "small") for key in more)
    lines = command("rows").out.splitlines()
    assert (len(lines), lines[-1]) == (22, "… and 14 more (--all)")
    lines = command("rows", "--limit", "3").out.splitlines()
    assert (len(lines), lines[-1]) == (5, "… and 31 more (--all)")
    assert len(command("rows", "--all").out.splitlines()) == 35


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "2310"),
        (["--task", "tickets"], "210"),
        (["--task", "t*", "--stage", "baseline"], "0"),
        (["--model", TUNED], "21"),
        (["--model", "ft:*"], "21"),
        (["--state", "scored"], "10"),
        (["--row", "00"], "23"),
        (["--row", "%"], ""),
    ],
)
def test_filters(stored: Command, arguments: list[str], expected: str) -> None:
    assert sorted(keys(stored, *arguments)) == sorted(expected)


def test_ages(stored: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOON + DAY)
    assert keys(stored, "--older", "30d") == ["0"]
    assert sorted(keys(stored, "--newer", "36h")) == ["1", "2", "3"]
    assert keys(stored, "--older", "1d", "--newer", "4w") == []


def test_all_that_is_stored_is_written_as_json(stored: Command) -> None:
    done = stored("rows", "export", "--stage", "baseline", "--task", "tickets")
    assert json.loads(done.out) == {
        "key": "key 0",
        "asked_at": "2025-10-11T12:00:00+00:00",
        "task": "tickets",
        "stage": "baseline",
        "model": "small",
        "row": "a1b2c3d4e5f6",
        "repeat": 0,
        "state": "scored",
        "scores": {"exact": 1.0, "f1": 0.5},
        "prompt_tokens": 112,
        "completion_tokens": 9,
        "cost": 0.000023,
        "latency": 0.412,
        "attempts": 1,
        "served_model": "small-2025-11-01",
        "error": None,
        "output": '{"category":"billing"}',
    }


def test_an_answer_that_was_scored_against_two_rows_is_written_twice(stored: Command, tmp_path: Path) -> None:
    with Store.create(tmp_path / STORE) as store:
        store.save_scores({("key 0", "relabelled"): 0.0}, "exact")
    lines = [
        json.loads(line) for line in stored("rows", "export", "--older", "1m", "--task", "tickets").out.splitlines()
    ]
    found = {(line["row"], line["scores"]["exact"]) for line in lines if line["key"] == "key 0"}
    assert found == {("a1b2c3d4e5f6", 1.0), ("relabelled", 0.0)}
    assert keys(stored, "--row", "relab") == ["0"]


def test_csv_has_the_same_columns_and_no_formula(stored: Command, tmp_path: Path) -> None:
    assert stored("rows", "export", "--format", "csv", "-o", "rows.csv").out == ""
    text = (tmp_path / "rows.csv").read_bytes().decode()
    read = {row["key"]: row for row in csv.DictReader(io.StringIO(text))}
    assert "\r" not in text
    names = json.loads(stored("rows", "export").out.splitlines()[0]).keys()
    assert list(read["key 0"]) == list(names)
    assert read["key 2"]["output"] == "'=1+1"
    assert json.loads(read["key 0"]["scores"]) == {"exact": 1.0, "f1": 0.5}
    assert datetime.fromisoformat(read["key 1"]["asked_at"]) == datetime.fromtimestamp(NOON, timezone.utc)


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--stage", "finetuned", "--yes"], "03"),
        (["--all", "--yes"], ""),
        (["--state", "error", "--dry-run"], "0123"),
    ],
)
def test_pruned_are_the_selected(
    stored: Command, tmp_path: Path, snapshot: SnapshotAssertion, arguments: list[str], left: str
) -> None:
    done = stored("rows", "prune", *arguments)
    assert done.status == ExitStatus.HELD
    assert done.out == snapshot
    wanted = {f"key {number}": ["any"] for number in range(4)}
    with Store.create(tmp_path / STORE, since=0.0) as store:
        assert "".join(sorted(key[-1] for key in store.read(wanted, "exact"))) == left
        scored = {key for key, _ in store.scores(list(wanted), "exact")}
        assert scored <= {f"key {number}" for number in left}


@pytest.mark.parametrize(("typed", "left"), [("y\n", 2), ("n\n", 4), ("\n", 4)])
def test_pruning_asks_first(stored: Command, snapshot: SnapshotAssertion, typed: str, left: int) -> None:
    done = CliRunner().invoke(commands, ["rows", "prune", "--stage", "finetuned"], input=typed)
    assert done.output == snapshot
    assert len(keys(stored)) == left


def test_an_answer_with_two_rows_is_deleted_once_and_leaves_no_trace(stored: Command, tmp_path: Path) -> None:
    with Store.create(tmp_path / STORE) as store:
        store.save_scores({("key 0", "relabelled"): 0.0}, "exact")
    done = stored("rows", "prune", "--model", "small", "--state", "scored", "--yes")
    assert done.out.splitlines()[0] == "Answers to delete: 1, of them"
    assert b"billing" not in (tmp_path / STORE).read_bytes()
    assert [file.name for file in (tmp_path / STORE).parent.iterdir()] == ["rows.sqlite"]


def test_pruning_all_is_never_meant_by_saying_nothing(stored: Command) -> None:
    for arguments in ([], ["--all", "--stage", "baseline"], ["--store", str(STORE), "--yes"]):
        done = stored("rows", "prune", *arguments)
        assert done.status == ExitStatus.USAGE
        assert "say which rows by --task, --older or another filter, or --all for every row." in done.err
    assert len(keys(stored)) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rows", "--older", "3y"], "Invalid value for '--older': write an age as 90m, 36h, 30d or 4w, not '3y'."),
        (["rows", "--state", "not_run"], "'not_run' is not one of 'scored', 'format_error', 'error'"),
        (["rows", "--task", "tickets", "prune"], "put the options after 'prune', which they are for."),
        (["rows", "--limit", "0"], "0 is not in the range x>=1"),
    ],
)
def test_a_wrong_option_is_one_message(stored: Command, arguments: list[str], words: str) -> None:
    done = stored(*arguments)
    assert (done.status, words in done.err) == (ExitStatus.USAGE, True)


@pytest.mark.parametrize("verb", [[], ["export"], ["prune", "--all", "--yes"]])
def test_where_there_are_no_rows_it_is_said(command: Command, tmp_path: Path, verb: list[str]) -> None:
    message = (
        "Error: there are no rows in <store>: nothing has been evaluated yet. The command that does: pytest"
        " --finetune-models=models.lock\n"
    )
    done = command("rows", *verb)
    assert (done.status, done.err.replace(str(tmp_path / STORE), "<store>")) == (ExitStatus.NOT_EVALUATED, message)
    assert not (tmp_path / STORE).exists()
    Store.create(tmp_path / STORE).close()
    done = command("rows", *verb)
    assert (done.status, done.err.replace(str(tmp_path / STORE), "<store>")) == (ExitStatus.NOT_EVALUATED, message)


def test_no_row_selected_is_no_error(stored: Command) -> None:
    done = stored("rows", "--task", "unknown")
    assert (done.status, done.out) == (ExitStatus.HELD, "No row is selected.\n")


def test_a_store_elsewhere_and_a_project_elsewhere(stored: Command, tmp_path: Path) -> None:
    write(tmp_path / "shard.sqlite", only=slice(1))
    assert keys(stored, "--store", "shard.sqlite") == ["0"]
    (tmp_path / "below").mkdir()
    assert stored("rows", "--root", "below").status == ExitStatus.NOT_EVALUATED


def test_hashes_are_listed_where_no_text_is_kept(stored: Command, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.pytest-finetune]\nstore_text = 'hash'\n")
    out = stored("rows").out
    assert "sha256:" in out
    assert "billing" not in out


def test_the_commands_of_the_page_work(stored: Command, tmp_path: Path) -> None:
    for name in ("shards/1", "shards/2"):
        (tmp_path / name).mkdir(parents=True)
        shutil.copy(tmp_path / STORE, tmp_path / name)
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    ours = [
        [argument for word in line for argument in expand(word)] for line in lines if line[0] == "pytest-finetune"
    ]
    assert {line[1] for line in ours} == {"rows", "merge"}
    for line in ours:
        done = stored(*line[1:])
        assert (done.status, done.err) == (ExitStatus.HELD, ""), line


def expand(word: str) -> list[str]:
    """What a shell makes of a word."""
    return [str(path) for path in sorted(Path().glob(word))] if "/*/" in word else [word]

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_finetune.errors import TrainingError
from pytest_finetune.training.journal import CLOSED, Journal


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "new" / "jobs.jsonl")


def told(journal: Journal, key: str) -> dict[str, object]:
    return {name: value for name, value in journal.attempt(key).items() if name not in ("at", "key")}


def test_an_attempt_is_what_its_lines_say_together(journal: Journal) -> None:
    assert journal.attempt("a") == {}
    journal.write("a", "uploaded", training_file="file-1")
    journal.write("b", "created", job="ftjob-b")
    journal.write("a", "created", job="ftjob-a")
    assert told(journal, "a") == {"state": "created", "training_file": "file-1", "job": "ftjob-a"}
    assert told(Journal(journal.path), "b") == {"state": "created", "job": "ftjob-b"}


@pytest.mark.parametrize("state", sorted(CLOSED))
def test_a_closed_attempt_is_forgotten(journal: Journal, state: str) -> None:
    journal.write("a", "created", job="ftjob-1")
    journal.write("a", state, job="ftjob-1")
    assert journal.attempt("a") == {}
    journal.write("a", "creating")
    assert told(journal, "a") == {"state": "creating"}


@given(cut=st.integers(min_value=0, max_value=200))
def test_a_line_that_was_torn_anywhere_costs_that_line_alone(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal") / "jobs.jsonl")
    journal.write("a", "uploaded", training_file="file-1")
    whole = len(journal.path.read_bytes())
    journal.write("a", "created", job="ftjob-ü")
    content = journal.path.read_bytes()
    kept = min(len(content), whole + cut)
    journal.path.write_bytes(content[:kept])
    journal.write("a", "status", status="running")
    complete = kept >= len(content) - 1  # the line break alone is not missed
    assert told(journal, "a") == {
        "state": "status",
        "status": "running",
        "training_file": "file-1",
        **({"job": "ftjob-ü"} if complete else {}),
    }


def test_every_line_is_json_with_its_time(journal: Journal) -> None:
    journal.write("a", "uploading", file="pytest-finetune-1.jsonl")
    (line,) = journal.path.read_text(encoding="utf-8").splitlines()
    assert {**json.loads(line), "at": None} == {
        "at": None,
        "key": "a",
        "state": "uploading",
        "file": "pytest-finetune-1.jsonl",
    }
    assert json.loads(line)["at"].endswith("+00:00")


def test_a_journal_that_cannot_be_read_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").mkdir()
    with pytest.raises(TrainingError, match="no job is started without it"):
        Journal(tmp_path / "jobs.jsonl").attempt("a")


def test_the_last_of_each_job_is_told(journal: Journal) -> None:
    about = {"endpoint": "mine", "model": "m", "comeback": "again"}
    journal.write("a", "uploading", **about, file="1.jsonl")
    journal.write("b", "creating", **about)
    journal.write("a", "created", **about, job="ftjob-1")
    journal.write("a", "failed", **about, job="ftjob-1")
    journal.write("a", "created", job="ftjob-2")
    journal.write("a", "status", job="ftjob-2", status="running")
    told = [(facts.get("job"), facts["key"], facts["state"], facts.get("status")) for facts in journal.last()]
    assert told == [
        (None, "b", "creating", None),
        ("ftjob-1", "a", "failed", None),
        ("ftjob-2", "a", "status", "running"),
    ]
    assert [facts["comeback"] for facts in journal.last()] == ["again"] * 3


def test_what_was_forgotten_stays_so(journal: Journal) -> None:
    journal.write("a", "gone", job="ftjob-1")
    journal.write("a", "created", job="ftjob-2")
    journal.write("b", "gone")
    assert journal.gone() == {"ftjob-1"}


def test_lines_that_are_none_of_ours_are_passed_over(journal: Journal) -> None:
    journal.write("a", "created", job="ftjob-a")
    mine = journal.path.read_bytes()
    others = [
        b"{}",
        b'{"key": 1, "state": "gone", "at": "2026-01-01"}',
        b'{"key": "a", "state": "gone", "at": "soon"}',
    ]
    journal.path.write_bytes(b"\n".join([b"[" * 100_000, b"\x00", *others, mine]))
    assert [line["job"] for line in journal.last()] == ["ftjob-a"]
    assert journal.gone() == frozenset()


@pytest.mark.parametrize("job_id", ["../../x", "/etc/passwd", "..", "a\x00b", "C:\\x", "x" * 5000, ""])
def test_the_id_of_a_job_leads_to_no_other_folder(journal: Journal, job_id: str) -> None:
    path = journal.beside(job_id, ".json")
    assert path.parent == journal.path.parent
    assert path.resolve().parent == journal.path.parent.resolve()
    assert len(path.name) < 120

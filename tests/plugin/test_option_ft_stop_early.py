"""``--ft-stop-early``: no more rows than it takes."""

from __future__ import annotations

import shutil
import sqlite3

import pytest
from tests.conftest import Project

CLAIMS = """
import pytest

@pytest.mark.ft_claim("tickets", "prompt_optimized >= baseline - 0.2")
def test_better(): ...

@pytest.mark.ft_claim("tickets", "prompt_optimized <= 0.6", "baseline <= 0.9")
def test_bars(): ...
"""


def requests(project: Project) -> int:
    connection = sqlite3.connect(project.path / ".pytest-finetune" / "rows.sqlite")
    (count,) = connection.execute("SELECT sum(attempts) FROM prediction").fetchone()
    connection.close()
    return int(count)


def verdicts(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if line.startswith(("  PASSED", "  FAILED"))]


def test_workers_ask_and_say_what_one_process_does_and_the_second_time_nothing(built: Project) -> None:
    built.write("test_models.py", CLAIMS)
    told, asked = list[list[str]](), list[int]()
    for first, workers in ((True, ()), (True, ("-n", "2")), (False, ())):
        if first:
            shutil.rmtree(built.path / ".pytest-finetune")
        result = built.gate("-q", "--ft-stop-early", *workers)
        result.assert_outcomes(passed=3)
        told.append(verdicts(result))
        asked.append(requests(built))
    assert len(told[0]) == 3
    assert told[1:] == [told[0]] * 2
    assert asked[1:] == [asked[0]] * 2
    assert 0 < asked[0] < 320


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--ft-retrain", "ERROR: --ft-retrain locks all rows: drop --ft-stop-early"),
        ("--ft-shard=1/2", "ERROR: --ft-shard evaluates all rows: drop --ft-stop-early"),
    ],
)
def test_where_all_rows_are_wanted_it_is_refused(project: Project, option: str, message: str) -> None:
    result = project.gate("--ft-stop-early", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])

"""What enters the lock, and what is kept out of it."""

from __future__ import annotations

import json

import pytest
from tests.conftest import TASKS, Project, make_rows

from pytest_finetune.lock import read_lock

NAMES = ("held", "alone", "failing", "xfailed", "skipped", "deselected", "body", "flaky", "first")
MANY = f"""
{TASKS}
few = dict(data="few.jsonl", suffix="same")  # the same job for all, which is paid for once
{"; ".join(f"{name} = task(**few)" for name in NAMES)}
"""
CLAIMS = """
import pytest

BETTER, BEST = "finetuned >= baseline", "finetuned >= 0.99"
runs = []

@pytest.mark.ft_claim("held", BETTER)
def test_held(): ...

@pytest.mark.ft_claim("failing", BETTER, BEST)
def test_failing(): ...

@pytest.mark.ft_claim("xfailed", BETTER)
def test_xfailed(): ...

@pytest.mark.xfail(reason="known", strict=False)
@pytest.mark.ft_claim("xfailed", BEST)
def test_xfailed_too(): ...

@pytest.mark.ft_claim("skipped", BETTER)
def test_skipped(): ...

@pytest.mark.skip(reason="not today")
@pytest.mark.ft_claim("skipped", BEST)
def test_skipped_too(): ...

@pytest.mark.ft_claim("deselected", BETTER, BEST)
def test_deselected(): ...

@pytest.mark.ft_claim("body", BETTER)
def test_body(): assert False, "the body counts, too"

@pytest.mark.ft_claim("flaky", BETTER)
def test_flaky():
    runs.append(1)
    assert len(runs) == 2

@pytest.mark.ft_claim("first", BETTER, "finetuned >= locked")
def test_first(): ...

def test_that_names_no_task(): assert False, "other tests do not matter"
"""


ALONE = """
import pytest

@pytest.mark.ft_claim("alone", "finetuned >= baseline", "finetuned >= 0.99")
def test_alone(): ...
"""


def test_a_task_is_locked_if_and_only_if_all_its_claims_ran_and_passed_in_the_end(built: Project) -> None:
    few = make_rows(3, train=80, dev=20, test=80)
    built.write("few.jsonl", "".join(f"{json.dumps(row)}\n" for row in few))
    built.write("finetune_tasks.py", MANY)
    built.write("test_models.py", CLAIMS)
    built.write("test_alone.py", ALONE)
    before = read_lock(built.lock)
    result = built.run(
        "--ft-retrain",
        "-n",
        "2",
        "-p",
        "pytest_rerunfailures",
        "--reruns=1",
        "--no-header",
        "-rs",
        "test_models.py",
        "test_alone.py",
        "--deselect=test_alone.py::test_alone[finetuned >= 0.99]",
        "--deselect=test_models.py::test_deselected[finetuned >= 0.99]",
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=8, failed=3, skipped=2, xfailed=1)
    kept_out = [line for line in result.outlines if ": not locked, since " in line]
    assert [line.partition(". The lock")[0] for line in kept_out] == [
        "ERROR: alone: not locked, since not every claim of it was run",
        "ERROR: body: not locked, since a claim does not hold",
        "ERROR: deselected: not locked, since not every claim of it was run",
        "ERROR: failing: not locked, since a claim does not hold",
        "ERROR: skipped: not locked, since a claim does not hold",
        "ERROR: xfailed: not locked, since a claim does not hold",
    ]
    assert all(f"what was built is kept in {built.candidate}" in line for line in kept_out)
    result.stdout.fnmatch_lines(["SKIPPED*nothing has been accepted yet for stage 'finetuned' of task 'first'"])
    assert result.stdout.str().count("Handing in a job") == 1
    lock = read_lock(built.lock)
    assert set(lock.tasks) == {"first", "flaky", "held", "tickets"}
    assert lock.of_task("tickets") == before.of_task("tickets")
    assert set(read_lock(built.candidate).tasks) >= {"body", "deselected", "failing", "skipped", "xfailed"}

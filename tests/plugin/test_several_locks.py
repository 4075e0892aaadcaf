"""Several tasks files and several locks in one run: each team has its own."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET

import pytest
from tests.conftest import Project

from pytest_finetune.lock import read_lock
from pytest_finetune.workflow.locks import Locks
from pytest_finetune.workflow.settings import read_settings

BOTH = ("--finetune-models=teams/a/models.lock", "--finetune-models=teams/b/models.lock")
IMPORTS = """\
import pytest
from teams.{team}.finetune_tasks import tickets


@pytest.mark.ft_claim("tickets", "finetuned >= baseline")
def test_object_{team}(ft_task):
    assert ft_task is tickets
    assert ft_task.id == "teams/{team}/tickets"
"""
ELSEWHERE = """\
import pytest


@pytest.mark.ft_claim("teams/a/tickets", "finetuned >= baseline")
@pytest.mark.ft_claim("teams/b/tickets", "finetuned >= baseline")
def test_all(ft_task):
    assert ft_task.id in ("teams/a/tickets", "teams/b/tickets")
"""


def test_a_run_gates_on_all_of_them_each_team_by_its_own_names(teams: Project, plugin_args: tuple[str, ...]) -> None:
    teams.write("tests/test_all.py", ELSEWHERE)
    result = teams.run(*plugin_args, *BOTH, "-v", "--junitxml=report.xml")
    result.assert_outcomes(passed=8)
    said = teams.said(result)
    assert "finetune: gating on teams/a/models.lock, teams/b/models.lock (models from option, tasks=" in said
    assert "\nteams/a/tickets\n" in said
    assert "\nteams/b/tickets\n" in said
    cases = ET.parse(teams.path / "report.xml").getroot().iter("testcase")  # noqa: S314  # our own
    named = {(case.get("classname"), case.get("name")) for case in cases}
    assert ("teams.a.test_a", "test_a[finetuned >= 0.5]") in named
    assert ("tests.test_all", "test_all[teams/b/tickets: finetuned >= baseline]") in named


def test_one_test_is_run_by_its_id_and_again_if_it_failed(teams: Project) -> None:
    teams.write("tests/test_all.py", ELSEWHERE)
    name = "tests/test_all.py::test_all[teams/a/tickets: finetuned >= baseline]"
    teams.run(*BOTH, name).assert_outcomes(passed=1)
    teams.edit(
        "tests/test_all.py", "def test_all(ft_task):", "def test_all(ft_task):\n    assert '/a/' not in ft_task.id"
    )
    kept = ("-o", "cache_dir=.kept", "-p", "cacheprovider", "tests", "--ft-offline")
    for options in ((), ("--lf",)):
        result = teams.pytester.runpytest_subprocess("-p", "finetune", *kept, *BOTH, *options)
        result.assert_outcomes(failed=1, **({} if options else {"passed": 1}))


def test_the_setting_may_name_them_and_part_of_the_tests_may_be_run(teams: Project) -> None:
    teams.write("pytest.ini", "[pytest]\nft_models = teams/a/models.lock teams/b/models.lock\n")
    teams.run("--ft-shard=1/2").assert_outcomes(skipped=6)
    result = teams.run("teams/b", "--ft-offline")
    result.assert_outcomes(passed=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["teams/a/models.lock was given and not judged, since no claim on its tasks was sel*"]
    )


def test_one_that_was_asked_for_and_not_judged_is_no_green_run(teams: Project) -> None:
    result = teams.run(*BOTH, "teams/b")
    result.assert_outcomes(passed=3)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR: teams/a/models.lock was given and not judged*"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "missing"), "ERROR: there is no lock at <project>/teams/missing/models.lock: build the models"),
        (("a",), "task 'teams/b/tickets' belongs in teams/b/models.lock, which is not given: add --finetune-models="),
    ],
)
def test_a_lock_that_is_missing_stops_the_run(teams: Project, names: tuple[str, ...], message: str) -> None:
    result = teams.run(*(f"--finetune-models=teams/{name}/models.lock" for name in names))
    assert result.ret in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERRUPTED)
    assert message in teams.said(result)
    assert "Traceback" not in teams.said(result)


def test_a_lock_has_its_artifacts_beside_it(teams: Project) -> None:
    next((teams.path / "teams" / "b" / "models.lock.d").glob("training-*")).unlink()
    result = teams.run(*BOTH)
    result.assert_outcomes(passed=3, errors=3)
    assert "<project>/teams/b/models.lock.d has no file for sha256:" in teams.said(result)


def test_without_the_gate_each_test_names_its_own_lock(teams: Project) -> None:
    result = teams.run("-rs", "-vv", "teams/b")
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(["SKIPPED*pytest --finetune-models=teams/b/models.lock 'teams/b/test_b.py::test_b*"])


def test_a_short_name_is_never_that_of_another_folder(teams: Project) -> None:
    teams.write("tests/test_all.py", ELSEWHERE.replace("teams/a/", ""))
    result = teams.run(*BOTH, "tests")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "tests/test_all.py::test_all: there is no task 'tickets' in <project>/teams/a/" in teams.said(result)
    assert ": name one by its id: teams/a/tickets, teams/b/tickets" in teams.said(result)


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_a_test_that_imports_its_tasks_file_by_its_path_gets_the_same_object(teams: Project, mode: str) -> None:
    for team in "ab":
        teams.write(f"teams/{team}/test_{team}.py", IMPORTS.format(team=team))
    teams.run(*BOTH, f"--import-mode={mode}").assert_outcomes(passed=2)


def test_the_name_that_both_have_is_nobody_s(teams: Project) -> None:
    teams.write("teams/b/test_b.py", "import finetune_tasks\n")
    result = teams.run(*BOTH)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    said = teams.said(result)
    assert "ImportError: several tasks files are called 'finetune_tasks', and each would get the one that" in said


def test_a_retrain_writes_each_task_to_the_lock_beside_its_tasks_file(teams: Project) -> None:
    before = (teams.path / "teams" / "b" / "models.lock").read_bytes()
    (teams.path / "teams" / "a" / "models.lock").unlink()
    shutil.rmtree(teams.path / "teams" / "a" / "models.lock.d")
    result = teams.run("-n", "2", "--ft-retrain", "teams/a")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines([f"teams/a/tickets: locked in {teams.path}/teams/a/models.lock"])
    lock = read_lock(teams.path / "teams" / "a" / "models.lock")
    assert lock.tasks == ("teams/a/tickets",)
    assert lock.entry("teams/a/tickets", "finetuned").model.split(":")[3] == "teams-a-tickets"
    assert (teams.path / "teams" / "b" / "models.lock").read_bytes() == before
    assert not teams.lock.exists()
    result = teams.run("--finetune-models=.pytest-finetune/candidate.lock")  # it has the tasks of both locks
    result.assert_outcomes(passed=6)


def test_a_candidate_enters_the_lock_of_its_task(teams: Project) -> None:
    theirs, ours = (teams.path / "teams" / team / "models.lock" for team in "ab")
    before, built = theirs.read_bytes(), read_lock(ours)
    ours.unlink()
    Locks(read_settings(teams.path), building=True).keep_candidate(built)
    result = teams.run("--ft-accept", "teams/b")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines([f"teams/b/tickets: locked in {ours}"])
    assert [entry.model for entry in read_lock(ours).models] == [entry.model for entry in built.models]
    assert theirs.read_bytes() == before

"""What both markers take beside their claims: ``on``, ``by``, ``tier``, ``repeats`` and ``max_rows``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.conftest import Project, make_rows

from pytest_finetune.core.records import Inconclusive, Policy, Scope, Tier
from pytest_finetune.lock import read_lock
from pytest_finetune.plugin.markers import ft_claim, ft_ladder
from pytest_finetune.workflow.settings import read_settings

IDS = """
import pytest

@pytest.mark.ft_ladder("tickets", min_score=0.5, by="department", on="account", tier="advisory", repeats=3)
def test_ladder(): ...

@pytest.mark.ft_claim("tickets", "finetuned >= locked", by="department")
@pytest.mark.ft_claim("tickets", "finetuned >= locked", on="account")
@pytest.mark.ft_claim("tickets", "finetuned >= locked")
def test_claim(): ...
"""


def test_slices_and_suite_are_in_the_ids_of_items(project: Project) -> None:
    project.write("test_models.py", IDS)
    assert project.run("--collect-only", "-q").outlines[:6] == [
        "test_models.py::test_ladder[prompt_optimized >= baseline by department on account]",
        "test_models.py::test_ladder[finetuned >= prompt_optimized by department on account]",
        "test_models.py::test_ladder[finetuned >= 0.5 by department on account]",
        "test_models.py::test_claim[finetuned >= locked by department]",
        "test_models.py::test_claim[finetuned >= locked on account]",
        "test_models.py::test_claim[finetuned >= locked]",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("on=3", "on=3 is not text"),
        ("by=['department']", "by=['department'] is not text"),
        ("tier='vital'", "tier='vital' is not one of critical, supporting, advisory"),
        ("repeats=0", "repeats must be at least 1, not 0"),
        ("repeats=1.5", "repeats=1.5 is not a whole number"),
        ("max_rows=True", "max_rows=True is not a whole number"),
        ("max_rows=-1", "max_rows must be at least 1, not -1"),
        ("rows=5", "@pytest.mark.ft_claim: got an unexpected keyword argument 'rows'; see pytest --markers"),
    ],
)
def test_a_wrong_argument_is_an_error_of_collection(project: Project, arguments: str, message: str) -> None:
    marker = f"@pytest.mark.ft_claim('tickets', 'finetuned >= baseline', {arguments})"
    project.write("test_models.py", f"import pytest\n{marker}\ndef test_it(): ...\n")
    items, reports = project.pytester.inline_genitems("-p", "finetune")
    failed = [report for report in reports.getreports("pytest_collectreport") if report.failed]
    assert items == []
    assert [message in str(report.longrepr) for report in failed] == [True]


def test_what_a_marker_leaves_open_is_settled_by_settings_and_by_the_kind_of_claim(tmp_path: Path) -> None:
    settings = read_settings(tmp_path, ini={"repeats": "3"}, environment={})
    plain, locked = ft_claim("tickets", "finetuned >= baseline", "finetuned >= locked")
    (sliced,) = ft_claim(
        "tickets", "finetuned >= 0.5", by="kind", on="safety", repeats=1, max_rows=9, tier="advisory"
    )
    assert [gated.scoped(settings).scope for gated in (plain, sliced)] == [
        Scope(repeats=3),
        Scope("safety", "kind", 1, 9),
    ]
    assert plain.policy(settings) == Policy()
    assert locked.policy(settings) == Policy(inconclusive=Inconclusive.WARN)
    assert sliced.policy(settings) == Policy(inconclusive=Inconclusive.WARN, tier=Tier.ADVISORY)
    (rung, *_) = ft_ladder("tickets", by="kind", inconclusive="fail")
    assert rung.policy(settings) == Policy(margin=0.02, inconclusive=Inconclusive.FAIL)


def test_slices_and_suites_that_do_not_exist_are_errors_of_collection(built: Project) -> None:
    for name, argument in {"field": "by='departmnt'", "suite": "on='acount'"}.items():
        marker = f"@pytest.mark.ft_claim('tickets', 'finetuned >= baseline', {argument})"
        built.write(f"test_{name}.py", f"import pytest\n{marker}\ndef test_it(): ...\n")
    add_suite(built)
    result = built.gate("-q", "--no-header")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        [
            "*test_field.py::test_it: by='departmnt': task 'tickets' has no such field: did you mean 'department'?",
            "*test_suite.py::test_it: task 'tickets' has no suite 'acount': did you mean 'account'?",
        ]
    )


def add_suite(project: Project) -> None:
    """Rows of the one department at which the fine-tuned model is worse than its base."""
    project.edit(
        "finetune_tasks.py",
        'tickets = task(teacher="sandbox-large")',
        'tickets = task(suites={"account": Dataset.from_file("account.jsonl", inputs=["text"])})',
    )
    rows = [row for row in make_rows(11, test=400) if row.pop("split") and row["department"] == "account"]
    project.write("account.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows[:50]))


WEIGHED = """
import pytest

CLOSE, LOST, SLICED = "finetuned >= 0.6", "finetuned >= 0.9", "finetuned >= baseline"

@pytest.mark.ft_claim("tickets", CLOSE, LOST)
def test_critical(): ...

@pytest.mark.ft_claim("tickets", CLOSE, LOST, tier="supporting")
def test_supporting(): ...

@pytest.mark.ft_claim("tickets", CLOSE, LOST, SLICED, by="department", tier="advisory")
def test_advisory(): ...

@pytest.mark.ft_claim("tickets", "finetuned >= 0.5", SLICED, by="department")
def test_sliced(): ...

@pytest.mark.ft_claim("tickets", "finetuned >= 0.5", by="department", inconclusive="observed")
def test_observed(): ...

@pytest.mark.ft_ladder("tickets", max_rows=50)
@pytest.mark.ft_claim("tickets", "finetuned >= locked - 0.001", max_rows=50)
def test_few(): ...

@pytest.mark.ft_ladder("tickets", max_rows=50)
def test_as_few(): ...
"""
CAUTION = "can be certified by a clear improvement only: a margin of 0.02 takes at least 149 rows"


def test_slices_tiers_and_doubts_are_the_same_in_one_process_and_in_several(
    built: Project, plugin_args: tuple[str, ...]
) -> None:
    built.write("test_models.py", WEIGHED)
    result = built.gate("-q", "-rf", *plugin_args)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    failed = [line.partition(" - ")[0] for line in result.outlines if line.startswith("FAILED test")]
    assert sorted(failed) == [
        "FAILED test_models.py::test_critical[finetuned >= 0.6]",
        "FAILED test_models.py::test_critical[finetuned >= 0.9]",
        "FAILED test_models.py::test_observed[finetuned >= 0.5 by department]",
        "FAILED test_models.py::test_sliced[finetuned >= baseline by department]",
        "FAILED test_models.py::test_supporting[finetuned >= 0.9]",
    ]
    result.assert_outcomes(failed=5, passed=10)
    doubts = [line for line in result.outlines if CAUTION in line]
    assert doubts == [
        f"tickets: '{claim}' {CAUTION}, even if all are equal, and there are 50 rows"
        for claim in ("prompt_optimized >= baseline", "finetuned >= prompt_optimized")
    ]


BUILT = """
import pytest

@pytest.mark.ft_claim("tickets", "finetuned >= baseline - 0.5", max_rows=40, repeats=2)
def test_few(): ...

@pytest.mark.ft_claim("tickets", "finetuned >= locked", on="account")
def test_suite(): ...
"""


def test_what_a_worker_judges_is_what_the_controller_locks(project: Project) -> None:
    add_suite(project)
    rows = make_rows(3, train=80, dev=20, test=60)
    project.write("tickets.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    project.write("test_models.py", BUILT)
    result = project.run("-q", "--ft-retrain", "-n", "1")
    result.assert_outcomes(passed=1, skipped=1)
    lock = read_lock(project.lock)
    scores = {entry.stage: entry.score.n for entry in lock.of_task("tickets") if entry.score is not None}
    assert scores == {"baseline": 80, "finetuned": 80, "prompt_optimized": 60}
    suites = {entry.stage: list(entry.artifacts.suites) for entry in lock.of_task("tickets")}
    assert suites == {"baseline": [], "finetuned": ["account"], "prompt_optimized": []}
    again = project.gate("-q", "--ft-offline", "--ft-inconclusive=fail")
    again.assert_outcomes(passed=2)

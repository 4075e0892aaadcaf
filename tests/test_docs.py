"""What the README and the docs show is run."""

from __future__ import annotations

import ast
import importlib
import json
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
from tests.conftest import Project
from tests.test_example_project import copy_of_project, finetuned, with_finetuned
from tests.unit.reports.cases import RESULTS
from tests.workflow.test_sabotage import SABOTAGE

from pytest_finetune.core.claims import LADDER, parse
from pytest_finetune.core.pricing import Price, price_of
from pytest_finetune.core.records import Inconclusive, Measure, Scope, Tier
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.lock import Lock, read_lock
from pytest_finetune.lock.review import lock_lines
from pytest_finetune.plugin import MARKERS
from pytest_finetune.plugin.markers import GatedClaim, ft_claim, ft_ladder
from pytest_finetune.production import rehearsal
from pytest_finetune.reports.header import given
from pytest_finetune.reports.lines import failure
from pytest_finetune.workflow.settings import read_settings
from pytest_finetune.workflow.tasks import load_tasks

ROOT = Path(__file__).parents[1]
Make = Callable[..., tuple[GatedClaim, ...]]


def snippets(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_tasks_and_tests_of_the_readme_are_collected(pytester: pytest.Pytester) -> None:
    tasks, tests = snippets("README.md")
    pytester.makepyfile(finetune_tasks=tasks, test_models=tests)
    shutil.copytree(ROOT / "example_project" / "data", pytester.path / "data")
    done = pytester.runpytest_subprocess("-v", "-p", "no:randomly")
    done.stdout.fnmatch_lines(
        [
            "*test_tickets[[]prompt_optimized >= baseline] SKIPPED*",
            "*test_tickets[[]finetuned >= prompt_optimized] SKIPPED*",
            "*test_tickets[[]finetuned >= 0.8] SKIPPED*",
            "*test_still_the_model_that_was_accepted[[]finetuned >= locked - 0.01] SKIPPED*",
        ]
    )
    assert len(load_tasks(pytester.path, ["finetune_tasks.py"])["tickets"].dataset.train) > 3000


def test_the_snippets_about_the_sandbox_run(pytester: pytest.Pytester) -> None:
    (faults,) = snippets("docs/sandbox.md")
    pytester.makepyfile(test_faults=faults)
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=1)


def test_the_snippets_about_production_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = copy_of_project(tmp_path)
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "path", [*sys.path])
    service, script = project / "service.py", project / "script.py"
    loads, canary, rehearsed = snippets("docs/production.md")
    service.write_text(loads + canary, encoding="utf-8")
    script.write_text(loads.splitlines()[0] + "\n" + rehearsed, encoding="utf-8")
    promoted = finetuned(project, "tickets", "production")
    with_finetuned(project, promoted)
    with rehearsal("models.lock", "tickets") as sandbox:
        table = f'[tool.pytest-finetune.endpoints.ours]\nbase_url = "{sandbox.base_url}"\n'
        (project / "pyproject.toml").write_text(table, encoding="utf-8")
        ours = promoted.model_copy(update={"endpoint": f"ours {sandbox.base_url}"})
        candidate = ours.model_copy(update={"state": "candidate", "model": "sandbox-small"})
        before = ours.model_copy(update={"state": "deprecated", "model": "sandbox-large"})
        with_finetuned(project, candidate, ours, before)
        names = runpy.run_path(str(service))
    routed, served = names["serve"].counts, names["stable"].counts
    assert (routed.stable + routed.candidate, routed.stable_errors, served.errors) == (1, 0, 0)
    with_finetuned(project, promoted)
    assert runpy.run_path(str(script))["program"].version == promoted
    sys.modules.pop("finetune_tasks")


def test_the_judge_of_the_docs_is_a_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = snippets("docs/evaluation.md")
    (tmp_path / "judge_of_the_docs.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    metric = importlib.import_module("judge_of_the_docs").metric
    assert [judge.model for judge in metric.judges] == ["sandbox-large"]
    assert len(metric.fingerprint()) == 64


def test_the_page_about_the_lock_shows_that_of_the_example_project() -> None:
    page = (ROOT / "docs" / "lock.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"<!-- show -->\n```text\n(.*?)\n```\n<!-- end -->", page, re.DOTALL)
    assert shown.splitlines() == list(lock_lines(read_lock(ROOT / "example_project" / "models.lock")))


def test_the_schema_of_the_lock_is_that_of_its_model() -> None:
    """To write it anew: json.dumps(Lock.model_json_schema(), indent=1, sort_keys=True), and a line's end."""
    schema = json.loads((ROOT / "docs" / "lock.schema.json").read_text(encoding="utf-8"))
    assert schema == Lock.model_json_schema()


def test_the_prices_of_the_docs_are_read(tmp_path: Path) -> None:
    (table,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/evaluation.md").read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(table, encoding="utf-8")
    settings = read_settings(tmp_path)
    price = price_of("ft:my-model-2026:acme::1", settings.prices(Endpoint("mine", "http://127.0.0.1/v1")))
    assert price == Price(0.30, 1.20)


def test_every_sabotage_that_is_tried_is_in_the_docs_and_the_other_way_round() -> None:
    page = (ROOT / "docs" / "sabotage.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(sabotage.__name__ for sabotage in SABOTAGE)
    assert len(listed) >= 30


def first_column(page: str) -> list[str]:
    """The code in the first column of a page's tables."""
    return re.findall(r"^\| `(.+?)` \|", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)


FORMS = [form for form in first_column("docs/claims.md") if ">=" in form or "<=" in form]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_claim_in_the_docs_is_one(form: str) -> None:
    claims = parse(form, stages=[*LADDER, "teacher"])
    assert len(claims) == form.count(">=") + form.count("<=")


def test_the_docs_show_claims_of_every_kind() -> None:
    claims = [claim for form in FORMS for claim in parse(form)]
    assert len(set(FORMS)) == len(FORMS)
    assert {claim.measure for claim in claims} == set(Measure)
    assert {stage for claim in claims for stage in claim.stages} == {*LADDER, "teacher"}
    assert any(claim.uses_locked for claim in claims)
    assert any(claim.percentile for claim in claims)
    assert {claim.margin is None or claim.margin > 0 for claim in claims} == {True, False}
    arguments = {form.partition("=")[0] for form in first_column("docs/claims.md") if form not in FORMS}
    assert arguments == {"on", *(field.name for field in fields(Scope))} - {"suite"}


def test_the_verdict_of_the_docs_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = (ROOT / "docs/verdicts.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"<!-- paragraph -->\n```text\n(.*?)\n```\n<!-- end -->", page, re.DOTALL)
    result = RESULTS["not held as observed"]
    assert shown.splitlines() == list(failure(replace(result, flips=result.flips[:1])))


def test_the_docs_name_every_policy_and_tier_and_the_header() -> None:
    assert first_column("docs/verdicts.md") == [
        "inconclusive=",
        *(f'"{word}"' for word in Inconclusive),
        "tier=",
        *(f'"{word}"' for word in Tier),
    ]
    values = {"models": ("models.lock",), "alpha": 0.01}
    told = given(values, {"models": "option", "alpha": "ini"})
    assert f"finetune: gating on models.lock ({told})" in (ROOT / "docs/verdicts.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "make"), [("ft_claim", ft_claim), ("ft_ladder", ft_ladder)])
def test_what_pytest_tells_of_a_marker_is_what_it_takes(
    name: str, make: Callable[..., tuple[GatedClaim, ...]]
) -> None:
    signature, _, text = MARKERS[name].partition("): ")
    told = {key: ast.literal_eval(value) for key, value in re.findall(r"(\w+)=([^,]+)", signature)}
    claim = {"ft_claim": ["finetuned >= baseline"], "ft_ladder": []}[name]
    (default, *_), (same, *_) = make("tickets", *claim), make("tickets", *claim, **told)
    assert told.pop("margin") == default.default_margin == same.margin
    told.pop("min_score", None)
    assert set(told) == {field.name for field in fields(GatedClaim)} - {"task", "claim", "margin", "default_margin"}
    assert replace(same, margin=None) == default
    assert [key for key in ("margin", *told) if f"\n    {key} " not in text] == []


def test_the_page_about_teams_is_run(teams: Project) -> None:
    page = (ROOT / "docs" / "teams.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (header,) = re.findall(r"<!-- header -->\n```text\n(.*?)\n```", page, re.DOTALL)
    _, gate = re.findall(r"^pytest (.*)$", page, re.MULTILINE)
    named, imported = snippets("docs/teams.md")
    teams.write("pyproject.toml", table)
    teams.write("teams/a/test_a.py", f"{imported}\n\n{named}    assert ft_task is tickets\n")
    result = teams.run(*gate.split())
    result.assert_outcomes(passed=4)
    assert header in result.outlines

"""``--ft-max-cost``: what it stops, what it keeps, and what it needs to know."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pytest
from tests.conftest import Project

CLAIM = """
import pytest

@pytest.mark.ft_claim("tickets", "{}")
def test_it(): ...
"""


def paid(project: Project) -> float:
    with sqlite3.connect(project.path / ".pytest-finetune" / "rows.sqlite") as connection:
        rows = connection.execute("SELECT usage FROM prediction WHERE usage IS NOT NULL").fetchall()
    costs: list[float] = [json.loads(usage)["cost"] for (usage,) in rows]
    return sum(costs)


def test_the_run_stops_before_it_and_the_next_one_goes_on(built: Project, plugin_args: tuple[str, ...]) -> None:
    shutil.rmtree(built.path / ".pytest-finetune")
    result = built.gate("-q", "--ft-max-cost=0.01", *plugin_args)
    result.assert_outcomes(errors=3)
    said = result.stdout.str()
    assert "not evaluated: the next request may cost $0.00" in said
    assert "of the cap of $0.01 are spent or set aside" in said
    assert "3 NOT EVALUATED" in said
    assert 0.002 < paid(built) <= 0.01
    before = paid(built)
    built.gate("-q", *plugin_args).assert_outcomes(passed=3)
    assert paid(built) > before


def test_a_claim_whose_rows_are_there_is_judged_all_the_same(built: Project) -> None:
    with sqlite3.connect(built.path / ".pytest-finetune" / "rows.sqlite") as connection:
        connection.execute("DELETE FROM prediction WHERE stage = 'baseline'")
    result = built.gate("-q", "--ft-max-cost=0.0001")
    result.assert_outcomes(passed=2, errors=1)
    assert "2 certified, 0 only observed, 1 NOT EVALUATED" in result.stdout.str()


def test_it_needs_every_price_before_the_first_call(built: Project) -> None:
    built.edit("models.lock", 'model = "sandbox-small"', 'model = "mystery"')
    result = built.gate("-q", "--ft-max-cost=1")
    result.assert_outcomes(errors=1)
    assert "needs the price of 'mystery', which is unknown" in result.stdout.str()


def test_costs_are_compared_at_the_prices_of_today(built: Project) -> None:
    built.write("test_models.py", CLAIM.format("cost(finetuned) <= 0.5 * cost(prompt_optimized)"))
    built.gate("-q").assert_outcomes(failed=1)
    prices = '[tool.pytest-finetune.prices."ft:*"]\nprompt = 0.01\ncompletion = 0.01\n'
    built.write("pyproject.toml", prices)
    built.gate("-q").assert_outcomes(passed=1)


def test_a_cost_that_is_not_known_is_not_judged(built: Project) -> None:
    built.write("test_models.py", CLAIM.format("cost(finetuned) <= cost(prompt_optimized)"))
    built.edit("models.lock", 'model = "ft:sandbox-small', 'model = "nobody:sandbox-small')
    result = built.gate("-q")
    assert "passed" not in result.parseoutcomes()


def test_a_price_must_be_a_price(built: Project) -> None:
    built.write("pyproject.toml", "[tool.pytest-finetune.prices.small]\nprompt = -1\ncompletion = 1\n")
    result = built.gate("-q")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "prices.small.prompt: Input should be greater than or equal to 0" in result.stderr.str()

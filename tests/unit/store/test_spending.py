"""A cap on cost: exact, whoever spends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from tests.unit.store.answers import sql

from pytest_finetune.store import Spending, Store

SPEND = """
import sys
from pathlib import Path
from pytest_finetune.store import Spending
spending = Spending(Path(sys.argv[1]), "run")
print(sum(spending.reserve(0.01, cap=0.5) for _ in range(40)))
"""


@pytest.fixture
def spending(path: Path) -> Iterator[Spending]:
    with Store.create(path), Spending(path, "run") as opened:
        yield opened


def test_what_does_not_fit_is_not_booked(spending: Spending) -> None:
    assert spending.reserve(0.75, cap=1.0) is True
    assert spending.reserve(0.5, cap=1.0) is False
    assert spending.spent() == 0.75
    assert spending.reserve(0.25, cap=1.0) is True
    assert spending.spent() == 1.0


def test_what_was_not_needed_is_free_again(spending: Spending) -> None:
    spending.reserve(0.75, cap=1.0)
    spending.settle(0.75, 0.25)
    assert spending.spent() == 0.25
    assert spending.reserve(0.75, cap=1.0) is True


def test_the_sums_of_floats_are_no_obstacle(spending: Spending) -> None:
    assert [spending.reserve(0.1, cap=0.3) for _ in range(4)] == [True, True, True, False]


def test_all_processes_of_a_run_share_the_cap_and_no_other(spending: Spending, path: Path) -> None:
    with Spending(path, "run") as other, Spending(path, "another run") as stranger:
        spending.reserve(0.5, cap=1.0)
        assert other.reserve(0.75, cap=1.0) is False
        assert other.reserve(0.5, cap=1.0) is True
        other.settle(0.5, 0.125)
        assert (spending.spent(), other.spent(), stranger.spent()) == (0.625, 0.625, 0.0)
        assert stranger.reserve(1.0, cap=1.0) is True


def test_the_cap_holds_exactly_over_processes_and_threads(spending: Spending, path: Path) -> None:
    command = [sys.executable, "-c", SPEND, str(path)]
    others = [Popen(command, stdout=PIPE, text=True) for _ in range(2)]
    with ThreadPoolExecutor(4) as pool:
        booked = sum(pool.map(lambda _: spending.reserve(0.01, cap=0.5), range(40)))
    assert booked + sum(int(process.communicate()[0]) for process in others) == 50
    assert spending.spent() == pytest.approx(0.5)


def test_runs_of_yesterday_are_forgotten_and_the_own_one_is_not(path: Path) -> None:
    with Store.create(path):
        for run in ("old", "run", "other"):
            Spending(path, run).reserve(0.5, cap=1.0)
        sql(path, "UPDATE spending SET changed_at = changed_at - 90000 WHERE run <> 'other'")
        with Spending(path, "run") as spending:
            assert spending.spent() == 0.5
    assert sql(path, "SELECT run FROM spending ORDER BY run") == [("other",), ("run",)]

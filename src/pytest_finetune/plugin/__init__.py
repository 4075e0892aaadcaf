"""The pytest plugin: hooks that route, and nothing else.

Loading it must cost nothing. What it imports here is pytest and the standard library; the rest is imported when the
first marked test is met, or when a run asks for models.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_finetune.plugin import options

if TYPE_CHECKING:
    from pytest_finetune.plugin.session import FinetuneSession

pytest_plugins = ("pytest_finetune.plugin.fixtures",)

_ARGUMENTS = """
    on             a suite of the task, in the place of its test split
    by             a field: the claim must hold in each of its slices
    margin         how much worse still counts as at least as good, in [0, 1) of the score
    alpha          error rate of PASS and of FAIL, each (default: the setting, 0.05)
    inconclusive   a claim that the rows cannot settle: 'observed' goes by what was seen, 'fail' fails, 'warn' passes
                   (default: 'observed'; 'warn' with by= and with locked)
    tier           'critical' blocks, 'supporting' only where it is certified not to hold, 'advisory' never
    repeats        answers to each row, which are averaged (default: the setting, 1)
    max_rows       at most so many rows
  Provided by pytest-finetune."""
MARKERS = {
    "ft_ladder": "ft_ladder(task, *, min_score=None, margin=0.02, on=None, by=None, alpha=None, inconclusive=None,"
    " tier='critical', repeats=None, max_rows=None): the task's fine-tuned stage is at least as good as the"
    " prompt-optimized one, which is at least as good as the baseline, within the margin; and it scores at least"
    f" min_score, if given. Each comparison is a test item.{_ARGUMENTS}",
    "ft_claim": "ft_claim(task, *claims, on=None, by=None, margin=0, alpha=None, inconclusive=None, tier='critical',"
    " repeats=None, max_rows=None): each claim holds, such as 'finetuned >= 0.95 * teacher' or 'cost(finetuned) <="
    f" 0.1 * cost(teacher)'. Each comparison is a test item.{_ARGUMENTS}",
}
_KEY = pytest.StashKey["FinetuneSession"]()


def session_of(config: pytest.Config) -> FinetuneSession:
    """What the plugin knows during this run; made when it is first needed."""
    if _KEY not in config.stash:
        from pytest_finetune.plugin.session import FinetuneSession

        config.stash[_KEY] = FinetuneSession(config)
    return config.stash[_KEY]


def _is_marked(node: pytest.Item | pytest.Function) -> bool:
    return any(mark.name in MARKERS for mark in node.iter_markers())


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare options and ini keys."""
    options.declare(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers; where models are asked for, make sure at once that they can be had."""
    options.check(config)
    for line in MARKERS.values():
        config.addinivalue_line("markers", line)
    if options.is_asked_for(config):
        session_of(config).begin()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close what was opened."""
    if _KEY in config.stash:
        config.stash[_KEY].close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make an item of each claim."""
    if _is_marked(metafunc.definition):
        session_of(metafunc.config).parametrize(metafunc)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Refuse marked tests that would never be judged, and remember the others, before any is deselected."""
    report = yield
    marked = [item for item in report.result or () if isinstance(item, pytest.Item) and _is_marked(item)]
    if marked:
        session_of(collector.config).found(report, marked)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Remember the claims that will be judged; a worker hands them over here."""
    marked = [item for item in session.items if _is_marked(item)]
    if marked or options.is_asked_for(session.config):
        session_of(session.config).collected(marked)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Evaluate what a claim needs: trouble here is an error, not a failure."""
    if _is_marked(item):
        session_of(item.config).prepare(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Judge a claim, before the test's own body."""
    if _is_marked(item):
        session_of(item.config).judge(item)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is gated, and where each setting came from."""
    return session_of(config).header() if options.is_asked_for(config) else []


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand to a worker of pytest-xdist what it shares with the others."""
    if options.is_asked_for(node.config):
        node.workerinput |= session_of(node.config).shared()

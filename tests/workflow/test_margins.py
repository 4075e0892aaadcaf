"""What is said before anything is spent: margins that rows cannot certify by being equal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.workflow.gating import claim

from pytest_finetune import Dataset, Suite, Task, metrics
from pytest_finetune.core.gate import judge
from pytest_finetune.core.records import Evidence, Outcome, Pair, Policy
from pytest_finetune.core.stats import min_rows
from pytest_finetune.workflow.margins import doubt


def rows(count: int) -> Dataset:
    """So many test rows; every tenth is rare, every fiftieth very rare."""
    kinds = ["odd" if n % 50 == 0 else "rare" if n % 10 == 0 else "usual" for n in range(count)]
    test = [{"text": f"text {n}", "kind": kind} for n, kind in enumerate(kinds)]
    return Dataset.from_examples(
        {"train": [{"text": "a", "kind": "usual"}], "dev": [{"text": "b", "kind": "usual"}], "test": test},
        inputs=["text"],
    )


TASK = Task(
    program=lambda: None,
    dataset=rows(300),
    metric=metrics.exact_match("kind"),
    student="small",
    teacher="large",
    name="tickets",
    suites={"few": rows(20), "many": Suite(rows(400))},
)


def said(text: str, margin: float = 0.02, alpha: float = 0.05, **scope: Any) -> str | None:
    return doubt(TASK, *claim(text, Policy(margin, alpha), **scope))


@pytest.mark.parametrize(
    ("text", "scope", "reason"),
    [
        (
            "finetuned >= baseline",
            {"max_rows": 50},
            "a margin of 0.02 takes at least 149 rows, even if all are",
        ),
        (
            "finetuned >= baseline - 0.005",
            {},
            "a margin of 0.005 takes at least 598 rows, even",
        ),
        ("finetuned >= baseline", {"suite": "few"}, "and there are 22 rows"),
        ("finetuned >= baseline", {"by": "kind"}, "and slice 'odd' has 6 rows (and 1 more slices have too few)"),
        ("format_errors(finetuned) <= format_errors(baseline) + 0.001", {}, "and there are 300 rows"),
    ],
)
def test_it_says_what_is_lacking(text: str, scope: dict[str, Any], reason: str) -> None:
    doubted = said(text, **scope)
    assert doubted is not None
    assert doubted.startswith(f"tickets: '{claim(text, **scope)[0]}' can be certified by a clear improvement only: ")
    assert reason in doubted


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("finetuned >= baseline", {}),
        ("finetuned >= baseline", {"suite": "many"}),
        ("finetuned >= baseline - 0.2", {"max_rows": 20}),
        ("finetuned >= baseline - 0", {"max_rows": 20}),
        ("finetuned >= locked", {"max_rows": 20}),
        ("finetuned >= 0.95 * teacher", {"max_rows": 20}),
        ("finetuned >= 0.8", {"max_rows": 20}),
        ("cost(finetuned) <= cost(baseline)", {"max_rows": 20}),
        ("latency_p95(finetuned) <= latency_p95(baseline)", {"max_rows": 20}),
    ],
)
def test_it_is_silent_where_equal_rows_would_do_or_none_would(text: str, scope: dict[str, Any]) -> None:
    assert said(text, **scope) is None


@given(st.floats(0.01, 0.4), st.sampled_from([0.05, 0.2]))
def test_what_it_asks_for_is_what_the_gate_needs(margin: float, alpha: float) -> None:
    (scoped, policy), needed = claim("finetuned >= baseline", Policy(margin, alpha)), min_rows(margin, alpha=alpha)
    outcomes = [
        judge(scoped.claim, Evidence(tuple(Pair(str(n), 1.0, 1.0) for n in range(count))), policy).outcome
        for count in (needed - 1, needed)
        if count
    ]
    assert outcomes[:-1] == [Outcome.INCONCLUSIVE] * len(outcomes[:-1])
    assert outcomes[-1] is Outcome.PASS

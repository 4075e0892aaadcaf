"""What the tests of the gate share: claims, evidence made of figures, and its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pytest_finetune.core.claims import Claim, parse
from pytest_finetune.core.gate import judge
from pytest_finetune.core.records import Evidence, Pair, Policy, Verdict

ABOVE = "finetuned >= baseline"
SHARE = "finetuned >= 0.95 * teacher"
CHEAPER = "cost(finetuned) <= 0.1 * cost(teacher)"
FASTER = "latency_p95(finetuned) <= 1.2 * latency_p95(baseline)"
FORMAT = "format_errors(finetuned) <= format_errors(baseline)"

LATENCIES = [1 + ((i * 37) % 100) / 50 for i in range(200)]  # each of 1.00, 1.02, … 2.98 twice


def claim(text: str) -> Claim:
    """The one claim of a text."""
    (parsed,) = parse(text)
    return parsed


def evidence(
    left: Sequence[float],
    right: Sequence[float] | float,
    groups: Sequence[str] | None = None,
    parts: Sequence[str] | None = None,
    **changes: Any,
) -> Evidence:
    """One pair per figure of each side; ``right`` may be the number of the claim."""
    n = len(left)
    others = [right] * n if isinstance(right, float) else right
    values = zip(left, others, groups or n * [None], parts or n * [None], strict=True)
    return Evidence(tuple(Pair(f"{pair[-1] or 'row'} {i}", *pair) for i, pair in enumerate(values)), **changes)


def flips(wins: int, losses: int, n: int, part: str | None = None) -> Evidence:
    """Binary scores: so many rows won, so many lost, the others right on both sides."""
    same = n - wins - losses
    left, right = [1.0] * wins + [0.0] * losses + [1.0] * same, [0.0] * wins + [1.0] * losses + [1.0] * same
    return evidence(left, right, parts=None if part is None else [part] * n)


def sliced(*slices: Evidence) -> Evidence:
    """Several slices as one."""
    return Evidence(tuple(pair for each in slices for pair in each.pairs))


def identical(made: Evidence) -> Evidence:
    """As if both sides ran one program on one model."""
    return replace(made, same_model=True, same_program=True)


def verdict_on(text: str, made: Evidence, margin: float = 0.0) -> Verdict:
    """What the gate says at the usual alpha."""
    return judge(claim(text), made, Policy(margin=margin))

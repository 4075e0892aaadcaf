"""What is said before anything is spent: margins that the rows cannot certify for stages that are equally good."""

from __future__ import annotations

from collections import Counter

from pytest_finetune.core import stats
from pytest_finetune.core.claims import Reading, ScopedClaim
from pytest_finetune.core.records import Policy
from pytest_finetune.task import Task


def doubt(task: Task, scoped: ScopedClaim, policy: Policy) -> str | None:
    """Why a claim cannot be certified on its rows unless one stage is clearly better, if so.

    Args:
        task: Whose rows they are.
        scoped: What must hold, on which rows.
        policy: How strictly it will be judged.

    Raises:
        DatasetError: If the rows cannot be read.
    """
    claim = scoped.claim
    margin = policy.margin if claim.margin is None else claim.margin
    if not isinstance(claim.right, Reading) or not claim.measure.bounded:
        return None
    if {claim.left.factor, claim.right.factor} != {1.0}:  # what is equal is then not a draw
        return None
    if claim.uses_locked or margin <= 0:  # identical rows hold; and no number of rows certifies "not worse at all"
        return None
    needed = stats.min_rows(margin, alpha=policy.alpha)
    rows = task.held_out(scoped.scope.suite).rows[: scoped.scope.max_rows]
    parts = Counter(str(row.fields[scoped.scope.by]) if scoped.scope.by else "" for row in rows)
    small = sorted((name for name, count in parts.items() if count < needed), key=lambda name: (parts[name], name))
    if not small:
        return None
    where = f"slice {small[0]!r} has {parts[small[0]]} rows" if scoped.scope.by else f"there are {len(rows)} rows"
    others = f" (and {len(small) - 1} more slices have too few)" if len(small) > 1 else ""
    return (
        f"{scoped.task}: '{scoped}' can be certified by a clear improvement only: a margin of {margin:g} takes at"
        f" least {needed} rows, even if all are equal, and {where}{others}"
    )

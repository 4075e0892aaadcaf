"""The markers: their signatures are the functions below, and their mistakes are errors of collection."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_finetune.core.claims import Claim, ladder, parse
from pytest_finetune.core.records import Inconclusive, Policy
from pytest_finetune.errors import ClaimError, UsageError

LADDER_MARGIN = 0.02


@dataclass(frozen=True)
class GatedClaim:
    """One claim of one test.

    Attributes:
        task: The task's name.
        claim: What must hold.
        margin: From the marker; ``None``: the settings', and then ``default_margin``.
        default_margin: Of the marker's kind.
        alpha: From the marker; ``None``: the settings'.
        inconclusive: From the marker; ``None``: the settings', and then the claim's own default.
    """

    task: str
    claim: Claim
    margin: float | None
    default_margin: float
    alpha: float | None
    inconclusive: Inconclusive | None


def ft_ladder(
    task: str,
    *,
    min_score: float | None = None,
    margin: float | None = None,
    alpha: float | None = None,
    inconclusive: str | None = None,
) -> tuple[GatedClaim, ...]:
    """``@pytest.mark.ft_ladder``: sugar for the chain finetuned >= prompt_optimized >= baseline."""
    claims = ladder(min_score)
    return _gated(task, claims, margin, LADDER_MARGIN, alpha, inconclusive)


def ft_claim(
    task: str,
    *claims: str,
    margin: float | None = None,
    alpha: float | None = None,
    inconclusive: str | None = None,
) -> tuple[GatedClaim, ...]:
    """``@pytest.mark.ft_claim``: claims in the comparison language."""
    if not claims:
        raise ClaimError("ft_claim names no claim: add one, such as 'finetuned >= baseline'")
    for text in claims:
        if not isinstance(text, str):
            raise ClaimError(f"ft_claim takes claims as text, not {text!r}")
    parsed = [claim for text in claims for claim in parse(text)]
    return _gated(task, parsed, margin, 0.0, alpha, inconclusive)


_SIGNATURES: dict[str, Any] = {"ft_ladder": ft_ladder, "ft_claim": ft_claim}


def markers_of(node: pytest.Function | pytest.Item) -> list[pytest.Mark]:
    """Our markers on an item, the outermost first."""
    return [mark for mark in node.iter_markers() if mark.name in _SIGNATURES][::-1]


def claims_of(marks: Collection[pytest.Mark]) -> list[tuple[str, GatedClaim]]:
    """The claims of one test, each with its id.

    Raises:
        UsageError: If a marker's arguments are wrong, or a claim stands there twice.
    """
    claims = [claim for mark in marks for claim in _read(mark)]
    several = len({claim.task for claim in claims}) > 1
    found: dict[str, GatedClaim] = {}
    for gated in claims:
        name = f"{gated.task}: {gated.claim}" if several else str(gated.claim)
        if name in found:
            raise ClaimError(
                f"the claim {str(gated.claim)!r} of task {gated.task!r} stands twice on this test: drop one"
            )
        found[name] = gated
    return list(found.items())


def _read(mark: pytest.Mark) -> Iterator[GatedClaim]:
    try:
        claims = _SIGNATURES[mark.name](*mark.args, **mark.kwargs)
    except TypeError as error:
        text = str(error).replace(f"{mark.name}() ", "")
        raise UsageError(f"@pytest.mark.{mark.name}: {text}; see pytest --markers") from None
    yield from claims


def _gated(
    task: str,
    claims: Collection[Claim],
    margin: float | None,
    default_margin: float,
    alpha: float | None,
    inconclusive: str | None,
) -> tuple[GatedClaim, ...]:
    if not isinstance(task, str):
        raise UsageError(f"a task is named by text, not {task!r}: @pytest.mark.ft_ladder('tickets')")
    if inconclusive is not None and inconclusive not in [member.value for member in Inconclusive]:
        raise UsageError(f"inconclusive={inconclusive!r} is not one of observed, fail, warn")
    rule = None if inconclusive is None else Inconclusive(inconclusive)
    for name, figure in (("margin", margin), ("alpha", alpha)):
        if not isinstance(figure, int | float | None):
            raise UsageError(f"{name}={figure!r} is not a number")
    usual = Policy()
    Policy(usual.margin if margin is None else margin, usual.alpha if alpha is None else alpha)  # or it raises
    return tuple(GatedClaim(task, claim, margin, default_margin, alpha, rule) for claim in claims)

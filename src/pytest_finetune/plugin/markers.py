"""The markers: their signatures are the functions below, and their mistakes are errors of collection."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_finetune.core.claims import LADDER_MARGIN, Claim, ScopedClaim, ladder, parse
from pytest_finetune.core.records import Inconclusive, Policy, Scope, Tier
from pytest_finetune.errors import ClaimError, UsageError

if TYPE_CHECKING:
    from pytest_finetune.workflow.settings import Settings


@dataclass(frozen=True)
class GatedClaim:
    """One claim of one test.

    Attributes:
        task: The task's id; as the marker names it where no tasks are loaded.
        claim: What must hold.
        on: The suite; ``None``: the task's test split.
        by: The field by which the rows are sliced; ``None``: not at all.
        margin: From the marker; ``None``: the settings', and then ``default_margin``.
        default_margin: Of the marker's kind.
        alpha: From the marker; ``None``: the settings'.
        inconclusive: From the marker; ``None``: the settings', and then the claim's own default.
        tier: How much hangs on it.
        repeats: Answers to each row; ``None``: the settings'.
        max_rows: At most so many rows; ``None``: all.
    """

    task: str
    claim: Claim
    on: str | None
    by: str | None
    margin: float | None
    default_margin: float
    alpha: float | None
    inconclusive: Inconclusive | None
    tier: Tier
    repeats: int | None
    max_rows: int | None

    def scoped(self, settings: Settings) -> ScopedClaim:
        """The claim with the rows that it looks at."""
        repeats = settings.repeats if self.repeats is None else self.repeats
        return ScopedClaim(self.task, self.claim, Scope(self.on, self.by, repeats, self.max_rows))

    def policy(self, settings: Settings) -> Policy:
        """How strictly it is judged: the marker's word, then the settings', then the default of its kind."""
        lenient = self.claim.uses_locked or self.by is not None
        default = Inconclusive.WARN if lenient else Inconclusive.OBSERVED
        return Policy(
            margin=_first(self.margin, settings.margin, self.default_margin),
            alpha=_first(self.alpha, settings.alpha),
            inconclusive=_first(self.inconclusive, settings.inconclusive, default),
            tier=self.tier,
        )

    def __str__(self) -> str:
        return f"{self.claim}{Scope(self.on, self.by)}"


def ft_ladder(task: str, *, min_score: float | None = None, **options: Any) -> tuple[GatedClaim, ...]:
    """``@pytest.mark.ft_ladder``: sugar for the chain finetuned >= prompt_optimized >= baseline."""
    return _gated(task, ladder(min_score), LADDER_MARGIN, **options)


def ft_claim(task: str, *claims: str, **options: Any) -> tuple[GatedClaim, ...]:
    """``@pytest.mark.ft_claim``: claims in the comparison language."""
    if not claims:
        raise ClaimError("ft_claim names no claim: add one, such as 'finetuned >= baseline'")
    for text in claims:
        if not isinstance(text, str):
            raise ClaimError(f"ft_claim takes claims as text, not {text!r}")
    parsed = [claim for text in claims for claim in parse(text)]
    return _gated(task, parsed, 0.0, **options)


_SIGNATURES: dict[str, Any] = {"ft_ladder": ft_ladder, "ft_claim": ft_claim}


def markers_of(node: pytest.Function | pytest.Item) -> list[pytest.Mark]:
    """Our markers on an item, the outermost first."""
    return [mark for mark in node.iter_markers() if mark.name in _SIGNATURES][::-1]


def claims_of(marks: Collection[pytest.Mark], called: Callable[[str], str]) -> list[tuple[str, GatedClaim]]:
    """The claims of one test, each with its id.

    Args:
        marks: The test's markers.
        called: Gives the id of a task by the name that a marker has for it; ids of tests have the marker's.

    Raises:
        UsageError: If a marker's arguments are wrong, or a claim stands there twice.
    """
    claims = [claim for mark in marks for claim in _read(mark)]
    several = len({claim.task for claim in claims}) > 1
    found: dict[tuple[str, str], tuple[str, GatedClaim]] = {}
    for gated in claims:
        key = (called(gated.task), str(gated))
        if key in found:
            raise ClaimError(f"the claim {str(gated)!r} of task {gated.task!r} stands twice on this test: drop one")
        found[key] = (f"{gated.task}: {gated}" if several else str(gated), replace(gated, task=key[0]))
    return list(found.values())


def _read(mark: pytest.Mark) -> Iterator[GatedClaim]:
    try:
        claims = _SIGNATURES[mark.name](*mark.args, **mark.kwargs)
    except TypeError as error:
        text = re.sub(r"^_?\w+\(\) ", "", str(error))
        raise UsageError(f"@pytest.mark.{mark.name}: {text}; see pytest --markers") from None
    yield from claims


def _gated(
    task: str,
    claims: Collection[Claim],
    default_margin: float,
    *,
    on: str | None = None,
    by: str | None = None,
    margin: float | None = None,
    alpha: float | None = None,
    inconclusive: str | None = None,
    tier: str = Tier.CRITICAL.value,
    repeats: int | None = None,
    max_rows: int | None = None,
) -> tuple[GatedClaim, ...]:
    _check_kinds({"task": task}, str, "text: @pytest.mark.ft_ladder('tickets')")
    _check_kinds({"on": on, "by": by}, str | None, "text")
    _check_kinds({"margin": margin, "alpha": alpha}, int | float | None, "a number")
    _check_kinds({"repeats": repeats, "max_rows": max_rows}, int | None, "a whole number")
    rule = None if inconclusive is None else _word(Inconclusive, "inconclusive", inconclusive)
    weight = _word(Tier, "tier", tier)
    usual = Policy()
    Policy(usual.margin if margin is None else margin, usual.alpha if alpha is None else alpha)  # or it raises
    Scope(on, by, 1 if repeats is None else repeats, max_rows)  # likewise
    return tuple(
        GatedClaim(task, claim, on, by, margin, default_margin, alpha, rule, weight, repeats, max_rows)
        for claim in claims
    )


def _check_kinds(given: Mapping[str, object], kind: Any, words: str) -> None:
    for name, value in given.items():
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UsageError(f"{name}={value!r} is not {words}")


Word = TypeVar("Word", Inconclusive, Tier)


def _word(kind: type[Word], name: str, given: object) -> Word:
    words: dict[object, Word] = {member.value: member for member in kind}
    if given not in words:
        raise UsageError(f"{name}={given!r} is not one of {', '.join(map(str, words))}")
    return words[given]


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)

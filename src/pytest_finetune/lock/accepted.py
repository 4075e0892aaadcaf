"""What a version was accepted on: its score, and its claims."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from pytest_finetune.core.records import Inconclusive, Method, Outcome, Scope, Tier
from pytest_finetune.core.results import Result
from pytest_finetune.lock.fields import ArtifactRef, Figure, Fingerprint, Name, Table


class Score(Table):
    """What the stage scored on the test rows.

    Attributes:
        mean: of the metric, a format error counting 0.
        n: rows that have a score.
        format_errors: rows whose answer could not be parsed.
    """

    mean: Figure
    n: int = Field(ge=0)
    format_errors: int = Field(default=0, ge=0)


class SettledClaim(Table):
    """A claim that the entry was accepted on; the figures are those of `Verdict`.

    Attributes:
        inconclusive: what it would have done to its test if the rows had not settled it.
        tier: whether it blocks.
        rows: the rows that it was judged on, of all its stages.
        versions: what answered them: the `Version.key` of each of its stages.
        by: the field by which the rows were sliced.
        suite: the suite; None: the test split.
        repeats: answers to each row.
        seen: how many rows it was judged on, those included that lack a value.
        planned: how many there were, where the run might have stopped before the last.
        locked: the accepted rows that it was compared with, in a claim with ``locked``.
        claims: how many claims its task was accepted on.
    """

    claim: Name
    outcome: Outcome
    held: bool
    method: Method
    estimate: Figure
    lower: Figure
    upper: Figure
    margin: Figure
    alpha: float  # what is left of one that is spent may be very small
    n: int
    inconclusive: Inconclusive = Inconclusive.OBSERVED
    tier: Tier = Tier.CRITICAL
    rows: tuple[ArtifactRef, ...] = ()
    versions: tuple[Fingerprint, ...] = ()
    by: Name | None = None
    suite: Name | None = None
    repeats: int = Field(default=1, ge=1)
    seen: int | None = Field(default=None, ge=1)
    planned: int | None = Field(default=None, ge=1)
    locked: ArtifactRef | None = None
    claims: int | None = Field(default=None, ge=1)

    @property
    def scope(self) -> Scope:
        """Which rows it looks at."""
        return Scope(self.suite, self.by, self.repeats, self.planned or self.seen)

    @property
    def text(self) -> str:
        """The claim without its slices and its suite."""
        return self.claim.removesuffix(str(self.scope))

    @classmethod
    def of(cls, result: Result, rows: Iterable[str], versions: Iterable[str], claims: int) -> SettledClaim:
        """Note what was decided about a claim.

        Args:
            result: the claim, judged.
            rows: references to the rows that it was judged on.
            versions: the keys of the versions that answered them.
            claims: how many claims its task is accepted on.
        """
        figures = ("outcome", "method", "estimate", "lower", "upper", "margin", "alpha", "n", "planned")
        return cls(
            claim=result.claim,
            held=result.settlement.held,
            inconclusive=result.policy.inconclusive,
            tier=result.policy.tier,
            rows=tuple(sorted(set(rows))),
            versions=tuple(sorted(set(versions))),
            seen=result.seen,
            locked=result.locked,
            claims=claims,
            **{name: getattr(result.scope, name) for name in ("by", "suite", "repeats")},
            **{name: getattr(result.verdict, name) for name in figures},
        )

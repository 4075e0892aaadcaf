"""What a version was accepted on: its score, and its claims."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from pytest_finetune.core.records import Inconclusive, Method, Outcome, Policy, Settlement, Tier, Verdict
from pytest_finetune.lock.fields import ArtifactRef, Figure, Name, Table


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
    """

    claim: Name
    outcome: Outcome
    held: bool
    method: Method
    estimate: Figure
    lower: Figure
    upper: Figure
    margin: Figure
    alpha: Figure
    n: int
    inconclusive: Inconclusive = Inconclusive.OBSERVED
    tier: Tier = Tier.CRITICAL
    rows: tuple[ArtifactRef, ...] = ()

    @classmethod
    def of(
        cls, claim: str, verdict: Verdict, settlement: Settlement, policy: Policy, rows: Iterable[str] = ()
    ) -> SettledClaim:
        """Note what was decided about a claim.

        Args:
            claim: the claim's text, as its test item shows it.
            verdict: what the statistics said.
            settlement: what that meant for the test.
            policy: how strictly it was judged.
            rows: references to the rows that it was judged on.
        """
        kept = ("outcome", "method", "estimate", "lower", "upper", "margin", "alpha", "n")
        return cls(
            claim=claim,
            held=settlement.held,
            inconclusive=policy.inconclusive,
            tier=policy.tier,
            rows=tuple(sorted(set(rows))),
            **{name: getattr(verdict, name) for name in kept},
        )

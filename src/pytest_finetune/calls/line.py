"""An endpoint as judges and training reach it: every LM of it calls through the one engine."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from pytest_finetune.calls.engine import Calling, Engine, below
from pytest_finetune.endpoints import Endpoint

if TYPE_CHECKING:
    import dspy


@dataclass(frozen=True)
class Line(Endpoint):
    """An endpoint whose LMs keep to the run's retries, limits, budget and records.

    Attributes:
        calling: How its models are asked.
    """

    calling: Calling = field(default_factory=Calling)

    @classmethod
    def to(cls, endpoint: Endpoint, calling: Calling) -> Line:
        """The line to an endpoint that is live."""
        own = {field.name: getattr(endpoint, field.name) for field in fields(Endpoint)}
        return cls(**own, calling=calling)

    def __deepcopy__(self, memo: dict[int, Any]) -> Line:
        return self  # programs are copied with their LMs, whose endpoint it is; the limits are shared

    def lm(self, model: str, **options: Any) -> dspy.LM:
        """As `Endpoint.lm`; its retries, its cache and its limits are the engine's."""
        plain = super().lm(model, **options)
        return below(plain, Engine(plain, self.calling))

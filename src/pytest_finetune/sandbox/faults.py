"""Faults of a real provider, on request and the same ones each time.

Whether a request is hit depends on the seed, the fault, the request's content and how often that content came
before, and on nothing else: not on the order in which concurrent requests arrive. So a retried request draws
again, and the same run meets the same faults.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from enum import Enum

from pydantic import BaseModel, ConfigDict, Field

from .errors import ApiError


class FaultKind(str, Enum):
    """What can go wrong."""

    RATE_LIMIT = "rate_limit"
    """429 with ``retry-after``."""
    RATE_LIMIT_BARE = "rate_limit_bare"
    """429 without ``retry-after``."""
    DAILY_LIMIT = "daily_limit"
    """429 ``daily_rate_limit_exceeded`` when a job is created: waiting a minute does not help."""
    SERVER_ERROR = "server_error"
    """500."""
    DROP = "drop"
    """The connection closes in the middle of the answer; the request was carried out."""
    SLOW = "slow"
    """The answer comes ``seconds`` late."""
    HANG = "hang"
    """No answer comes until the client gives up (or ``seconds`` have passed, then a 504)."""
    GARBLE = "garble"
    """A chat answer whose text is cut and stripped of its structure."""
    JOB_FAILS = "job_fails"
    """A job created now fails half-way."""
    JOB_PAUSES = "job_pauses"
    """A job created now pauses half-way, until it is resumed."""
    JOB_MODERATION = "job_moderation"
    """A job created now is blocked by moderation while its files are validated."""
    TRAINING_NOT_AVAILABLE = "training_not_available"
    """403 when a job is created: the organization may not train any more."""


OF_A_JOB = frozenset({FaultKind.JOB_FAILS, FaultKind.JOB_PAUSES, FaultKind.JOB_MODERATION})
OF_JOB_CREATION = OF_A_JOB | {FaultKind.DAILY_LIMIT, FaultKind.TRAINING_NOT_AVAILABLE}


class Fault(BaseModel):
    """One fault, and which requests it hits.

    Attributes:
        kind: What goes wrong.
        operation: The name of the operation it hits (``create_chat_completion``, ``retrieve_job`` …). ``None``:
            the ones where the kind makes sense.
        model: Only requests that name this model.
        rate: The share of the matching requests that are hit, 0 to 1.
        times: At most so many hits; ``None``: no limit.
        seconds: For how long (slow, hang), or when to come back (rate_limit).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: FaultKind
    operation: str | None = None
    model: str | None = None
    rate: float = Field(1.0, ge=0, le=1)
    times: int | None = Field(None, ge=1)
    seconds: float = Field(1.0, ge=0, le=3600)

    def concerns(self, operation: str, model: str | None) -> bool:
        """Whether a request of this kind can be hit at all."""
        if self.model is not None and self.model != model:
            return False
        if self.operation is not None:
            return self.operation == operation
        if self.kind in OF_JOB_CREATION:
            return operation == "create_job"
        return operation in {"create_chat_completion", "create_response"}


class FaultPlan:
    """Draws the faults of one server."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._faults: list[Fault] = []
        self._seen: Counter[tuple[str, str]] = Counter()
        self._hits: Counter[int] = Counter()

    def set(self, faults: Sequence[Fault]) -> None:
        """Replace the faults, and forget what was drawn before."""
        self._faults = list(faults)
        self._seen.clear()
        self._hits.clear()

    def draw(self, operation: str, model: str | None, content: bytes) -> Fault | None:
        """The fault that hits this request, if any; the first one set wins."""
        if not self._faults:
            return None
        key = (operation, hashlib.sha256(content).hexdigest())
        attempt = self._seen[key]
        self._seen[key] += 1
        for index, fault in enumerate(self._faults):
            if fault.times is not None and self._hits[index] >= fault.times:
                continue
            if fault.concerns(operation, model) and self._share(index, key, attempt) < fault.rate:
                self._hits[index] += 1
                return fault
        return None

    def _share(self, index: int, key: tuple[str, str], attempt: int) -> float:
        text = f"{self._seed}:{index}:{key[0]}:{key[1]}:{attempt}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def refusal(fault: Fault, model: str | None) -> ApiError | None:
    """The error body of a fault that answers with one; ``None`` for the others."""
    if fault.kind is FaultKind.RATE_LIMIT:
        return _rate_limited(model, {"retry-after": f"{fault.seconds:g}"})
    if fault.kind is FaultKind.RATE_LIMIT_BARE:
        return _rate_limited(model, {})
    if fault.kind is FaultKind.DAILY_LIMIT:
        return ApiError(
            429,
            "This fine-tune request has been rate-limited. Your organization has reached the maximum of 48"
            f" fine-tuning requests per day for the model '{model}'.",
            code="daily_rate_limit_exceeded",
        )
    if fault.kind is FaultKind.SERVER_ERROR:
        return ApiError(
            500,
            "The server had an error while processing your request. Sorry about that!",
            kind="server_error",
        )
    if fault.kind is FaultKind.TRAINING_NOT_AVAILABLE:
        return ApiError(
            403,
            "OpenAI is winding down the fine-tuning platform and your organization is no longer able to create"
            " new fine-tuning training jobs.",
            code="training_not_available",
        )
    return None


def garbled(text: str) -> str:
    """The text as a broken model would give it: its second half, with the structure gone."""
    return text[len(text) // 2 :].translate(str.maketrans("", "", '[]{}#":'))


def _rate_limited(model: str | None, headers: dict[str, str]) -> ApiError:
    return ApiError(
        429,
        f"Rate limit reached for {model or 'requests'} in organization org-sandbox on requests per min (RPM).",
        code="rate_limit_exceeded",
        kind="requests",
        headers=headers,
    )

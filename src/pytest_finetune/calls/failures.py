"""What an error of an endpoint means for the request, for the row, and for all other rows.

The names are those of ``dspy.lm15``, the native client of DSPy, as they were found to occur: a drop, a read timeout
and a refused connection are all a TransportError; 408 and 504 a TimeoutError; an unknown model (404) an
UnsupportedModelError; 401 and 403 an AuthError; 429 a RateLimitError, also where only a payment helps.
"""

from __future__ import annotations

import threading
from typing import Any

from pytest_finetune.errors import EndpointError
from pytest_finetune.secrets import redacted

_REMEDIES = {
    400: "correct what it names: the task's decoding, or the name of its model",
    401: "set the key right",
    402: "add money to the endpoint's account",
    403: "ask for access to that model with this key",
    404: "name a model that the endpoint serves, and see that its base_url is right",
    413: "send shorter prompts: shorter rows, or fewer examples in the prompt",
    429: "lower the setting concurrency, or set requests_per_minute for the endpoint",
}

IN_A_ROW = 8
"""So many rows or calls without an answer, one after the other, and it is not for their sake."""

_LONGEST = 2000  # characters; an endpoint may say any number, for each of many rows


def passing(error: Exception) -> bool:
    """Whether the same request may succeed later: 408, 429, 5xx, and all that happens on the way."""
    from dspy import lm15

    temporary = (lm15.RateLimitError, lm15.ServerError, lm15.TimeoutError, lm15.TransportError)
    return isinstance(error, temporary) and not is_out_of_money(error)


def is_limit(error: Exception) -> bool:
    """Whether the endpoint was asked too often."""
    from dspy import lm15

    return isinstance(error, lm15.RateLimitError)


def is_out_of_money(error: BaseException) -> bool:
    """Whether only a payment helps; OpenAI says so with the status of a rate limit."""
    from dspy import lm15

    return isinstance(error, lm15.BillingError) or getattr(error, "provider_code", None) == "insufficient_quota"


def concerns_all(error: Exception) -> bool:
    """Whether every other request would fail in the same way: no such model, no access, no money."""
    from dspy import lm15

    ours = EndpointError  # there is no key to ask with
    hopeless = (lm15.AuthError, lm15.ConfigurationError, lm15.CapabilityError, ours)
    return isinstance(error, hopeless) or is_out_of_money(error) or is_unknown_model(error)


def is_unknown_model(error: BaseException) -> bool:
    """Whether the endpoint has no model of that name, or nothing at all at that address."""
    from dspy import lm15
    from dspy.utils.exceptions import LMUnsupportedModelError

    return (
        isinstance(error, lm15.UnsupportedModelError | LMUnsupportedModelError)
        or getattr(error, "status", None) == 404
    )


def concerns_the_prompt(error: BaseException) -> bool:
    """Whether the prompt itself is at fault: it is too long, or was refused before a model saw it.

    Args:
        error: Of ``dspy.lm15``, or of DSPy's LM, which says the same in classes of its own.
    """
    from dspy import lm15
    from dspy.utils.exceptions import ContextWindowExceededError

    return isinstance(error, lm15.ContextLengthError | ContextWindowExceededError) or is_refusal(error)


def may_concern_the_prompt(error: BaseException) -> bool:
    """Whether the endpoint refused a request without saying for whose sake: a 400 that says no more; see `InARow`.

    Args:
        error: As of `concerns_the_prompt`.
    """
    from dspy import lm15
    from dspy.utils.exceptions import LMInvalidRequestError

    refused = isinstance(error, lm15.InvalidRequestError | LMInvalidRequestError)
    known = concerns_the_prompt(error) or is_unknown_model(error) or is_out_of_money(error)
    return refused and not known


def of_the_endpoint(error: BaseException) -> bool:
    """Whether a program's call failed through no fault of its own: no answer, no key, no such model, a limit.

    Args:
        error: As of `concerns_the_prompt`.
    """
    from dspy import lm15
    from dspy.utils.exceptions import LMError

    ours = isinstance(error, lm15.LM15Error | LMError | EndpointError)
    return ours and not concerns_the_prompt(error) and not may_concern_the_prompt(error)


class InARow:
    """Counts failures of which each may have a reason of its own, until there are too many, one after the other.

    Args:
        of: How many there can be, at most, where that is known: if all of few fail, that is too many.
    """

    def __init__(self, of: int = IN_A_ROW) -> None:
        self.most = min(IN_A_ROW, of)
        self.count = 0
        self._lock = threading.Lock()

    def add(self, *, failed: bool) -> bool:
        """Count what has ended; say whether there are too many failures now."""
        with self._lock:
            self.count = self.count + 1 if failed else 0
            return self.count >= self.most


def is_refusal(error: BaseException) -> bool:
    """Whether a filter refused the prompt; Azure says so with a 400."""
    return getattr(error, "provider_code", None) in {"content_filter", "content_policy_violation"}


def remedy(error: BaseException) -> str:
    """What helps against an error of an endpoint: the next step, without its full stop.

    Args:
        error: Of ``dspy.lm15``, or of DSPy's LM, which says the same in classes of its own.
    """
    broke = "insufficient_quota" in (getattr(error, "provider_code", None), getattr(error, "code", None))
    status = 402 if broke else getattr(error, "status", None)
    return _REMEDIES.get(status or 0, "see that the endpoint answers")


def refuse_emptiness(response: Any) -> None:
    """Take an answer without a choice, or one that ended in an error, for trouble of the endpoint.

    Raises:
        lm15.ServerError: As for a 5xx.
    """
    from dspy import lm15

    choices = (response.provider_data or {}).get("choices")
    if not choices:
        raise lm15.ServerError("the endpoint sent an answer without any choice")
    if any(isinstance(choice, dict) and choice.get("finish_reason") == "error" for choice in choices):
        raise lm15.ServerError("the endpoint sent an answer that ended in an error of its own")


def scrubbed(error: BaseException) -> str:
    """The beginning of the first paragraph of an error's message, without keys."""
    message = str(getattr(error, "message", error)).strip().split("\n\n", 1)[0] or type(error).__name__
    return redacted(message)[:_LONGEST]

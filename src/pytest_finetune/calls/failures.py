"""What an error of an endpoint means for the request, for the row, and for all other rows.

The names are those of ``dspy.lm15``, the native client of DSPy, as they were found to occur: a drop, a read timeout
and a refused connection are all a TransportError; 408 and 504 a TimeoutError; an unknown model (404) an
UnsupportedModelError; 401 and 403 an AuthError; 429 a RateLimitError, also where only a payment helps.
"""

from __future__ import annotations

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
    429: "lower --ft-concurrency, or set requests_per_minute for the endpoint",
}

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


def is_out_of_money(error: Exception) -> bool:
    """Whether only a payment helps; OpenAI says so with the status of a rate limit."""
    from dspy import lm15

    return isinstance(error, lm15.BillingError) or getattr(error, "provider_code", None) == "insufficient_quota"


def concerns_all(error: Exception) -> bool:
    """Whether every other request would fail in the same way: no such model, no access, no money."""
    from dspy import lm15

    ours = EndpointError  # there is no key to ask with
    hopeless = (lm15.AuthError, lm15.ConfigurationError, lm15.CapabilityError, ours)
    return isinstance(error, hopeless) or is_out_of_money(error) or is_unknown_model(error)


def is_unknown_model(error: Exception) -> bool:
    """Whether the endpoint has no model of that name, or nothing at all at that address."""
    from dspy import lm15

    return isinstance(error, lm15.UnsupportedModelError) or getattr(error, "status", None) == 404


def concerns_the_prompt(error: Exception) -> bool:
    """Whether the prompt itself is at fault: it is too long, or was refused before a model saw it."""
    from dspy import lm15

    return isinstance(error, lm15.ContextLengthError) or is_refusal(error)


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

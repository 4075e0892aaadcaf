"""Text as files hold it."""

from __future__ import annotations

from pytest_finetune.errors import UsageError

_NEAR = 20  # characters that are shown on both sides of what cannot be written


def encoded(text: str) -> bytes:
    """A text as UTF-8.

    Raises:
        UsageError: If it holds half of a surrogate pair, which Python also makes of a byte that is not UTF-8.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        near, broken = text[max(error.start - _NEAR, 0) : error.end + _NEAR], text[error.start : error.end]
        raise UsageError(f"the text holds {broken!a}, half a character, in {near!a}: write it as UTF-8") from None

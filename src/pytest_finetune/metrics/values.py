"""Taking values out of examples and predictions, and comparing them as people would."""

from __future__ import annotations

import unicodedata
from typing import Any

from pytest_finetune.core.fingerprint import plain
from pytest_finetune.errors import UsageError

_QUOTES = "\"'`*\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb"  # with typographic ones, single and double
_ENDINGS = ".,;:!?"
_SPACES = " "


def expected_of(example: Any, field: str) -> Any:
    """Give what the row expects, in the form of JSON.

    Raises:
        UsageError: if the row has no such field, or a value that JSON cannot hold.
    """
    return plain(_value(example, field, "example", "correct the metric's field, or add it to the data"))


def answer_of(prediction: Any, field: str) -> Any:
    """Give what the program answered, in the form of JSON, or as text: NaN is a bad answer, not an error.

    Raises:
        UsageError: if the program has no such output.
    """
    value = _value(prediction, field, "prediction", "correct the metric's field, or the program's outputs")
    try:
        return plain(value)
    except UsageError:
        return str(value)


def _value(holder: Any, field: str, what: str, advice: str) -> Any:
    if not hasattr(holder, "keys"):
        raise UsageError(f"the {what} is a {type(holder).__name__} and has no fields")
    if field not in holder:
        raise UsageError(
            f"the {what} has no field {field!r} (it has: {', '.join(holder.keys()) or 'none'}); {advice}"
        )
    return holder[field]


def normalized(value: object) -> str:
    """Write a value as text without what seldom matters.

    Unicode NFKC, casefold, single spaces; quotes and asterisks at both ends and the punctuation of a sentence
    at its end are dropped. So ``" “Billing”. "`` is ``billing``, while ``C++``, ``-5`` and ``.5`` stay.
    """
    text = " ".join(unicodedata.normalize("NFKC", str(value)).casefold().split())
    return text.lstrip(_QUOTES + _SPACES).rstrip(_QUOTES + _ENDINGS + _SPACES) or text


def same(one: Any, other: Any) -> bool:
    """Compare two plain values: numbers by value, text ``normalized``, lists and objects by their items."""
    if one is None or other is None:
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if _is_number(one) and _is_number(other):
        return bool(one == other)
    return normalized(one) == normalized(other)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

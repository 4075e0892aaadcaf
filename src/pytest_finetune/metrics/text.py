"""Metrics that compare text."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from typing import Any

from pytest_finetune.errors import UsageError
from pytest_finetune.metrics.metric import Metric, built_in
from pytest_finetune.metrics.values import answer_of, expected_of, normalized, same

_ARTICLES = re.compile(r"\b(a|an|the)\b")


def exact_match(field: str) -> Metric:
    """Score 1 if the answer is the expected one, else 0.

    Compared are numbers by value, lists and objects item by item, and text after Unicode NFKC, casefold and
    single spaces, without quotes around it or a sentence's punctuation at its end. Where the row holds a list
    and the answer is none, any item of the list is right.

    Args:
        field: of the row and of the prediction.
    """

    def score(example: Any, prediction: Any, trace: Any = None) -> bool:  # noqa: ARG001  # DSPy's shape
        answer = answer_of(prediction, field)
        return any(same(answer, accepted) for accepted in _accepted(expected_of(example, field), answer))

    return built_in("exact_match", score, binary=True, field=field)


def token_f1(field: str) -> Metric:
    """Score the overlap of words between answer and expected text: F1, as SQuAD does it.

    Words are what is left between spaces after casefold, without punctuation and the English articles. Both
    empty is 1, one empty is 0. Where the row holds a list of accepted answers, the best one counts. Text
    without spaces (as Chinese) counts as one word.

    Source: Rajpurkar et al. 2016, "SQuAD", section 6.1, and its script ``evaluate-v2.0.py``.

    Args:
        field: of the row and of the prediction.
    """

    def score(example: Any, prediction: Any, trace: Any = None) -> float:  # noqa: ARG001  # DSPy's shape
        answer = answer_of(prediction, field)
        accepted = _accepted(expected_of(example, field), answer)
        return max((_f1(_words(text), _words(answer)) for text in accepted), default=0.0)

    return built_in("token_f1", score, binary=False, field=field)


def contains(field: str) -> Metric:
    """Score 1 if the expected text stands in the answer as whole words, else 0.

    Both are normalized as by ``exact_match``. Where the row holds a list, any item of it will do.

    Args:
        field: of the row and of the prediction.
    """

    def score(example: Any, prediction: Any, trace: Any = None) -> bool:  # noqa: ARG001  # DSPy's shape
        wanted = [normalized(text) for text in _accepted(expected_of(example, field), "")]
        if not all(wanted):
            raise UsageError(f"field {field!r} of the example is empty, and every answer contains that")
        answer = normalized(answer_of(prediction, field))
        return any(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", answer) for text in wanted)

    return built_in("contains", score, binary=True, field=field)


def regex(pattern: str, field: str) -> Metric:
    """Score 1 if the pattern is found in the answer, else 0; the row is not looked at.

    Args:
        pattern: as in ``re.search``; ``^…$`` for the whole answer, ``(?i)`` to ignore case.
        field: of the prediction.

    Raises:
        UsageError: if the pattern is not a regular expression.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"regex({pattern!r}): {error}") from None

    def score(example: Any, prediction: Any, trace: Any = None) -> bool:  # noqa: ARG001  # DSPy's shape
        answer = answer_of(prediction, field)
        return answer is not None and compiled.search(str(answer)) is not None

    return built_in("regex", score, binary=True, pattern=pattern, field=field)


def _accepted(expected: Any, answer: Any) -> list[Any]:
    """A list of accepted answers, unless the answer itself is a list."""
    return expected if isinstance(expected, list) and not isinstance(answer, list) else [expected]


def _words(value: object) -> list[str]:
    if value is None:
        return []
    text = unicodedata.normalize("NFKC", str(value)).casefold()
    kept = "".join(char for char in text if not _is_punctuation(char))
    return _ARTICLES.sub(" ", kept).split()


def _is_punctuation(char: str) -> bool:
    return char in string.punctuation or unicodedata.category(char).startswith("P")


def _f1(expected: list[str], answer: list[str]) -> float:
    if not expected or not answer:
        return float(expected == answer)
    common = (Counter(expected) & Counter(answer)).total()
    return 2 * common / (len(expected) + len(answer))

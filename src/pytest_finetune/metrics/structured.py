"""Metrics that compare numbers, lists and objects."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from pytest_finetune.errors import UsageError
from pytest_finetune.metrics.metric import Metric, built_in
from pytest_finetune.metrics.values import answer_of, expected_of, normalized, same

_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")


def numeric(field: str, *, tolerance: float = 0.0, relative: float = 0.0) -> Metric:
    """Score 1 if the answer is close to the expected number, else 0.

    Close is ``|answer - expected| <= max(tolerance, relative * |expected|)``. Text is read as a number
    (``"1,234.5"`` too); an answer that is none scores 0.

    Args:
        field: of the row and of the prediction.
        tolerance: absolute, in the unit of the field.
        relative: as a share of the expected number.

    Raises:
        UsageError: for a tolerance below 0.
    """
    if not (tolerance >= 0 and relative >= 0):
        raise UsageError(f"numeric({field!r}): tolerance and relative are 0 or more")

    def score(example: Any, prediction: Any, trace: Any = None) -> bool:  # noqa: ARG001  # DSPy's shape
        expected, answer = _number(expected_of(example, field)), _number(answer_of(prediction, field))
        if expected is None:
            raise UsageError(f"field {field!r} of the example is not a number: {expected_of(example, field)!r}")
        return answer is not None and abs(answer - expected) <= max(tolerance, relative * abs(expected))

    return built_in("numeric", score, binary=True, field=field, tolerance=tolerance, relative=relative)


def set_f1(field: str) -> Metric:
    """Score the overlap of two lists whose order and repetitions do not matter: F1 over their items.

    Items are compared as by ``exact_match``. A single value is a list of one; null is an empty list. Both
    empty is 1, one empty is 0.

    Args:
        field: of the row and of the prediction.
    """

    def score(example: Any, prediction: Any, trace: Any = None) -> float:  # noqa: ARG001  # DSPy's shape
        expected, answer = _items(expected_of(example, field)), _items(answer_of(prediction, field))
        if not expected or not answer:
            return float(expected == answer)
        return 2 * len(expected & answer) / (len(expected) + len(answer))

    return built_in("set_f1", score, binary=False, field=field)


def json_valid(field: str) -> Metric:
    """Score 1 if the answer is JSON, or already an object or a list, else 0; the row is not looked at.

    Args:
        field: of the prediction.
    """

    def score(example: Any, prediction: Any, trace: Any = None) -> bool:  # noqa: ARG001  # DSPy's shape
        answer = answer_of(prediction, field)
        return isinstance(answer, list | dict) or _parsed(answer) is not _NOT_JSON

    return built_in("json_valid", score, binary=True, field=field)


def json_fields(field: str, fields: Sequence[str] | None = None) -> Metric:
    """Score the share of an object's fields that the answer gets right, each as by ``exact_match``.

    Objects may be JSON text, dicts or models. An answer that is no object scores 0.

    Args:
        field: of the row and of the prediction, holding the object.
        fields: of the object, to be compared. Default: all that the row's object has.
    """

    def score(example: Any, prediction: Any, trace: Any = None) -> float:  # noqa: ARG001  # DSPy's shape
        expected, answer = _object(expected_of(example, field)), _object(answer_of(prediction, field))
        wanted = fields if fields is not None else list(expected or ())
        if not expected or not wanted or not expected.keys() >= set(wanted):
            raise UsageError(
                f"field {field!r} of the example must be an object with the fields to compare "
                f"({', '.join(wanted) or 'at least one'})"
            )
        right = [answer is not None and name in answer and same(expected[name], answer[name]) for name in wanted]
        return sum(right) / len(right)

    return built_in("json_fields", score, binary=False, field=field, fields=fields)


_NOT_JSON = object()


def _parsed(value: object) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        return json.loads(value, parse_constant=refuse) if isinstance(value, str) else _NOT_JSON
    except (ValueError, RecursionError):
        return _NOT_JSON


def _object(value: object) -> dict[str, Any] | None:
    found = value if isinstance(value, dict) else _parsed(value)
    return found if isinstance(found, dict) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        text = str(value).strip()
        number = float(text.replace(",", "") if _THOUSANDS.fullmatch(text) else text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _items(value: Any) -> set[str]:
    if value is None:
        return set()
    return {_item(item) for item in (value if isinstance(value, list) else [value])}


def _item(value: Any) -> str:
    return json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else normalized(value)

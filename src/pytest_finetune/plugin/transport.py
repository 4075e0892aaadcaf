"""Results on the way from the process that judged to the one that reports: as text on the test's report."""

from __future__ import annotations

import json
from dataclasses import asdict

from pydantic import TypeAdapter

from pytest_finetune.core.results import Result

_RESULT = TypeAdapter(Result)


def dump(result: Result) -> str:
    """A result as one line of text; a bound may be infinite, which pydantic's own JSON cannot say."""
    return json.dumps(asdict(result))


def load(text: str) -> Result:
    """The result that a line of text holds."""
    return _RESULT.validate_python(json.loads(text))

"""What is written down of an answer: its text, or a hash of it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from enum import Enum

from pytest_finetune.core.records import Row

_HASH = re.compile(r"sha256:[0-9a-f]{64}")


class StoredText(str, Enum):
    """What the store keeps of the texts that models and errors say."""

    FULL = "full"
    HASH = "hash"  # equal answers stay equal, and none can be read

    __str__ = str.__str__


def hashed(text: str | None) -> str | None:
    """A text's hash, ``sha256:<hex>``. A hash stays what it is."""
    if text is None or is_hash(text):
        return text
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def is_hash(text: str | None) -> bool:
    """Whether a text has been replaced by its hash."""
    return text is not None and _HASH.fullmatch(text) is not None


def error_class(error: str | None) -> str | None:
    """What kind of error it is: ``refused``, ``unparseable``, a code. What stands after it may quote an answer."""
    return None if error is None else error.partition(":")[0]


def without_text(row: Row) -> Row:
    """A row that nobody's words can be read from."""
    return replace(row, output=hashed(row.output), error=error_class(row.error))

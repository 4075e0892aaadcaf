"""Reading a training file: the rows, or the error that the real service gives for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .learning import Message

MIN_EXAMPLES = 10
ROLES = ("system", "developer", "user", "assistant", "tool", "function")


class InvalidFile(Exception):
    """A file that cannot be trained on.

    Args:
        code: ``invalid_training_file`` or ``invalid_n_examples``.
        param: ``training_file`` or ``validation_file``.
        message: In the service's words.
    """

    def __init__(self, code: str, param: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


@dataclass(frozen=True)
class _Reader:
    """Reads one file of one method, and words what is wrong with it."""

    param: str
    method: str

    def rows(self, content: bytes) -> list[list[Message]]:
        rows = [self._row(number, line) for number, line in _lines(content)]
        if self.param == "training_file" and len(rows) < MIN_EXAMPLES:
            raise InvalidFile(
                "invalid_n_examples",
                self.param,
                f"Training file has {len(rows)} example(s), but must have at least {MIN_EXAMPLES} examples",
            )
        return rows

    def _row(self, number: int, line: bytes) -> list[Message]:
        try:
            row = json.loads(line)
        except ValueError:
            raise self._invalid(f"Line {number} is not valid JSON") from None
        if not isinstance(row, dict):
            raise self._invalid(f"Example {number} is not a JSON object")
        raw = self._preferred(number, row) if self.method == "dpo" else self._chat(number, row)
        messages = [self._message(number, index, message) for index, message in enumerate(raw, start=1)]
        if not messages or messages[-1].role != "assistant":
            raise self._invalid(f"Example {number} must end in a message of role assistant")
        return messages

    def _chat(self, number: int, row: dict[str, Any]) -> list[Any]:
        if "preferred_output" in row:
            raise self._wrong_method("preference")
        messages = row.get("messages")
        if not isinstance(messages, list):
            raise self._invalid(f"Example {number} is missing key 'messages'")
        return messages

    def _preferred(self, number: int, row: dict[str, Any]) -> list[Any]:
        """The prompt and the preferred answer: the sandbox learns nothing from the rejected one."""
        if "messages" in row:
            raise self._wrong_method("fine-tune-chat")
        prompt = row.get("input", {}).get("messages") if isinstance(row.get("input"), dict) else None
        preferred, rejected = row.get("preferred_output"), row.get("non_preferred_output")
        if not (isinstance(prompt, list) and isinstance(preferred, list) and isinstance(rejected, list)):
            raise self._invalid(
                f"Example {number} must have keys 'input', 'preferred_output' and 'non_preferred_output'"
            )
        return [*prompt, *preferred]

    def _message(self, number: int, index: int, message: Any) -> Message:
        where = f"Example {number}, message {index}"
        if not isinstance(message, dict):
            raise self._invalid(f"{where} is not a JSON object")
        if "role" not in message:
            raise self._invalid(f"{where} Discriminator 'role' is missing in value")
        if message["role"] not in ROLES:
            raise self._invalid(f"{where} has an unknown role")
        content = message.get("content")
        if not isinstance(content, str):
            raise self._invalid(f"{where} must have a string as its content")
        return Message(role=message["role"], content=content)

    def _invalid(self, what: str) -> InvalidFile:
        kind = self.param.replace("_", " ")
        return InvalidFile(
            "invalid_training_file",
            self.param,
            f"The job failed due to an invalid {kind}. Invalid file format. {what}",
        )

    def _wrong_method(self, form: str) -> InvalidFile:
        return InvalidFile(
            "invalid_training_file",
            self.param,
            f"The job failed due to an invalid {self.param.replace('_', ' ')}. Input file is in the {form} format,"
            f" but a different format was expected (provided method={self.method})",
        )


def read_rows(content: bytes, *, param: str, method: str) -> list[list[Message]]:
    """The conversations of a training or validation file.

    Args:
        content: The file's bytes: JSON Lines.
        param: ``training_file`` or ``validation_file``.
        method: ``supervised`` or ``dpo``.

    Raises:
        InvalidFile: With the words the service uses.
    """
    return _Reader(param, method).rows(content)


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            yield number, line

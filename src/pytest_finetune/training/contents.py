"""What is in a training file: held against what endpoints take before it is uploaded, and against what is served."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pytest_finetune.core.pricing import tokens_in
from pytest_finetune.errors import TrainingError
from pytest_finetune.programs import predictors

if TYPE_CHECKING:
    import dspy

ROLES = ("system", "developer", "user", "assistant", "tool")
_PREFERRED, _REJECTED = "preferred_output", "non_preferred_output"
_SHOWN = 3
_AROUND = 30  # characters shown on either side of where two prompts part


Method = Literal["supervised", "dpo"]


def method_of(content: bytes) -> Method:
    """What a training file is for, by its first line: chats, or pairs of answers of which one is preferred."""
    try:
        row = json.loads(content.partition(b"\n")[0])
    except ValueError:
        return "supervised"
    return "dpo" if isinstance(row, dict) and _PREFERRED in row else "supervised"


def check_file(content: bytes, what: str) -> None:
    """Refuse a file that an endpoint would refuse after the upload, or learn nothing from.

    Each line is a JSON object with ``messages``: texts, each with a role, of which a user's comes before the
    assistant's at the end. Or, where the first one is, each is a pair: ``input`` with such ``messages``, and
    ``preferred_output`` and ``non_preferred_output``, two different answers of the assistant to them.

    Args:
        content: JSON Lines.
        what: The file, for messages.

    Raises:
        TrainingError: Naming the first lines that are wrong.
    """
    look = _pair_problem if method_of(content) == "dpo" else _chat_problem
    numbered = ((number, _problem(line, look)) for number, line in enumerate(content.splitlines(), start=1))
    problems = [f"line {number} {problem}" for number, problem in numbered if problem]
    if problems:
        more = f"; and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
        raise TrainingError(
            f"the {what} file is not what can be trained on: {'; '.join(problems[:_SHOWN])}{more}. Nothing was "
            "uploaded. Next: mend what makes these rows: the recipe, the metric that accepts them, or the data"
        )


def _problem(line: bytes, look: Callable[[Mapping[str, Any]], str | None]) -> str | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"is no JSON ({error})"
    return look(row) if isinstance(row, dict) else "is no JSON object"


def _chat_problem(row: Mapping[str, Any]) -> str | None:
    if _PREFERRED in row:
        return "is a pair of answers, and the first line is a chat"
    return _messages_problem(row.get("messages")) or _ending_problem(row["messages"])


def _pair_problem(row: Mapping[str, Any]) -> str | None:
    given = row.get("input")
    parts: dict[str, Any] = {
        "input": given.get("messages") if isinstance(given, dict) else None,
        _PREFERRED: row.get(_PREFERRED),
        _REJECTED: row.get(_REJECTED),
    }
    problem = next((f"{found} in {name}" for name, part in parts.items() if (found := _messages_problem(part))), None)
    if problem:
        return problem
    if all(message["role"] != "user" for message in parts["input"]):
        return "asks nothing: it has no message of the user"
    answers = (parts[_PREFERRED], parts[_REJECTED])
    if any(answer[-1]["role"] != "assistant" for answer in answers):
        return "has an answer that does not end with a message of the assistant"
    return "prefers an answer to itself" if answers[0] == answers[1] else None


def _messages_problem(messages: Any) -> str | None:
    if not isinstance(messages, list) or not messages:
        return "has no messages"
    numbered = enumerate(messages, 1)
    return next((found for number, one in numbered if (found := _message_problem(number, one))), None)


def _ending_problem(messages: Sequence[Mapping[str, Any]]) -> str | None:
    roles = [message["role"] for message in messages]
    if roles[-1] != "assistant":
        return f"ends with a message of the {roles[-1]}, not of the assistant"
    return None if "user" in roles else "asks nothing: it has no message of the user"


def _message_problem(number: int, message: Any) -> str | None:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        return f"has no role of {', '.join(ROLES)} in message {number}"
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        return None
    texts = [part.get("text", part) for part in content] if isinstance(content, list) and content else [content]
    if not all(isinstance(text, str | dict) and text for text in texts):
        return f"has no content in message {number} ({message['role']})"
    return None


def tokens_of_file(content: bytes) -> int:
    """About how many tokens a training file has: all that its messages say, by `tokens_in`.

    Args:
        content: JSON Lines, of chats or of preferences.
    """
    said = (message.get("content") for line in content.splitlines() for message in messages_of(json.loads(line)))
    return math.ceil(sum(tokens_in(text if isinstance(text, str) else json.dumps(text)) for text in said))


def messages_of(row: Mapping[str, Any]) -> list[Any]:
    """All messages of a row: of a chat, or of a prompt and both of its answers."""
    if "messages" in row:
        return list(row["messages"])
    return [*row["input"]["messages"], *row[_PREFERRED], *row[_REJECTED]]


def system_prompts(content: bytes) -> dict[str, int]:
    """The system prompts of a training file, with how many rows each has."""
    found: dict[str, int] = {}
    for line in content.splitlines():
        for message in messages_of(json.loads(line)):
            if message["role"] == "system" and isinstance(message["content"], str):
                found[message["content"]] = found.get(message["content"], 0) + 1
    return found


def served_prompts(program: dspy.Module, adapter: dspy.Adapter) -> dict[str, str]:
    """The system prompt that each predictor of a program sends."""
    return {name: adapter.format_system_message(part.signature) for name, part in predictors(program).items()}


def check_prompts(served: dict[str, str], trained: Iterable[str], what: str) -> list[str]:
    """Refuse a program that is asked in other words than its model was trained on.

    Args:
        served: The system prompt of each predictor; see `served_prompts`.
        trained: Those of the training file.
        what: Who wrote the file, for messages.

    Returns:
        The predictors that have no row at all: no answer of theirs was trained on.

    Raises:
        TrainingError: Naming a prompt that is served and not trained on, and one that is trained on and not served.
    """
    trained = list(dict.fromkeys(trained))
    strange = [prompt for prompt in trained if prompt not in served.values()]
    untrained = [name for name, prompt in served.items() if prompt not in trained]
    if not strange or not untrained:
        return untrained
    name = untrained[0]
    (near,) = difflib.get_close_matches(served[name], strange, n=1, cutoff=0.0)
    here, there = _parting(served[name], near)
    raise TrainingError(
        f"{what} trained on other prompts than are served: predictor {name!r} is asked with a system prompt that no "
        f"training row has. Served: {here!r}; trained on: {there!r}. The model is kept and can be adopted, but would "
        "be asked what it was not taught. Next: train on rows with the instructions, the adapter and the fields of "
        "the program that is served"
    )


def _parting(left: str, right: str) -> tuple[str, str]:
    """Both texts around the place where they begin to differ."""
    pairs: Iterator[tuple[int, tuple[str, str]]] = enumerate(zip(left, right, strict=False))
    at = next((place for place, (one, other) in pairs if one != other), min(len(left), len(right)))
    return left[max(0, at - _AROUND) : at + _AROUND], right[max(0, at - _AROUND) : at + _AROUND]

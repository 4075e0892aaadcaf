"""Writes an answer in the form that the prompt asks for, so that the adapter that wrote the prompt can read it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from .prompts import Signature
from .schemas import Value, write_value

_HEADER_LINE = re.compile(r"^(\s*)(?=\[\[ ## \w+ ## \]\])")


def write_answer(signature: Signature, values: Mapping[str, Value]) -> str:
    """The assistant's message that holds these values, one for every output field.

    Text that was copied from the prompt and looks like a field's header is quoted with ``>``, since it would
    otherwise cut the answer short.
    """
    if signature.form == "json":
        answer = json.dumps(values, indent=2, ensure_ascii=False)
    elif signature.form == "xml":
        answer = "\n\n".join(_tag(name, value, newline="\n") for name, value in values.items())
    elif signature.form == "chat":
        sections = [f"[[ ## {name} ## ]]\n{_quoted(write_value(value))}" for name, value in values.items()]
        answer = "\n\n".join([*sections, "[[ ## completed ## ]]\n"])
    else:
        answer = "\n".join(write_value(value) for value in values.values())
    return answer.encode("utf-8", "replace").decode("utf-8")


def _quoted(text: str) -> str:
    return "\n".join(_HEADER_LINE.sub(r"\1> ", line) for line in text.splitlines())


def _tag(name: str, value: Value, newline: str = "") -> str:
    if isinstance(value, dict):
        inner = "".join(_tag(key, part) for key, part in value.items())
    elif isinstance(value, list):
        inner = "".join(_tag("item", part) for part in value)
    elif value is None:
        inner = ""
    else:
        text = re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", " ", write_value(value))
        inner = newline + text.replace("&", "&amp;").replace("<", "&lt;") + newline
    return f"<{name}>{inner}</{name}>"

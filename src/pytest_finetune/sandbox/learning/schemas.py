"""The values a field may take, as a JSON schema: from a type's name, from the prompt's notes, and back to values."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Value: TypeAlias = Any
"""A JSON value: what ``json.loads`` returns."""

Schema: TypeAlias = Mapping[str, Any]
"""A JSON schema; an empty one stands for a type that the prompt does not explain."""

_SIMPLE: dict[str, Schema] = {
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "None": {"type": "null"},
    "NoneType": {"type": "null"},
    "dict": {"type": "object"},
    "list": {"type": "array"},
}
_PYTHON_WORDS: dict[str, Value] = {"True": True, "False": False, "None": None, "true": True, "false": False}
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def split_annotation(text: str) -> tuple[str, str]:
    """Splits ``Literal['a', 'b']): the label`` into the type's name and the description.

    A value may itself hold brackets, so the first end that leaves a readable type is taken.
    """
    ends = [m.start() for m in re.finditer(r"\):", text)]
    for end in ends:
        if _parse(text[:end]) is not None:
            return text[:end], text[end + 2 :]
    end = ends[0] if ends else len(text)
    return text[:end], text[end + 2 :]


def from_prompt(annotation: str, note: str) -> Schema:
    """The schema of a field from its type's name and from what the prompt notes about its values.

    Args:
        annotation: A Python type as DSPy writes it, such as ``Literal['a', 'b']`` or ``list[str]``.
        note: What follows "the value you produce" in the prompt, or nothing.
    """
    _, marker, written = note.partition("must adhere to the JSON schema: ")
    if marker:
        try:
            schema, _ = json.JSONDecoder().raw_decode(written)
        except (ValueError, RecursionError):
            schema = None
        if isinstance(schema, dict):
            return schema
    node = _parse(annotation)
    schema = _from_node(node) if node is not None else {}
    listed = re.match(r"must (?:exactly match \(no extra characters\) one of|be one of): (.*)", note)
    if listed and "enum" not in schema:
        return {"enum": listed.group(1).split("; ")}
    return schema


def resolve(schema: Schema) -> Schema:
    """Follows a reference into the schema's own definitions; one that leads nowhere gives the empty schema."""
    definitions = schema.get("$defs", {})
    for _ in range(8):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return within(schema, {"$defs": definitions})
        found = definitions.get(reference.rpartition("/")[2], {})
        schema = found if isinstance(found, Mapping) else {}
    return {}


def within(schema: Value, outer: Schema) -> Schema:
    """A part of a schema, with the definitions of the whole."""
    part = schema if isinstance(schema, Mapping) else {}
    definitions = outer.get("$defs")
    return {**part, "$defs": definitions} if definitions else part


def branches(schema: Schema) -> list[Schema]:
    """The alternatives of a schema, references followed; itself where it has none."""
    schema = resolve(schema)
    options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if not isinstance(options, list):
        return [schema]
    return [branch for option in options for branch in branches(within(option, schema))]


def choices(schema: Schema) -> tuple[Value, ...]:
    """The values among which a field is a choice; empty where it is none."""
    found: list[Value] = []
    for branch in branches(schema):
        if isinstance(branch.get("enum"), list):
            found += branch["enum"]
        elif "const" in branch:
            found.append(branch["const"])
        elif branch.get("type") == "boolean":
            found += [True, False]
        elif branch.get("type") == "null":
            found.append(None)
        else:
            return ()
    return tuple(found) if any(value is not None for value in found) else ()


def is_text(schema: Schema) -> bool:
    """Whether a field may be any string."""
    return any(not branch or branch.get("type") == "string" for branch in branches(schema)) and not choices(schema)


def accepts(schema: Schema, value: Value) -> bool:
    """Whether a value fits a schema's types, choices, items and required properties."""
    return any(_branch_accepts(branch, value) for branch in branches(schema))


def read_value(schema: Schema, written: Value) -> Value:
    """The JSON value of what an answer holds for a field: text is read by the field's schema."""
    if not isinstance(written, str):
        return written
    text = written.strip()
    for choice in choices(schema):
        if text == write_value(choice):
            return choice
    if is_text(schema):
        return None if text in ("None", "null") and accepts(schema, None) else text
    return _literal(text)


def write_value(value: Value) -> str:
    """A JSON value as DSPy writes it into a section: text as it is, objects and lists as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


def key(value: Value) -> str:
    """A string that is the same for equal JSON values, and different for ``1`` and ``True``."""
    return json.dumps(value, sort_keys=True)


def _branch_accepts(branch: Schema, value: Value) -> bool:
    options = branch.get("enum", [branch["const"]] if "const" in branch else None)
    if options is not None and key(value) not in {key(option) for option in options}:
        return False
    kind = branch.get("type")
    if kind in _TYPES and not isinstance(value, _TYPES[kind]):
        return False
    if isinstance(value, bool) and kind in ("integer", "number"):
        return False
    return all(accepts(within(part, branch), inner) for part, inner in _parts(branch, value)) and (
        not isinstance(value, dict) or set(branch.get("required", ())) <= set(value)
    )


def _parts(branch: Schema, value: Value) -> Iterator[tuple[Schema, Value]]:
    items, properties = branch.get("items"), branch.get("properties")
    if isinstance(value, list) and isinstance(items, Mapping):
        yield from ((items, item) for item in value)
    if isinstance(value, dict) and isinstance(properties, Mapping):
        yield from ((properties[name], inner) for name, inner in value.items() if name in properties)


def _literal(text: str) -> Value:
    if text in _PYTHON_WORDS:
        return _PYTHON_WORDS[text]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _parse(annotation: str) -> ast.expr | None:
    try:
        return ast.parse(annotation.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _from_node(node: ast.expr) -> Schema:
    name = ast.unparse(node.value if isinstance(node, ast.Subscript) else node).rpartition(".")[2]
    if not isinstance(node, ast.Subscript):
        return _SIMPLE.get(name, {})
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == "Literal":
        return {"enum": [_constant(part) for part in parts]}
    if name in ("Union", "Optional"):
        options = [_from_node(part) for part in parts]
        return {"anyOf": options + ([{"type": "null"}] if name == "Optional" else [])}
    if name in ("list", "List", "set", "tuple", "Sequence"):
        return {"type": "array", "items": _from_node(parts[0])}
    return {"type": "object"} if name in ("dict", "Dict", "Mapping") else {}


def _constant(node: ast.expr) -> Value:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)

from __future__ import annotations

import pytest

from pytest_finetune.sandbox.learning import schemas
from pytest_finetune.sandbox.learning.schemas import Schema, Value

TREE: Schema = {
    "$defs": {"Node": {"type": "object", "properties": {"of": {"$ref": "#/$defs/Node"}}, "required": ["of"]}},
    "anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}],
}


@pytest.mark.parametrize(
    ("annotation", "note", "expected"),
    [
        ("list[Literal['a', 2, None]]", "", {"type": "array", "items": {"enum": ["a", 2, None]}}),
        ("Union[int, NoneType]", "", {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        ("Color", "must be one of: red; light green", {"enum": ["red", "light green"]}),
        ("Item", 'must adhere to the JSON schema: {"type": "object"}', {"type": "object"}),
        ("dict[str, int]", "", {"type": "object"}),
        ("Whatever[(", "", {}),
    ],
)
def test_schema_from_a_prompt(annotation: str, note: str, expected: Schema) -> None:
    assert schemas.from_prompt(annotation, note) == expected


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"type": "integer"}, True, False),
        ({"enum": [1, True]}, 1, True),
        ({"enum": [1]}, True, False),
        ({"type": "array", "items": {"type": "string"}}, ["a", 1], False),
        (TREE, None, True),
        (TREE, {"of": {"of": 1}}, False),
        (TREE, {}, False),
        ({}, [1], True),
    ],
)
def test_what_a_schema_accepts(schema: Schema, value: Value, *, expected: bool) -> None:
    assert schemas.accepts(schema, value) is expected


@pytest.mark.parametrize(
    ("schema", "written", "expected"),
    [
        ({"type": "string"}, "3", "3"),
        ({"type": "integer"}, "3", 3),
        ({"type": "boolean"}, "True", True),
        ({"enum": [1, 2]}, "2", 2),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "None", None),
        ({"type": "array"}, '["a"]', ["a"]),
        ({"type": "array"}, "no list", "no list"),
    ],
)
def test_values_are_read_by_the_schema(schema: Schema, written: str, expected: Value) -> None:
    assert schemas.read_value(schema, written) == expected

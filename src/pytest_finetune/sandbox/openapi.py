"""The server's description of itself (OpenAPI 3.1), generated from the table of operations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from .operations import Operation
from .wire.chat import ChatCompletion
from .wire.common import ErrorAnswer

_REF = "#/components/schemas/{model}"


def describe(operations: Sequence[Operation]) -> dict[str, Any]:
    """The description as a JSON-like object."""
    requests = {model for op in operations for model in (op.body, op.form) if model is not None}
    answers = {op.answer for op in operations if op.answer is not None} | {ErrorAnswer}
    used = [(model, "validation") for model in requests] + [(model, "serialization") for model in answers]
    used.sort(key=lambda pair: (pair[0].__name__, pair[1]))
    names, schemas = models_json_schema(used, ref_template=_REF)  # type: ignore[arg-type]  # a list of literals
    paths: dict[str, Any] = {}
    for op in operations:
        described = _operation(op, names)
        if op.method == "POST":
            described["responses"]["200"]["links"] = _links(op, operations)
        paths.setdefault(op.path, {})[op.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "pytest-finetune sandbox", "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(op: Operation, names: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": op.name,
        "summary": op.summary,
        "parameters": [*_path_parameters(op), *_query_parameters(op)],
        "responses": {
            "200": {"description": "Done.", "content": _answer(op, names)},
            "4XX": _error(names, "The request cannot be carried out."),
            "5XX": _error(names, "A fault that was asked for."),
        },
    }
    if op.body is not None:
        described["requestBody"] = _body("application/json", names[op.body, "validation"])
    if op.form is not None:
        file = {
            "type": "object",
            "properties": {"file": {"type": "string", "format": "binary"}},
            "required": ["file"],
        }
        form = op.form.model_json_schema(by_alias=True)
        form["properties"] |= file["properties"]
        form["required"] = [*form.get("required", ()), "file"]
        described["requestBody"] = _body("multipart/form-data", form)
    return described


def _links(op: Operation, operations: Sequence[Operation]) -> dict[str, Any]:
    """What can be done with an object that was just created: the operations on paths below."""
    links = {}
    for other in operations:
        parameter = re.match(re.escape(op.path) + r"/{(\w+)}", other.path)
        if parameter is not None:
            links[other.name] = {
                "operationId": other.name,
                "parameters": {parameter.group(1): "$response.body#/id"},
            }
    return links


def _body(media: str, schema: Any) -> dict[str, Any]:
    return {"required": True, "content": {media: {"schema": schema}}}


def _answer(op: Operation, names: dict[Any, Any]) -> dict[str, Any]:
    if op.answer is None:
        return {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    content: dict[str, Any] = {"application/json": {"schema": names[op.answer, "serialization"]}}
    if op.answer is ChatCompletion:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return content


def _error(names: dict[Any, Any], description: str) -> dict[str, Any]:
    schema = names[ErrorAnswer, "serialization"]
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _path_parameters(op: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)}", op.path)
    ]


def _query_parameters(op: Operation) -> list[dict[str, Any]]:
    if op.query is None:
        return []
    parameters: list[dict[str, Any]] = []
    for name, schema in op.query.model_json_schema()["properties"].items():
        parameter = {"name": name, "in": "query", "required": False, "schema": schema}
        if name == "metadata":
            parameter |= {"style": "deepObject", "explode": True}
        parameters.append(parameter)
    return parameters

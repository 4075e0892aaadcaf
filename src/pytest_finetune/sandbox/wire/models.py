"""Bodies of ``/v1/models``."""

from __future__ import annotations

from typing import Literal

from .common import Answer


class ModelObject(Answer):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    shutdown_date: str | None = None


class ModelList(Answer):
    object: Literal["list"] = "list"
    data: list[ModelObject]


class DeletedModel(Answer):
    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True

"""What the bodies of every resource share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Auto = Literal["auto"]
Metadata = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ],
    Field(max_length=16),
]


class Request(BaseModel):
    """A body or query whose every field is known: others are refused, as the service does."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Query(BaseModel):
    """A query string; its values arrive as text."""

    model_config = ConfigDict(extra="ignore")


class Answer(BaseModel):
    """A body the server answers with."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(Answer):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(Answer):
    error: ErrorDetail

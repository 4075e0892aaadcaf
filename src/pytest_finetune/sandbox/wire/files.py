"""Bodies of ``/v1/files``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .common import Answer, Query

UploadPurpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
Purpose = Literal[UploadPurpose, "assistants_output", "batch_output", "fine-tune-results"]


class UploadForm(BaseModel):
    """The fields of an upload beside ``file``."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    purpose: UploadPurpose
    expires_anchor: Literal["created_at"] | None = Field(None, alias="expires_after[anchor]")
    expires_seconds: int | None = Field(None, alias="expires_after[seconds]", ge=3600, le=2592000)


class FilesQuery(Query):
    purpose: str | None = None
    limit: int = Field(10000, ge=0, le=10000)
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None


class FileObject(Answer):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: Purpose
    status: Literal["uploaded", "processed", "error"] = "processed"
    status_details: str | None = None


class FileList(Answer):
    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(Answer):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True

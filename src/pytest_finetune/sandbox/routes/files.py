"""``/v1/files``."""

from __future__ import annotations

from pathlib import PurePath

from pydantic import BaseModel

from ..errors import ApiError
from ..jobs import token
from ..services import Call, expect, found, page
from ..wire.files import DeletedFile, FileList, FileObject, FilesQuery, UploadForm


async def create_file(call: Call) -> FileObject:
    """Upload a file."""
    form, upload, state = expect(call.body, UploadForm), call.upload, call.services.state
    if upload is None:
        raise ApiError(400, "Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
    if form.purpose == "fine-tune" and PurePath(upload.filename).suffix.lower() != ".jsonl":
        raise ApiError(400, "Invalid file format for Fine-Tuning API. Must be .jsonl", param="file")
    now = call.services.clock.now()
    file = FileObject(
        id=f"file-{token()}",
        bytes=len(upload.content),
        created_at=now,
        expires_at=None if form.expires_seconds is None else now + form.expires_seconds,
        filename=upload.filename,
        purpose=form.purpose,
    )
    state.contents(file.id).write_bytes(upload.content)
    state.put("file", file.id, file)
    if file.purpose == "fine-tune":
        await call.services.runner.prepare()
    return file


async def list_files(call: Call) -> FileList:
    """List files, newest first unless asked otherwise."""
    query = expect(call.query, FilesQuery)
    files = [f for f in call.services.state.all("file", FileObject) if query.purpose in (None, f.purpose)]
    if query.order == "desc":
        files.reverse()
    data, has_more = page(files, query.after, query.limit)
    return FileList(
        data=data,
        has_more=has_more,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
    )


async def retrieve_file(call: Call) -> FileObject:
    """What is known of a file."""
    file_id = call.path["file_id"]
    return found(call.services.state.get("file", file_id, FileObject), "File", file_id)


async def retrieve_file_content(call: Call) -> bytes:
    """The bytes of a file."""
    return call.services.state.contents((await retrieve_file(call)).id).read_bytes()


async def delete_file(call: Call) -> BaseModel:
    """Delete a file."""
    file, state = await retrieve_file(call), call.services.state
    state.delete("file", file.id)
    state.contents(file.id).unlink(missing_ok=True)
    return DeletedFile(id=file.id)

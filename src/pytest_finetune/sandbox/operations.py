"""The table of operations: from it come the routes, the checks of requests, and the server's own description."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from .routes import chat, control, files, jobs, models
from .services import Call
from .wire.chat import ChatCompletion, CreateChatCompletion, CreateResponse, ResponseObject
from .wire.files import DeletedFile, FileList, FileObject, FilesQuery, UploadForm
from .wire.jobs import (
    CheckpointList,
    CheckpointsQuery,
    CreateJob,
    EventList,
    FineTuningJob,
    JobList,
    JobsQuery,
    PageQuery,
)
from .wire.models import DeletedModel, ModelList, ModelObject

Result = BaseModel | AsyncIterator[str] | bytes
Handler = Callable[[Call], Awaitable[Result]]


@dataclass(frozen=True)
class Operation:
    """One method on one path.

    Attributes:
        method: The HTTP method.
        path: With parameters in braces, as OpenAPI writes them.
        handler: What carries it out; its name is the operation's, its docstring the summary.
        answer: The class of the answer, or ``None`` for bytes.
        query: The class of the query.
        body: The class of the JSON body.
        form: The class of a multipart form's fields, beside its ``file``.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    handler: Handler
    answer: type[BaseModel] | None
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    form: type[BaseModel] | None = None

    @property
    def name(self) -> str:
        """The operation's id, by which a fault names it."""
        return self.handler.__name__

    @property
    def summary(self) -> str:
        """One sentence for the description."""
        return (self.handler.__doc__ or "").strip().splitlines()[0]


_FILE = "/v1/files/{file_id}"
_JOBS = "/v1/fine_tuning/jobs"
_JOB = _JOBS + "/{fine_tuning_job_id}"

OPERATIONS: tuple[Operation, ...] = (
    Operation("POST", "/v1/files", files.create_file, FileObject, form=UploadForm),
    Operation("GET", "/v1/files", files.list_files, FileList, query=FilesQuery),
    Operation("GET", _FILE, files.retrieve_file, FileObject),
    Operation("GET", _FILE + "/content", files.retrieve_file_content, None),
    Operation("DELETE", _FILE, files.delete_file, DeletedFile),
    Operation("POST", _JOBS, jobs.create_job, FineTuningJob, body=CreateJob),
    Operation("GET", _JOBS, jobs.list_jobs, JobList, query=JobsQuery),
    Operation("GET", _JOB, jobs.retrieve_job, FineTuningJob),
    Operation("POST", _JOB + "/cancel", jobs.cancel_job, FineTuningJob),
    Operation("POST", _JOB + "/pause", jobs.pause_job, FineTuningJob),
    Operation("POST", _JOB + "/resume", jobs.resume_job, FineTuningJob),
    Operation("GET", _JOB + "/events", jobs.list_events, EventList, query=PageQuery),
    Operation("GET", _JOB + "/checkpoints", jobs.list_checkpoints, CheckpointList, query=CheckpointsQuery),
    Operation("GET", "/v1/models", models.list_models, ModelList),
    Operation("GET", "/v1/models/{model}", models.retrieve_model, ModelObject),
    Operation("DELETE", "/v1/models/{model}", models.delete_model, DeletedModel),
    Operation(
        "POST",
        "/v1/chat/completions",
        chat.create_chat_completion,
        ChatCompletion,
        body=CreateChatCompletion,
    ),
    Operation("POST", "/v1/responses", chat.create_response, ResponseObject, body=CreateResponse),
    Operation("POST", "/sandbox/faults", control.set_faults, control.SetFaults, body=control.SetFaults),
    Operation("GET", "/sandbox/requests", control.count_requests, control.RequestCounts),
    Operation("DELETE", "/sandbox/requests", control.forget_requests, control.RequestCounts),
    Operation("POST", "/sandbox/models", control.restore_model, ModelObject, body=control.RestoreModel),
    Operation("POST", "/sandbox/shutdown", control.set_shutdown, control.SetShutdown, body=control.SetShutdown),
)

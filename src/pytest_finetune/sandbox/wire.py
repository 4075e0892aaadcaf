"""Bodies on the wire: what a client may send and what the server answers.

The shapes are those of the OpenAI API (openai-openapi, 2026-08-21). Our description of the server (``openapi.py``)
is generated from these classes, and the same classes check every request, so the two cannot differ.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

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


# --- files ---------------------------------------------------------------------------------------------------

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


# --- fine-tuning jobs ----------------------------------------------------------------------------------------


class SupervisedHyperparameters(Request):
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0, le=1000)] = "auto"
    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = "auto"


class DpoHyperparameters(SupervisedHyperparameters):
    beta: Auto | Annotated[float, Field(gt=0, le=2)] = "auto"


class Supervised(Request):
    hyperparameters: SupervisedHyperparameters = Field(default_factory=SupervisedHyperparameters)


class Dpo(Request):
    hyperparameters: DpoHyperparameters = Field(default_factory=DpoHyperparameters)


class Method(Request):
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: dict[str, Any] | None = None


class Wandb(Request):
    project: str
    name: str | None = None
    entity: str | None = None
    tags: list[str] | None = None


class Integration(Request):
    type: Literal["wandb"]
    wandb: Wandb


class CreateJob(Request):
    model: Annotated[str, StringConstraints(min_length=1)]
    training_file: Annotated[str, StringConstraints(min_length=1)]
    validation_file: str | None = None
    suffix: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2147483647)] | None = None
    metadata: Metadata | None = None
    integrations: Annotated[list[Integration], Field(max_length=5)] | None = None
    hyperparameters: SupervisedHyperparameters | None = None
    method: Method | None = None


class JobError(Answer):
    """Why a job failed; every field is absent while nothing is wrong (a trap of the live service)."""

    code: str | None = None
    message: str | None = None
    param: str | None = None


class FineTuningJob(Answer):
    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    estimated_finish: int | None = None
    error: JobError | None = None
    fine_tuned_model: str | None = None
    finished_at: int | None = None
    hyperparameters: SupervisedHyperparameters
    integrations: list[Integration] | None = None
    metadata: Metadata | None = None
    method: Method
    model: str
    organization_id: str = "org-sandbox"
    result_files: list[str] = []
    seed: int
    status: Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
    trained_tokens: int | None = None
    training_file: str
    user_provided_suffix: str | None = None
    validation_file: str | None = None


class JobsQuery(Query):
    after: str | None = None
    limit: int = Field(20, ge=0, le=10000)
    metadata: dict[str, str] | Literal["null"] | None = None


class PageQuery(Query):
    after: str | None = None
    limit: int = Field(20, ge=0, le=10000)


class CheckpointsQuery(PageQuery):
    limit: int = Field(10, ge=0, le=10000)


class JobList(Answer):
    object: Literal["list"] = "list"
    data: list[FineTuningJob]
    has_more: bool


class JobEvent(Answer):
    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"] = "info"
    message: str
    type: Literal["message", "metrics", "moderation_checks"] = "message"
    data: dict[str, float | int | str | None] | None = None


class EventList(Answer):
    object: Literal["list"] = "list"
    data: list[JobEvent]
    has_more: bool


class CheckpointMetrics(Answer):
    step: int
    train_loss: float
    train_mean_token_accuracy: float
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None


class Checkpoint(Answer):
    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: CheckpointMetrics
    step_number: int


class CheckpointList(Answer):
    object: Literal["list"] = "list"
    data: list[Checkpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool


# --- models --------------------------------------------------------------------------------------------------


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


# --- chat completions and responses --------------------------------------------------------------------------


class LenientRequest(BaseModel):
    """A body of which the sandbox uses only a part; what it does not know it ignores."""

    model_config = ConfigDict(extra="ignore", strict=True)


class TextPart(LenientRequest):
    type: Literal["text", "input_text", "output_text", "refusal"]
    text: str = ""


class ChatMessage(LenientRequest):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart] | None = None

    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class ResponseFormat(LenientRequest):
    type: Literal["text", "json_object", "json_schema"]


class StreamOptions(LenientRequest):
    include_usage: bool | None = None


Temperature = Annotated[float, Field(ge=0, le=2)]
TokenLimit = Annotated[int, Field(ge=1)]


class CreateChatCompletion(LenientRequest):
    model: Annotated[str, StringConstraints(min_length=1)]
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    temperature: Temperature | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: str | list[str] | None = None
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class Usage(Answer):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ReplyMessage(Answer):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: str | None = None


class Choice(Answer):
    index: int
    message: ReplyMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class ChatCompletion(Answer):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage


class Delta(Answer):
    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(Answer):
    index: int
    delta: Delta
    finish_reason: Literal["stop", "length"] | None = None
    logprobs: None = None


class ChatCompletionChunk(Answer):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class CreateResponse(LenientRequest):
    model: Annotated[str, StringConstraints(min_length=1)]
    input: str | Annotated[list[ChatMessage], Field(min_length=1)]
    instructions: str | None = None
    temperature: Temperature | None = None
    max_output_tokens: TokenLimit | None = None
    metadata: Metadata | None = None
    stream: bool | None = None

    @field_validator("stream")
    @classmethod
    def _no_stream(cls, value: bool | None) -> bool | None:
        if value:
            raise ValueError("the sandbox streams chat completions only")
        return value


class OutputText(Answer):
    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[None] = []


class OutputMessage(Answer):
    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: Literal["completed", "incomplete"]
    content: list[OutputText]


class CachedTokens(Answer):
    cached_tokens: int = 0
    cache_write_tokens: int = 0


class ReasoningTokens(Answer):
    reasoning_tokens: int = 0


class ResponseUsage(Answer):
    input_tokens: int
    input_tokens_details: CachedTokens = Field(default_factory=CachedTokens)
    output_tokens: int
    output_tokens_details: ReasoningTokens = Field(default_factory=ReasoningTokens)
    total_tokens: int


class IncompleteDetails(Answer):
    reason: Literal["max_output_tokens"]


class ResponseObject(Answer):
    id: str
    object: Literal["response"] = "response"
    created_at: int
    model: str
    status: Literal["completed", "incomplete"]
    error: None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    metadata: Metadata | None
    output: list[OutputMessage]
    parallel_tool_calls: bool = False
    temperature: float | None
    tool_choice: Literal["none"] = "none"
    tools: list[None] = []
    top_p: float | None = None
    usage: ResponseUsage

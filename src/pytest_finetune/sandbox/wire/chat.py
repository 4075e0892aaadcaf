"""Bodies of ``/v1/chat/completions`` and ``/v1/responses``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from .common import Answer, Metadata


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
    annotations: list[None] = Field(default_factory=list)


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
    tools: list[None] = Field(default_factory=list)
    top_p: float | None = None
    usage: ResponseUsage

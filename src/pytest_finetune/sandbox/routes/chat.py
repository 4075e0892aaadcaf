"""``/v1/chat/completions`` and ``/v1/responses``."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from ..errors import ApiError
from ..faults import FaultKind, garbled
from ..jobs import token
from ..learning import ContextLengthExceeded, Message
from ..services import Call, expect
from ..tokens import count_tokens, truncate
from ..wire.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatMessage,
    Choice,
    ChunkChoice,
    CreateChatCompletion,
    CreateResponse,
    Delta,
    IncompleteDetails,
    OutputMessage,
    OutputText,
    ReplyMessage,
    ResponseObject,
    ResponseUsage,
    Usage,
)

FINGERPRINT = "fp_sandbox"


@dataclass(frozen=True)
class _Reply:
    text: str
    cut: bool


async def create_chat_completion(call: Call) -> ChatCompletion | AsyncIterator[str]:
    """Answer a chat, whole or as a stream of server-sent events."""
    body = expect(call.body, CreateChatCompletion)
    messages = [Message(message.role, message.text()) for message in body.messages]
    limit = body.max_completion_tokens or body.max_tokens
    seed = call.services.settings.seed if body.seed is None else body.seed
    replies = []
    for index in range(body.n or 1):
        text = await _answer(call, body.model, messages, body.temperature or 0.0, seed + index)
        if body.response_format is not None and body.response_format.type != "text":
            text = _as_json_object(text)
        replies.append(_cut(text, body.stop, limit))
    completion = ChatCompletion(
        id=f"chatcmpl-{token()}",
        created=call.services.clock.now(),
        model=body.model,
        system_fingerprint=FINGERPRINT,
        choices=[_choice(index, reply) for index, reply in enumerate(replies)],
        usage=_usage(messages, replies),
    )
    if not body.stream:
        return completion
    return _stream(completion, usage=bool(body.stream_options and body.stream_options.include_usage))


async def create_response(call: Call) -> ResponseObject:
    """Answer in the form of the responses API."""
    body = expect(call.body, CreateResponse)
    given = [ChatMessage(role="user", content=body.input)] if isinstance(body.input, str) else body.input
    messages = [Message("system", body.instructions)] if body.instructions else []
    messages += [Message(message.role, message.text()) for message in given]
    text = await _answer(call, body.model, messages, body.temperature or 0.0, call.services.settings.seed)
    reply = _cut(text, None, body.max_output_tokens)
    usage = _usage(messages, [reply])
    return ResponseObject(
        id=f"resp_{token()}",
        created_at=call.services.clock.now(),
        model=body.model,
        status="incomplete" if reply.cut else "completed",
        incomplete_details=IncompleteDetails(reason="max_output_tokens") if reply.cut else None,
        instructions=body.instructions,
        metadata=body.metadata,
        output=[
            OutputMessage(
                id=f"msg_{token()}",
                status="incomplete" if reply.cut else "completed",
                content=[OutputText(text=reply.text)],
            )
        ],
        temperature=body.temperature,
        usage=ResponseUsage(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
        ),
    )


async def _answer(call: Call, name: str, messages: Sequence[Message], temperature: float, seed: int) -> str:
    model = await call.services.models.load(name)
    call.services.requests[name, _digest(messages)] += 1
    try:
        text = model.answer(messages, temperature=temperature, seed=seed)
    except ContextLengthExceeded as error:
        raise ApiError(
            400,
            f"This model's maximum context length is {error.limit} demonstrations. However, your messages"
            f" resulted in {error.given} demonstrations. Please reduce the length of the messages.",
            code="context_length_exceeded",
            param="messages",
        ) from None
    return garbled(text) if call.fault is FaultKind.GARBLE else text


def _digest(messages: Sequence[Message]) -> str:
    text = json.dumps([[message.role, message.content] for message in messages])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _as_json_object(text: str) -> str:
    """The text itself if it is a JSON object, else an object that holds it."""
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    return text if isinstance(parsed, dict) else json.dumps({"answer": text})


def _cut(text: str, stop: str | list[str] | None, limit: int | None) -> _Reply:
    """End the text at a stop sequence, and at the limit of tokens."""
    for sequence in [stop] if isinstance(stop, str) else stop or []:
        if sequence:
            text = text.split(sequence, 1)[0]
    if limit is not None and count_tokens(text) > limit:
        return _Reply(truncate(text, limit), cut=True)
    return _Reply(text, cut=False)


def _choice(index: int, reply: _Reply) -> Choice:
    reason = "length" if reply.cut else "stop"
    return Choice(index=index, message=ReplyMessage(content=reply.text), finish_reason=reason)


def _usage(messages: Sequence[Message], replies: Sequence[_Reply]) -> Usage:
    prompt = sum(count_tokens(message.content) for message in messages)
    completion = sum(count_tokens(reply.text) for reply in replies)
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


async def _stream(completion: ChatCompletion, *, usage: bool) -> AsyncIterator[str]:
    """The completion in pieces of a few words, as ``data:`` lines."""
    for choice in completion.choices:
        yield _chunk(completion, ChunkChoice(index=choice.index, delta=Delta(role="assistant", content="")))
        for piece in _pieces(choice.message.content):
            yield _chunk(completion, ChunkChoice(index=choice.index, delta=Delta(content=piece)))
            await asyncio.sleep(0)
        end = ChunkChoice(index=choice.index, delta=Delta(), finish_reason=choice.finish_reason)
        yield _chunk(completion, end)
    if usage:
        yield _chunk(completion, None, completion.usage)
    yield "data: [DONE]\n\n"


def _pieces(text: str, size: int = 24) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def _chunk(completion: ChatCompletion, choice: ChunkChoice | None, usage: Usage | None = None) -> str:
    chunk = ChatCompletionChunk(
        id=completion.id,
        created=completion.created,
        model=completion.model,
        system_fingerprint=completion.system_fingerprint,
        choices=[] if choice is None else [choice],
        usage=usage,
    )
    return f"data: {chunk.model_dump_json(exclude_unset=False)}\n\n"

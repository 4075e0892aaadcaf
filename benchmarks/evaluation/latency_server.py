"""A chat server of the OpenAI shape that answers after a fixed time, and counts.

    python benchmarks/evaluation/latency_server.py

It prints its address. ``POST /reset`` takes the counters to nought and sets, by a JSON body, ``latency`` (seconds
before each answer) and ``tail`` (the share of answers that take ten times as long); ``GET /stats`` gives them.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

import httptools
import uvloop
from tickets import answer, draw, number_in, stage_of

_FIELD = re.compile(r"\[\[ ## (\w+) ## \]\]")


@dataclass
class Settings:
    """What a client may set."""

    latency: float = 0.0
    tail: float = 0.0


@dataclass
class Stats:
    """What has been seen since the last reset."""

    requests: int = 0
    answers: int = 0
    in_flight: int = 0
    most_in_flight: int = 0


class _State:
    """Of the one server of this process."""

    settings = Settings()
    stats = Stats()


class _Connection(asyncio.Protocol):
    """One client; the answers on a connection come in the order of its requests, since clients wait for each."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._body = b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._path.endswith(b"/chat/completions"):
            self._complete(json.loads(self._body))
        elif self._path == b"/stats":
            self._send(asdict(_State.stats))
        else:
            _State.settings = Settings(**json.loads(self._body))
            _State.stats = Stats()
            self._send({})

    def _complete(self, request: dict[str, Any]) -> None:
        prompt = "\n".join(message["content"] for message in request["messages"])
        stage, number = stage_of(request["model"], prompt), number_in(prompt)
        stats, settings = _State.stats, _State.settings
        stats.requests += 1
        stats.in_flight += 1
        stats.most_in_flight = max(stats.most_in_flight, stats.in_flight)
        wait = settings.latency * (10 if draw("tail", stage.name, number) < settings.tail else 1)
        payload = _completion(request["model"], prompt, answer(stage, number))
        if wait:
            asyncio.get_running_loop().call_later(wait, self._answer, payload, stats)
        else:
            self._answer(payload, stats)

    def _answer(self, payload: dict[str, Any], stats: Stats) -> None:
        stats.in_flight -= 1
        stats.answers += 1
        self._send(payload)

    def _send(self, payload: dict[str, Any]) -> None:
        if self._transport.is_closing():
            return
        body = json.dumps(payload).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


def _completion(model: str, prompt: str, label: str) -> dict[str, Any]:
    """The label as the prompt wants it: in DSPy's fields, or by itself."""
    asked = _FIELD.findall(prompt[prompt.rfind("Respond with") :])
    text = f"[[ ## category ## ]]\n{label}\n\n[[ ## completed ## ]]" if asked else label
    sent, received = len(prompt) // 4, len(text) // 4 + 1
    return {
        "id": f"chatcmpl-{_State.stats.requests}",
        "object": "chat.completion",
        "created": 1700000000,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received},
    }


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=2048)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())

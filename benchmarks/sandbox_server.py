"""How fast the sandbox answers and fits: on one machine, against its goals.

    python benchmarks/sandbox_server.py --data rows.jsonl

``--data`` is a JSON Lines file with the fields ``text``, ``category`` and ``split`` (banking77, for one).
Measured: completions a second of a model fitted on 800 rows, by 32 aiohttp clients; the median latency of one client;
the time from creating a job to its end for 800 rows of ten values and 8,000 rows of 77; and the slowest answer that a
client met while the large one was being fitted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
import dspy
import openai

from pytest_finetune.sandbox import Sandbox, Settings


@dataclass(frozen=True)
class Rows:
    """Training rows, and chats to ask."""

    training: list[dict[str, Any]]
    chats: list[list[dict[str, str]]]


def read_rows(path: Path, values: int, count: int) -> Rows:
    """The first values by name, and a seeded draw of their rows."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    names = sorted({record["category"] for record in records})[:values]
    signature = dspy.Signature(
        {"text": (str, dspy.InputField()), "category": (Literal[tuple(names)], dspy.OutputField())},  # type: ignore[valid-type]
        "Name the intent.",
    )
    adapter = dspy.ChatAdapter()
    draw = random.Random(0)

    def drawn(split: str, limit: int) -> list[dict[str, str]]:
        found = [r for r in records if r["category"] in names and r["split"] == split]
        return draw.sample(found, min(limit, len(found)))

    training = []
    for record in drawn("train", count):
        messages = adapter.format(signature, [], {"text": record["text"]})
        answer = adapter.format_assistant_message_content(signature, {"category": record["category"]})
        training.append({"messages": [*messages, {"role": "assistant", "content": answer}]})
    chats = [adapter.format(signature, [], {"text": record["text"]}) for record in drawn("test", 300)]
    return Rows(training, chats)


def train(client: openai.OpenAI, rows: Rows) -> tuple[str, float]:
    """The fitted model, and the seconds from creating the job to its end."""
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows.training)
    file = client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
    start = time.perf_counter()
    job = client.fine_tuning.jobs.create(model="sandbox-small", training_file=file.id, seed=0)
    while job.status not in {"succeeded", "failed"}:
        time.sleep(0.02)
        job = client.fine_tuning.jobs.retrieve(job.id)
    if job.fine_tuned_model is None:
        raise SystemExit(f"the job failed: {job.error}")
    return job.fine_tuned_model, time.perf_counter() - start


async def ask(url: str, model: str, chats: Sequence[Any], clients: int, requests: int) -> tuple[float, list[float]]:
    """Seconds in all, and the latency of each request."""
    bodies = [json.dumps({"model": model, "messages": chat}).encode() for chat in chats]
    latencies: list[float] = []

    async def client(session: aiohttp.ClientSession, share: int) -> None:
        for number in range(share):
            start = time.perf_counter()
            body = bodies[number % len(bodies)]
            async with session.post(url, data=body, headers={"content-type": "application/json"}) as response:
                await response.read()
                if response.status != 200:
                    raise SystemExit(await response.text())
            latencies.append(time.perf_counter() - start)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=clients)) as session:
        await client(session, 20)
        latencies.clear()
        start = time.perf_counter()
        await asyncio.gather(*(client(session, requests // clients) for _ in range(clients)))
        return time.perf_counter() - start, latencies


def main() -> None:
    """Print one line a goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    small, large = (read_rows(parser.parse_args().data, *size) for size in ((10, 800), (77, 8000)))
    with (
        Sandbox(Settings(clock_speed=1e6)) as sandbox,
        openai.OpenAI(base_url=sandbox.base_url, api_key="-") as client,
    ):
        url = f"{sandbox.base_url}/chat/completions"
        _, first = train(client, small)
        model, seconds = train(client, small)
        print(f"fitting 800 rows, 10 values      {seconds:7.2f} s           (goal: under 3)")
        print(f"the first job after a start      {first:7.2f} s           (its trainer loads the libraries)")
        for clients, requests in ((32, 6400), (1, 500)):
            spent, latencies = asyncio.run(ask(url, model, small.chats, clients, requests))
            median = statistics.median(latencies) * 1e3
            print(f"{clients:3} clients                 {requests / spent:8.0f} a second, median {median:.2f} ms")
        print("                                 (goals: 500 a second with 32 clients, 20 ms with one)")

        async def while_fitting() -> tuple[float, float]:
            fitting = asyncio.create_task(asyncio.to_thread(train, client, large))
            slowest = 0.0
            while not fitting.done():
                _, latencies = await ask(url, model, small.chats, 1, 50)
                slowest = max(slowest, *latencies)
            return (await fitting)[1], slowest

        seconds, slowest = asyncio.run(while_fitting())
        print(f"fitting 8,000 rows, 77 values    {seconds:7.2f} s           (goal: under 10)")
        print(f"slowest answer meanwhile         {slowest * 1e3:7.1f} ms")


if __name__ == "__main__":
    main()

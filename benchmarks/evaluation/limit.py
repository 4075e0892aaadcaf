"""The limit: one event loop, aiohttp, so many requests in flight; no retry, no store, nothing kept.

python benchmarks/evaluation/limit.py BASE_URL ROWS CONCURRENCY
"""

from __future__ import annotations

import asyncio
import json
import sys

import aiohttp
import uvloop
from tickets import LABELS, STAGES, ticket


async def main(url: str, rows: int, concurrency: int) -> None:
    """Ask everything, and print how many answers of each stage were right."""
    right = {stage.name: 0 for stage in STAGES}
    tickets = [ticket(number) for number in range(rows)]
    jobs = iter([(stage, row) for stage in STAGES for row in tickets])
    connector = aiohttp.TCPConnector(limit=concurrency)

    async def ask(session: aiohttp.ClientSession) -> None:
        for stage, row in jobs:
            told = f"{stage.instructions} Answer with one word out of: {', '.join(LABELS)}."
            messages = [{"role": "system", "content": told}, {"role": "user", "content": row["text"]}]
            body = {"model": stage.model, "messages": messages, "temperature": 0}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                response.raise_for_status()
                content = (await response.json())["choices"][0]["message"]["content"]
            right[stage.name] += content == row["category"]

    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(ask(session) for _ in range(concurrency)))
    print(json.dumps(right))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

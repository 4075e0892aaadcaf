"""Real servers, and real clients that hold their answers to the published types."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from pytest_finetune.sandbox import Sandbox, Settings

COLOURS = {
    "red": ["a ripe tomato", "fresh blood", "a fire engine", "a stop sign", "cherry jam"],
    "green": ["cut grass", "a young leaf", "a pea pod", "moss on a stone", "an unripe lime"],
    "blue": ["a clear sky", "the deep sea", "a sapphire ring", "faded jeans", "a cornflower"],
}
SYSTEM = """Your input fields are:
1. `thing` (str): what to look at
Your output fields are:
1. `colour` (Literal['red', 'green', 'blue']): its colour
All interactions will be structured in the following way, with the appropriate values filled in.

[[ ## thing ## ]]
{thing}

[[ ## colour ## ]]
{colour}        # note: the value you produce must exactly match (no extra characters) one of: red; green; blue

[[ ## completed ## ]]
In adhering to this structure, your objective is:
        Name the colour."""
REQUEST = """[[ ## thing ## ]]
{thing}

Respond with the corresponding output fields, starting with the field `[[ ## colour ## ]]` (must be formatted as a \
valid Python Literal['red', 'green', 'blue']), and then ending with the marker for `[[ ## completed ## ]]`."""
ANSWER = "[[ ## colour ## ]]\n{colour}\n\n[[ ## completed ## ]]\n"


def prompt(thing: str) -> list[ChatCompletionMessageParam]:
    """The chat that asks for the colour of a thing."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": REQUEST.format(thing=thing)}]


def row(thing: str, colour: str) -> dict[str, Any]:
    """One row of a training file."""
    answer = {"role": "assistant", "content": ANSWER.format(colour=colour)}
    return {"messages": [*prompt(thing), answer]}


def training_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows whose things are seen in many lights, so that no two are alike."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        colour = draw.choice(sorted(COLOURS))
        light = draw.choice(["in the sun", "at dusk", "by lamplight", "after rain", "in a photo"])
        rows.append(row(f"{draw.choice(COLOURS[colour])} {light} ({number})", colour))
    return rows


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in rows)


def connect(sandbox: Sandbox, *, strict: bool = True) -> openai.OpenAI:
    """The official client; strict: an answer that does not fit its types is an error."""
    return openai.OpenAI(base_url=sandbox.base_url, api_key="none", max_retries=0, _strict_response_validation=strict)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    state = tmp_path_factory.mktemp("sandbox")
    with Sandbox(Settings(live_quirks=False, clock_speed=10_000, state_dir=state)) as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[openai.OpenAI]:
    with connect(sandbox) as connected:
        yield connected
    sandbox.set_faults()


@pytest.fixture
def training_file(tmp_path: Path) -> Path:
    path = tmp_path / "colours.jsonl"
    path.write_bytes(jsonl(training_rows(60)))
    return path

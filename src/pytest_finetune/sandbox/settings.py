"""What a sandbox can be told when it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Size = Literal["small", "large"]

BASE_MODELS: dict[str, Size] = {"sandbox-small": "small", "sandbox-large": "large"}
ALIASES: dict[str, Size] = {"gpt-4o-mini": "small", "gpt-4o": "large"}


class Settings(BaseModel):
    """Settings of one server; every one has a default that needs no key, no network and no waiting.

    Attributes:
        host: The address to listen on. Anything but loopback shows the server to others.
        port: The port; 0 takes a free one.
        state_dir: Where files, jobs and models are kept. ``None``: a temporary folder, gone at the end.
        aliases: Other names for the two base models, so that a project written for a real endpoint
            runs unchanged. A dated form (``gpt-4o-mini-2024-07-18``) of an alias is known too.
        clock_speed: Sandbox seconds a real second. The waits that a real service has (validating a file,
            standing in a queue) last ``seconds / clock_speed``.
        queue_seconds: How long, in sandbox seconds, a job is validated, and then again queued.
        live_quirks: Answer as the live service does where that differs from its own published
            description; see ``docs/sandbox.md`` for the list. Off, every answer fits the description.
        api_key: If given, a request with another key is refused with 401.
        seed: What the draws of faults, and of sampled answers without a seed, derive from.
        max_upload_bytes: The largest request body that is accepted.
        max_jobs: How many jobs are fitted at once; the others stay queued.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535)
    state_dir: Path | None = None
    aliases: dict[str, Size] = Field(default_factory=lambda: dict(ALIASES))
    clock_speed: float = Field(100.0, gt=0)
    queue_seconds: float = Field(1.0, ge=0)
    live_quirks: bool = True
    api_key: str | None = None
    seed: int = 0
    max_upload_bytes: int = Field(512 * 1024 * 1024, gt=0)
    max_jobs: int = Field(1, gt=0)

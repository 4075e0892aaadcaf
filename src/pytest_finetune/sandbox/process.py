"""Starts the trainer as a process and reads the steps it reports."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from .learning import Step
from .trainer import FitSpec

_MODULE = f"{__package__}.trainer"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class FitFailed(Exception):
    """The trainer gave up; the message says why."""


async def fit(spec: FitSpec, folder: Path) -> AsyncGenerator[Step, None]:
    """Fit a model; its weights are in the folder when the last step has been taken.

    Closing or cancelling the iteration kills the process.

    Raises:
        FitFailed: Nothing could be learned from the file, or the trainer crashed.
    """
    trainer = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        _MODULE,
        str(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **_ONE_THREAD},
    )
    assert trainer.stdin is not None and trainer.stdout is not None and trainer.stderr is not None  # noqa: S101, PT018
    try:
        trainer.stdin.write(spec.model_dump_json().encode())
        trainer.stdin.close()
        async for line in trainer.stdout:
            yield Step(**json.loads(line))
        complaint = (await trainer.stderr.read()).decode(errors="replace").strip()
        if await trainer.wait() != 0:
            raise FitFailed(complaint.splitlines()[-1] if complaint else "The trainer was killed.")
    finally:
        if trainer.returncode is None:
            trainer.kill()
            await trainer.wait()

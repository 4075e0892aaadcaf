"""Trainers: processes that fit models, and are kept for the next job, since loading the libraries takes longer."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

from .learning import Step
from .trainer import FitSpec

_MODULE = f"{__package__}.trainer"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class FitFailed(Exception):
    """The trainer gave up; the message says why."""


@dataclass
class Trainers:
    """Starts trainers as they are needed; one that was interrupted is killed.

    Args:
        folder: Where the weights go.
    """

    folder: Path
    _idle: list[Process] = field(default_factory=list)

    async def warm(self) -> None:
        """Have a trainer ready: a job is likely to come."""
        if not self._idle:
            self._idle.append(await self._start())

    async def fit(self, spec: FitSpec) -> AsyncGenerator[Step, None]:
        """Fit a model; its weights are in the folder when the last step has been taken.

        Closing or cancelling the iteration kills the process.

        Raises:
            FitFailed: Nothing could be learned from the file, or the trainer crashed.
        """
        trainer = self._idle.pop() if self._idle else await self._start()
        try:
            _writer(trainer).write(spec.model_dump_json().encode() + b"\n")
            async for line in _reader(trainer):
                message = json.loads(line)
                if "failed" in message:
                    raise FitFailed(message["failed"])
                if "done" in message:
                    self._idle.append(trainer)
                    return
                yield Step(**message)
                # Lines that are here already are read without a pause, in which the server would answer nobody.
                await asyncio.sleep(0)
            raise FitFailed("The trainer crashed.")
        finally:
            if trainer not in self._idle:
                await _kill(trainer)

    async def stop(self) -> None:
        """End the idle ones."""
        await asyncio.gather(*(_kill(trainer) for trainer in self._idle))
        self._idle.clear()

    async def _start(self) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _MODULE,
            str(self.folder),
            stdin=PIPE,
            stdout=PIPE,
            env={**os.environ, **_ONE_THREAD},
        )


def _writer(trainer: Process) -> asyncio.StreamWriter:
    assert trainer.stdin is not None  # noqa: S101  # started with a pipe
    return trainer.stdin


def _reader(trainer: Process) -> asyncio.StreamReader:
    assert trainer.stdout is not None  # noqa: S101  # started with a pipe
    return trainer.stdout


async def _kill(trainer: Process) -> None:
    if trainer.returncode is None:
        trainer.kill()
    await trainer.wait()

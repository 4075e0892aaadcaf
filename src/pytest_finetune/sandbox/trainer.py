"""The process that fits models: ``python -m pytest_finetune.sandbox.trainer FOLDER``, a `FitSpec` a line on stdin.

A process of its own, so that fitting never stalls the chat, can be killed to cancel or pause a job, and dies with
nothing lost: the same `FitSpec` gives the same model again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from .learning import FittedModel, Hyperparameters, Step, UnlearnableFile, fit
from .settings import Size
from .training_file import read_rows

LEARNER = 2
"""Raised when the same file would give another model; part of every fit's id."""

KEPT_EPOCHS = 3


class FitSpec(BaseModel):
    """Everything that the weights follow from.

    Attributes:
        size: The base model.
        training: The training file, and ``training_sha256`` its digest.
        validation: A file that is only measured on.
        method: How the rows are to be read.
        n_epochs, batch_size, learning_rate_multiplier: As the provider names them.
        seed: The order of the rows.
        parent: Weights to go on from, and ``parent_id`` their fit.
    """

    model_config = ConfigDict(frozen=True)

    size: Size
    training: Path
    training_sha256: str
    validation: Path | None
    method: str
    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    seed: int
    parent: Path | None = None
    parent_id: str | None = None

    @property
    def id(self) -> str:
        """A digest of what decides the weights: not of paths, nor of the validation file."""
        decisive = self.model_dump(mode="json", exclude={"training", "validation", "parent"})
        text = json.dumps({"learner": LEARNER, **decisive}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def weights(self, epoch: int | None = None) -> str:
        """The name of the weights: of an epoch, or (``None``) of the finished model."""
        return self.id if epoch is None else f"{self.id}-epoch-{epoch}"


def run(spec: FitSpec, folder: Path) -> None:
    """Fit, print a JSON line for each step, and write the weights of the last three epochs."""
    validation = b"" if spec.validation is None else spec.validation.read_bytes()
    models = fit(
        spec.size,
        read_rows(spec.training.read_bytes(), param="training_file", method=spec.method),
        read_rows(validation, param="validation_file", method=spec.method),
        Hyperparameters(spec.n_epochs, spec.batch_size, spec.learning_rate_multiplier),
        spec.seed,
        parent=None if spec.parent is None else FittedModel.from_bytes(spec.parent.read_bytes()),
        on_step=_print_step,
    )
    first = spec.n_epochs - len(models) + 1
    for epoch, model in list(enumerate(models, start=first))[-KEPT_EPOCHS:]:
        _write(folder / f"{spec.weights(epoch)}.npz", model.to_bytes())
    _write(folder / f"{spec.weights()}.npz", models[-1].to_bytes())


def _print_step(step: Step) -> None:
    _tell(dataclasses.asdict(step))


def _tell(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: a killed trainer leaves no half a file."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def main() -> None:
    """Fit what is asked for until stdin ends; ``{"done": id}`` or ``{"failed": reason}`` closes each fit."""
    os.nice(5)
    folder = Path(sys.argv[1])
    for line in sys.stdin:
        spec = FitSpec.model_validate_json(line)
        try:
            run(spec, folder)
        except UnlearnableFile as error:
            _tell({"failed": str(error)})
        else:
            _tell({"done": spec.id})


if __name__ == "__main__":
    main()

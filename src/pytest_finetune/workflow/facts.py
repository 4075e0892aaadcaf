"""What the tasks file and the data ask for today, in the words of the lock: what drift is held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_finetune import programs
from pytest_finetune.core.fingerprint import digest, source_fingerprint
from pytest_finetune.dataset import ALL, SPLITS, DataRow
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.lock.data import KnownRow
from pytest_finetune.lock.model import Data, Facts, Fingerprints
from pytest_finetune.task import BASELINE, FINETUNED, PROMPT_OPTIMIZED, TEACHER, Task

if TYPE_CHECKING:
    import dspy

PROBES = 3


def facts_of(task: Task, stage: str, program: dspy.Module, endpoint: Endpoint) -> Facts:
    """What a stage of a task is made of.

    Args:
        task: The task.
        stage: One of its stages.
        program: The stage's own program, with its state.
        endpoint: Where its model lives.

    Raises:
        DatasetError: If the data cannot be read.
    """
    return Facts(
        task=task.id,
        stage=stage,
        base=model_of(task, stage),
        endpoint=endpoint.identity,
        adapter=task.adapter,
        recipe=task.recipe_name if stage == FINETUNED else None,
        optimizer=_optimizer(task, stage),
        seed=task.seed,
        fingerprints=Fingerprints(
            metric=task.scorer.fingerprint(),
            program=programs.program_fingerprint(task.program()),
            prompt=programs.prompt_fingerprint(program, task.make_adapter(), _probes(task)),
        ),
        data=_data(task),
        decoding=task.decoding(),
        params=_params(task, stage),
    )


def check_data(task: Task) -> None:
    """Hold the data against the program: what is there of its outputs, and each value of its Literals.

    Raises:
        DatasetError: With everything that is wrong.
    """
    program, held = task.program(), task.dataset.rows("train")[0].fields
    literals = {name: values for name, values in programs.literals_of(program).items() if name in held}
    task.dataset.check(fields=[name for name in programs.output_fields(program) if name in held], literals=literals)


def known_rows(task: Task) -> list[KnownRow]:
    """The rows of all splits by their fingerprints, in the order of their files and lines."""
    rows = sorted(task.dataset.rows(ALL), key=lambda row: (row.file, row.line))
    return [KnownRow(row.input_id, row.row_id, row.split, row.where) for row in rows]


def model_of(task: Task, stage: str) -> str:
    """The model that a stage starts from."""
    return task.teacher if stage == TEACHER and task.teacher else task.student


def _optimizer(task: Task, stage: str) -> str | None:
    chosen = {PROMPT_OPTIMIZED: task.optimizer, TEACHER: task.teacher_optimizer}.get(stage)
    return chosen if isinstance(chosen, str | None) else chosen.__name__


def _params(task: Task, stage: str) -> Mapping[str, Any]:
    if stage == FINETUNED:
        return {**task.recipe_options, **task.hyperparameters, **_training(task)}
    return {} if stage == BASELINE else task.optimizer_options


def _training(task: Task) -> Mapping[str, Any]:
    """What else decides what a model is trained on: no key for what a task does not set."""
    scorer, mix = task.scorer, task.mixed
    said: dict[str, Any] = {}
    if callable(task.recipe):
        said["recipe_source"] = source_fingerprint(task.recipe)
    if scorer.bootstrap or scorer.threshold is not None:
        said["bootstrap_metric"] = digest([scorer.bootstrap and scorer.bootstrap.fingerprint(), scorer.threshold])
    if task.seeds:
        said["seeds"] = list(task.seeds)
    if mix is not None:
        program = mix.program and programs.program_fingerprint(mix.program())
        said["mix"] = {"data": mix.dataset.fingerprint(ALL), "share": mix.share, "program": program}
    return said


def _probes(task: Task) -> list[DataRow]:
    """A few test rows, the same ones whatever their labels and the salt."""
    return sorted(task.dataset.rows("test"), key=lambda row: row.input_id)[:PROBES]


def _data(task: Task) -> Data:
    values: dict[str, Any] = {split: task.dataset.fingerprint(split) for split in SPLITS}
    values |= {f"{split}_rows": len(task.dataset.rows(split)) for split in SPLITS}
    return Data(salt=task.dataset.placement.salt, **values)

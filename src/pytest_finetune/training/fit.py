"""How well a model has learnt its rows, and what it makes of others: what a diagnosis looks at before the gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pytest_finetune.calls import Stopped
from pytest_finetune.calls.failures import scrubbed
from pytest_finetune.core.diagnosis import Mean, Observed, Step
from pytest_finetune.errors import EndpointError, FinetuneError, TrainingError
from pytest_finetune.programs import program_fingerprint
from pytest_finetune.training.building import Finetuned
from pytest_finetune.training.checkpoints import Checkpoints
from pytest_finetune.training.optimizers import Optimized, draw
from pytest_finetune.training.runs import mean_score, run_program
from pytest_finetune.training.steady import Report

if TYPE_CHECKING:
    import dspy

    from pytest_finetune.task import Task

FIT_ROWS = 200
"""Rows that are asked of each split: they tell two means of 0.85 apart that differ by 0.06."""


def fit_rows(task: Task) -> int:
    """How many rows a diagnosis asks a model about, at most: of those that it was trained on, and of dev."""
    return sum(min(FIT_ROWS, len(task.dataset.rows(split))) for split in ("train", "dev"))


def observe(
    task: Task,
    tuned: Finetuned,
    optimized: Optimized,
    *,
    checkpoints: Checkpoints,
    report: Report,
    concurrency: int,
    serve: Callable[[], None] | None,
) -> Observed:
    """Ask a fine-tuned program about rows that it was trained on, and about dev rows.

    Of several models, one for each predictor, no losses are looked at: one that overfits would be lost in the mean.

    Where the model cannot be asked, as one that is not deployed, or may not, under a cap, its losses and traces are
    all there is: a job that was paid for is not lost to its diagnosis.

    Args:
        task: Whose program it is.
        tuned: The program.
        optimized: The prompt-optimized one, with its dev score.
        checkpoints: Where the answers' scores are kept, for a build that is run again.
        report: Is told where the model cannot be asked.
        concurrency: Calls at once.
        serve: Makes the model callable, before it is asked; ``None``: it is not to be asked.
    """
    data = [task.dataset.fingerprint(split) for split in ("train", "dev")]
    asked = [task.scorer.fingerprint(), task.adapter, task.decoding(), task.seed]
    parts = [tuned.model, program_fingerprint(tuned.program), *data, *asked]
    told = checkpoints.get("fit", parts) or {}
    if serve is not None and not told:
        try:
            serve()
            told = _asked(task, tuned, concurrency)
        except (EndpointError, TrainingError) as error:
            report(f"{tuned.model} is not diagnosed by its answers, since it cannot be asked: {_reason(error)}")
        except Stopped as over:  # by the cap: the job is paid, and this is not worth losing its model for
            report(f"{tuned.model} is not diagnosed by its answers: {over}")
        else:
            checkpoints.put("fit", parts, told)
    kept = [sum(counts) for counts in zip(*tuned.kept.values(), strict=True)]
    only = next(iter(tuned.models.values())).job if len(tuned.models) == 1 else None
    epochs = only and only.hyperparameters.get("n_epochs")
    means = {name: Mean(*mean) for name, mean in told.items()}
    return Observed(
        recipe=task.recipe_name,
        train=means.get("train"),
        dev=means.get("dev"),
        unreadable=means.get("unreadable"),
        prompts_dev=Mean(optimized.dev_optimized, len(task.dataset.dev)),
        taught=tuned.taught,
        kept=(kept[0], kept[1]) if kept and task.recipe != "labels" else None,
        losses=[Step(*loss) for loss in only.losses] if only else (),
        epochs=epochs if isinstance(epochs, int) else None,
        seeds=tuple(tuned.seeds.values()),
    )


def _reason(error: FinetuneError) -> str:
    """What the endpoint said, without what it means for rows that are trained on."""
    return scrubbed(error.__cause__ or error)


def _asked(task: Task, tuned: Finetuned, concurrency: int) -> dict[str, Any]:
    rows = zip(task.dataset.train, task.dataset.rows("train"), strict=True)
    known = set(tuned.trained_on)
    trained = [example for example, row in rows if not known or row.row_id in known]

    def ask(examples: Sequence[dspy.Example]) -> Any:
        asked = draw(examples, FIT_ROWS, task.seed)
        return run_program(tuned.program, asked, adapter=task.make_adapter(), concurrency=concurrency)

    train, dev = ask(trained), ask(task.dataset.dev)
    lost = sum(run.prediction is None for run in (*train, *dev))
    n = len(train) + len(dev)
    scored = {"train": train, "dev": dev}
    means = {name: [mean_score(runs, task.scorer), len(runs)] for name, runs in scored.items()}
    return {**means, "unreadable": [lost / n, n]}

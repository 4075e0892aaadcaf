"""What all recipes share: the student with its provider, the rows, the job, and the check of what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_finetune.core.diagnosis import ENOUGH
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import TrainingError
from pytest_finetune.programs import attach, predictors, program_fingerprint
from pytest_finetune.training.advice import more_rows
from pytest_finetune.training.bootstrap import collect, count_kept
from pytest_finetune.training.checkpoints import Checkpoints
from pytest_finetune.training.contents import check_file, check_prompts, served_prompts, system_prompts
from pytest_finetune.training.jobs import JobFacts, JobRequest, JobRunner
from pytest_finetune.training.mixing import mixed_prompts, mixed_rows
from pytest_finetune.training.provider import FEWEST_ROWS, PREFIX, job_provider
from pytest_finetune.training.request import CHECKPOINT
from pytest_finetune.training.rows import gold_calls, gold_file, to_jsonl, written
from pytest_finetune.training.runs import mean_score
from pytest_finetune.training.steady import Report

if TYPE_CHECKING:
    import dspy

    from pytest_finetune.task import Task

Rows = list[dict[str, Any]]
Kept = Mapping[str, tuple[int, int]]

ALL = "all rows"  # the label of rows that have none
SUFFIX = 64  # characters that OpenAI allows


@dataclass(frozen=True)
class Finetuned:
    """The fine-tuned program, and where it came from.

    Attributes:
        program: As it is to be served: the instructions that were trained on, the fine-tuned LM attached; without
            demonstrations, unless ``better_together`` ends with a prompt step.
        model: The fine-tuned model's id, without a prefix.
        training_file: The bytes of the training file, JSON Lines.
        validation_file: The bytes of the validation file, if there was one.
        job: What the endpoint told of the job.
        kept: For each label, how many training rows were kept, and how many there were; empty for a user's recipe.
        notes: Sentences for the report.
        trained_on: The ids of the data's rows that were trained on; empty where that is not known.
        taught: The mean score of the answers that were trained on, higher better; 1 for gold labels.
        seeds: The mean dev score of the model of each seed, higher better, where the task sets several.
    """

    program: dspy.Module
    model: str
    training_file: bytes
    validation_file: bytes | None
    job: JobFacts
    kept: Kept
    notes: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()
    taught: float = 1.0
    seeds: Mapping[int, float] = field(default_factory=dict)


class Build:
    """One build of one task, with one seed for its job.

    ``kept``, ``trained_on``, ``taught`` and ``validation`` are those of the last rows that were collected.
    """

    def __init__(
        self, task: Task, endpoint: Endpoint, runner: JobRunner, report: Report, concurrency: int, seed: int
    ) -> None:
        self.task = task
        self.endpoint = endpoint
        self.report = report
        self.concurrency = concurrency
        self.seed = seed
        self.adapter = task.make_adapter()
        self.checkpoints = Checkpoints(runner.journal.path.parent, endpoint)
        self.provider = job_provider(runner, self._file, self._request)
        self.validation: bytes | None = None
        self.kept: Kept = {}
        self.trained_on: tuple[str, ...] = ()
        self.taught = 1.0

    def student(self, program: dspy.Module) -> dspy.Module:
        """A copy of a program that asks the model which is to be tuned, and can have it tuned."""
        lm = self.endpoint.lm(self.task.student, provider=self.provider, **self.task.decoding())
        return attach(program, lm)

    def traces(self, student: dspy.Module, teacher: dspy.Module, examples: Sequence[dspy.Example]) -> Rows:
        """Rows of the teacher's answers that the metric accepts, those of an earlier run where it kept any."""
        model = teacher.get_lm().model.removeprefix(PREFIX)
        parts = [self._facts(), *map(program_fingerprint, (student, teacher)), model]
        kept = self.checkpoints.get("traces", parts)
        if kept is None:
            kept = self._asked(model, student, teacher, examples)
            self.checkpoints.put("traces", parts, kept)
        else:
            self.report(f"Taking up the answers of {model} that an earlier run has kept.")
        self.kept = {label: (part, whole) for label, part, whole in kept["kept"]}
        self.trained_on, self.taught = tuple(kept.get("trained_on", ())), kept.get("taught", 1.0)
        self.watch(student)
        return list(kept["rows"])

    def labels(self, student: dspy.Module, _: dspy.Module, __: Sequence[dspy.Example]) -> Rows:
        """Rows of the gold answers."""
        rows = self.task.dataset.rows("train")
        self.kept = count_kept([row.label or ALL for row in rows], [True] * len(rows))
        self.trained_on = tuple(row.row_id for row in rows)
        self.watch(student)
        return written(self.adapter, student, [gold_calls(student, row, without_reasoning=True) for row in rows])

    def watch(self, student: dspy.Module) -> None:
        """Take the dev split for the validation file, where it holds all that the program gives."""
        labelled = self.task.recipe == "labels"
        self.validation = gold_file(self.adapter, student, self.task.dataset.rows("dev"), without_reasoning=labelled)

    def finished(self, program: dspy.Module, *notes: str, reworded: bool = False) -> Finetuned:
        """What a program is served as, if its model was trained, and on the prompts that it is asked with.

        Args:
            program: What the recipe ended on; all of its predictors ask one model.
            notes: Sentences for the report.
            reworded: Whether its prompts were optimized after its model was trained, as a strategy may ask for.

        Raises:
            TrainingError: If it is the model that the recipe began with, or it is asked in other words.
        """
        model = program.get_lm().model.removeprefix(PREFIX)
        training = {facts.model: (content, facts) for content, facts in self.provider.outcomes}
        if model not in training:
            raise TrainingError(
                f"the recipe {self.task.recipe_name!r} ended on the model it began with ({model})"
                + "".join(f"; {note}" for note in notes)
                + f". Trained and kept: {', '.join(training) or 'nothing'}. "
                "Next: recipe='labels' or 'distill', or more training rows"
            )
        content, facts = training[model]
        served = attach(program, self.endpoint.lm(model, **self.task.decoding()))
        notes = (*notes, *self._prompt_notes(served, content, reworded))
        return Finetuned(
            served, model, content, self.validation, facts, self.kept, notes, self.trained_on, self.taught
        )

    def _prompt_notes(self, program: dspy.Module, training: bytes, reworded: bool) -> tuple[str, ...]:
        served, trained = served_prompts(program, self.adapter), system_prompts(training)
        if reworded:
            other = [name for name, prompt in served.items() if prompt not in trained]
            words = "asked with a prompt that was optimized after its model was trained"
        else:
            mixed = mixed_prompts(self.task)
            own = [prompt for prompt in trained if prompt in served.values() or prompt not in mixed]
            other = check_prompts(served, own, f"the recipe {self.task.recipe_name!r}")
            words = "in no training row: no kept answer came from it"
        for name in other:
            self.report(f"Predictor {name!r} is {words}.")
        return tuple(f"predictor {name!r} is {words}" for name in other)

    def _facts(self) -> list[Any]:
        task = self.task
        judge = [task.scorer.fingerprint(), task.scorer.threshold]
        lenient = task.scorer.bootstrap and task.scorer.bootstrap.fingerprint()
        return [task.dataset.fingerprint("train"), judge, lenient, task.adapter, task.decoding(), task.seed]

    def _asked(
        self, model: str, student: dspy.Module, teacher: dspy.Module, examples: Sequence[dspy.Example]
    ) -> dict[str, Any]:
        rows = zip(self.task.dataset.train, self.task.dataset.rows("train"), strict=True)
        row_of = {id(example): row for example, row in rows}
        self.report(f"Asking {model} about {len(examples):,} training rows.")
        collected = collect(
            teacher,
            examples,
            [row_of[id(example)].label or ALL for example in examples],
            metric=self.task.scorer,
            adapter=self.adapter,
            concurrency=self.concurrency,
        )
        advice = more_rows(self.task, collected.judged)
        if not collected.recording:
            raise TrainingError(f"{collected.nothing(self.task.scorer.name)}: nothing was uploaded. Next: {advice}")
        self.report(collected.sentence())
        if len(collected.recording) < min(ENOUGH, len(examples) / 2):
            self.report(f"Few rows have survived. What gets more of them: {advice}.")
        return {
            "rows": written(self.adapter, student, collected.recording),
            "kept": [[label, *counts] for label, counts in collected.kept.items()],
            "trained_on": [row_of[id(run.example)].row_id for run in collected.judged if run.accepted],
            "taught": mean_score([run for run in collected.judged if run.accepted], self.task.scorer),
        }

    def _file(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """The training file: the task's rows and those that are mixed in, in an order that depends on neither."""
        if len(rows) < FEWEST_ROWS:
            raise TrainingError(
                f"{len(rows)} rows are left to train on, and a job needs at least {FEWEST_ROWS}: nothing was "
                f"uploaded. Next: {more_rows(self.task)}"
            )
        mixed = mixed_rows(self.task, len(rows))
        if mixed:
            self.report(f"Mixing in {len(mixed):,} rows of other work with {len(rows):,} of the task.")
        content = to_jsonl([*rows, *mixed])
        check_file(content, "training")
        if self.validation is not None:
            check_file(self.validation, "validation")
        return content

    def _request(self, model: str, training: bytes, hyperparameters: Mapping[str, Any]) -> JobRequest:
        chosen = {**self.task.hyperparameters, **hyperparameters}
        return JobRequest(
            model,
            training,
            validation=self.validation,
            checkpoint=chosen.pop(CHECKPOINT, "last"),
            seed=self.seed,
            suffix=(self.task.suffix or self.task.id)[:SUFFIX],
            hyperparameters=chosen,
        )


def models_of(program: dspy.Module) -> list[str]:
    """The ids of the models that a program's predictors ask, each once; ``none`` for one that asks no model."""
    lms = (part.lm for part in predictors(program).values())
    return sorted({lm.model.removeprefix(PREFIX) if lm is not None else "none" for lm in lms})

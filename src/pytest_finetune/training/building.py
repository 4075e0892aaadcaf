"""What all recipes share: the student with its provider, the rows, the job, and the check of what came of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pytest_finetune.core.diagnosis import ENOUGH
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import TrainingError
from pytest_finetune.programs import attach, predictors, program_fingerprint
from pytest_finetune.training.advice import more_rows
from pytest_finetune.training.bootstrap import EVERY, Recording, collect, count_kept
from pytest_finetune.training.checkpoints import Checkpoints
from pytest_finetune.training.contents import check_file, check_prompts, method_of, served_prompts, system_prompts
from pytest_finetune.training.jobs import JobFacts, JobRequest, JobRunner
from pytest_finetune.training.mixing import mixed_prompts, mixed_rows
from pytest_finetune.training.preferences import compare, preference_row
from pytest_finetune.training.provider import FEWEST_ROWS, PREFIX, job_provider
from pytest_finetune.training.request import CHECKPOINT, PREDICTOR, mark_of
from pytest_finetune.training.rows import gold_calls, gold_file, to_jsonl, written
from pytest_finetune.training.runs import mean_score, run_program
from pytest_finetune.training.steady import Report

if TYPE_CHECKING:
    import dspy

    from pytest_finetune.task import Task

Rows = list[dict[str, Any]]
Kept = Mapping[str, tuple[int, int]]

ALL = "all rows"  # the label of rows that have none
SUFFIX = 64  # characters that OpenAI allows


@dataclass(frozen=True, slots=True)
class Trained:
    """A fine-tuned model, and where it came from.

    Attributes:
        model: Its id, without a prefix.
        training_file: The bytes of the training file, JSON Lines.
        job: What the endpoint told of the job.
    """

    model: str
    training_file: bytes
    job: JobFacts


@dataclass(frozen=True)
class Finetuned:
    """The fine-tuned program, and where it came from.

    Attributes:
        program: As it is to be served: the instructions that were trained on, the fine-tuned LMs attached; without
            demonstrations, unless ``better_together`` ends with a prompt step.
        models: The fine-tuned models by the predictors that ask them; under `EVERY` the one that all ask.
        kept: For each label, how many training rows were kept, and how many there were; empty for a user's recipe.
        notes: Sentences for the report.
        trained_on: The ids of the data's rows that were trained on; empty where that is not known.
        taught: The mean score of the answers that were trained on, higher better; 1 for gold labels.
        seeds: The mean dev score of the model of each seed, higher better, where the task sets several.
    """

    program: dspy.Module
    models: Mapping[str, Trained]
    kept: Kept
    notes: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()
    taught: float = 1.0
    seeds: Mapping[int, float] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The ids of its models, as messages say them."""
        return ",".join(dict.fromkeys(trained.model for trained in self.models.values()))


class Build:
    """One build of one task, with one seed for its jobs.

    ``kept``, ``trained_on``, ``taught`` and ``validation`` are those of the last rows that were collected. Rows and
    files are by predictor, or, where all train one model, under `EVERY`.
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
        self._runner = runner
        self.provider = job_provider(runner, self._file, self._request)
        self.multitask = bool(task.recipe_options.get("multitask", True))
        self.validation: Mapping[str, bytes | None] = {}
        self.kept: Kept = {}
        self.trained_on: tuple[str, ...] = ()
        self.taught = 1.0

    def student(self, program: dspy.Module) -> dspy.Module:
        """A copy of a program that asks the model which is to be tuned, and can have it tuned."""
        lm = self.endpoint.lm(self.task.student, provider=self.provider, **self.task.decoding())
        return attach(program, lm)

    def traces(
        self, student: dspy.Module, teacher: dspy.Module, examples: Sequence[dspy.Example]
    ) -> Mapping[str, Rows]:
        """Rows of the teacher's answers that the metric accepts, those of an earlier run where it kept any."""
        model = teacher.get_lm().model.removeprefix(PREFIX)
        parts = [self._facts(), *map(program_fingerprint, (student, teacher)), model]
        kept = self.checkpoints.get("calls", parts)
        if kept is None:
            kept = self._asked(model, student, teacher, examples)
            self.checkpoints.put("calls", parts, kept)
        else:
            self.report(f"Taking up the answers of {model} that an earlier run has kept.")
        self._keep(kept)
        self.watch(student)
        return self._jobs(student, kept["rows"])

    def _keep(self, kept: Mapping[str, Any]) -> None:
        self.kept = {label: (part, whole) for label, part, whole in kept["kept"]}
        self.trained_on, self.taught = tuple(kept.get("trained_on", ())), kept.get("taught", 1.0)

    def preferences(
        self, student: dspy.Module, better: dspy.Module, examples: Sequence[dspy.Example]
    ) -> Mapping[str, Rows]:
        """Pairs of the answers of the student and of a better program that the metric tells apart."""
        models = [program.get_lm().model.removeprefix(PREFIX) for program in (student, better)]
        parts = [self._facts(), *map(program_fingerprint, (student, better)), *models]
        kept = self.checkpoints.get("pairs", parts)
        if kept is None:
            kept = self._compared(models, student, better, examples)
            self.checkpoints.put("pairs", parts, kept)
        else:
            self.report(f"Taking up the answers of {' and '.join(models)} that an earlier run has kept.")
        self._keep(kept)
        return self._jobs(student, kept["rows"])

    def labels(self, student: dspy.Module, _: dspy.Module, __: Sequence[dspy.Example]) -> Mapping[str, Rows]:
        """Rows of the gold answers."""
        rows = self.task.dataset.rows("train")
        self.kept = count_kept([row.label or ALL for row in rows], [True] * len(rows))
        self.trained_on = tuple(row.row_id for row in rows)
        self.watch(student)
        recording = [gold_calls(student, row, without_reasoning=True) for row in rows]
        return self._jobs(student, self._written(student, recording))

    def watch(self, student: dspy.Module) -> None:
        """Take the dev split for the validation files, where it holds all that the program, or a predictor, gives."""
        rows, labelled = self.task.dataset.rows("dev"), self.task.recipe == "labels"
        parts = {EVERY: student} if self.multitask else predictors(student)
        self.validation = {
            name: gold_file(self.adapter, part, rows, without_reasoning=labelled) for name, part in parts.items()
        }
        for content in self.validation.values():
            check_file(content or b"", "validation")

    def finished(self, program: dspy.Module, *notes: str, reworded: bool = False) -> Finetuned:
        """What a program is served as, if its models were trained, and on the prompts that they are asked with.

        Args:
            program: What the recipe ended on.
            notes: Sentences for the report.
            reworded: Whether its prompts were optimized after its model was trained, as a strategy may ask for.

        Raises:
            TrainingError: If a predictor asks a model that was not trained, or one that was trained on other words.
        """
        asked = asked_models(program)
        outcomes = {facts.model: (content, facts) for content, facts in self.provider.outcomes}
        self._check_trained(asked, outcomes, notes)
        lms = {model: self.endpoint.lm(model, **self.task.decoding()) for model in asked.values()}
        served = attach(program, {name: lms[model] for name, model in asked.items()})
        shared = dict.fromkeys(asked.values(), EVERY) if len(lms) == 1 else {}
        models = {
            shared.get(model, name): Trained(model, content, facts)
            for name, model in asked.items()
            for content, facts in [outcomes[model]]
        }
        notes = (*notes, *self._prompt_notes(served, models, reworded))
        return Finetuned(served, models, self.kept, notes, self.trained_on, self.taught)

    def _check_trained(self, asked: Mapping[str, str], trained: Iterable[str], notes: Sequence[str]) -> None:
        before = {name: model for name, model in asked.items() if model not in set(trained)}
        if not before:
            return
        whose = "" if len(before) == len(asked) else f" in its predictors {', '.join(before)}"
        raise TrainingError(
            f"the recipe {self.task.recipe_name!r} ended{whose} on the model it began with "
            f"({', '.join(dict.fromkeys(before.values()))})"
            + "".join(f"; {note}" for note in notes)
            + f". Trained and kept: {', '.join(trained) or 'nothing'}. "
            "Next: recipe='labels' or 'distill', or more training rows"
        )

    def _validation(self, predictor: str, training: bytes) -> bytes | None:
        """The validation file of a predictor's model; gold answers alone are no pairs to measure a preference on."""
        if method_of(training) == "dpo":
            return None
        return self.validation.get(predictor, self.validation.get(EVERY))

    def _prompt_notes(self, program: dspy.Module, models: Mapping[str, Trained], reworded: bool) -> tuple[str, ...]:
        """Hold the prompts of each model's predictors against those in its training file."""
        served, mixed, other = served_prompts(program, self.adapter), mixed_prompts(self.task), list[str]()
        words = "in no training row: no kept answer came from it"
        if reworded:
            words = "asked with a prompt that was optimized after its model was trained"
        for predictor, trained in models.items():
            sent = served if predictor == EVERY else {predictor: served[predictor]}
            held = system_prompts(trained.training_file)
            if reworded:
                other += [name for name, prompt in sent.items() if prompt not in held]
            else:
                own = [prompt for prompt in held if prompt in sent.values() or prompt not in mixed]
                other += check_prompts(sent, own, f"the recipe {self.task.recipe_name!r}")
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
            "rows": self._written(student, collected.recording),
            "kept": [[label, *counts] for label, counts in collected.kept.items()],
            "trained_on": [row_of[id(run.example)].row_id for run in collected.judged if run.accepted],
            "taught": mean_score([run for run in collected.judged if run.accepted], self.task.scorer),
        }

    def _compared(
        self, models: Sequence[str], student: dspy.Module, better: dspy.Module, examples: Sequence[dspy.Example]
    ) -> dict[str, Any]:
        """Ask both programs about the training rows, and write the pairs that differ."""
        rows = self.task.dataset.rows("train")
        self.report(f"Asking {' and '.join(models)} about {len(examples):,} training rows each.")
        asked = {"adapter": self.adapter, "concurrency": self.concurrency}
        ours, theirs = (run_program(program, examples, **asked) for program in (student, better))
        found = compare(ours, theirs, (student, better), self.task.scorer)
        told = [bool(one.pairs) for one in found]
        kept = count_kept([row.label or ALL for row in rows], told)
        self.report(f"The metric prefers one of two answers on {sum(told):,} of {len(rows):,} training rows.")
        signatures = {name: part.signature for name, part in predictors(student).items()}
        pairs = [pair for one in found for pair in one.pairs]
        return {
            "rows": {
                name: [preference_row(self.adapter, signature, pair) for pair in pairs if pair[0][0] == name]
                for name, signature in signatures.items()
            },
            "kept": [[label, *counts] for label, counts in kept.items()],
            "trained_on": [row.row_id for row, good in zip(rows, told, strict=True) if good],
            "taught": fmean([one.score for one in found if one.pairs] or [0.0]),
        }

    def _written(self, student: dspy.Module, recording: Recording) -> dict[str, Rows]:
        """The rows of each predictor: those of the calls that it made, wherever they stand in a trace."""
        return {
            name: written(self.adapter, student, [[call for call in calls if call[0] == name] for calls in recording])
            for name in predictors(student)
        }

    def _jobs(self, student: dspy.Module, rows: Mapping[str, Rows]) -> Mapping[str, Rows]:
        """The rows of each job; all are checked, and their costs set aside, before the first is paid for."""
        jobs = {EVERY: [row for part in rows.values() for row in part]} if self.multitask else rows
        for name, part in jobs.items():
            self._check_called(part, name)
            self._check_enough(part, name)
            check_file(to_jsonl(part), "training")
        if not self.multitask:
            counts = ", ".join(f"{name} ({len(part):,} rows)" for name, part in jobs.items())
            self.report(f"Training a model for each predictor: {counts}.")
        self._set_aside(student, jobs)
        return jobs

    def _set_aside(self, student: dspy.Module, jobs: Mapping[str, Rows]) -> None:
        """Set aside what all jobs cost, also those of other seeds, where these train on the same rows."""
        asked = asked_models(student)
        shared = next(iter(asked.values()))
        requests = [
            self._request(asked.get(name, shared), self._content(rows), {PREDICTOR: name})
            for name, rows in jobs.items()
        ]
        alike = () if self.task.recipe == "better_together" else self.task.seeds
        self._runner.set_aside([replace(one, seed=seed) for seed in alike or (self.seed,) for one in requests])

    def _check_called(self, rows: Sequence[object], predictor: str) -> None:
        if rows or predictor == EVERY or self.task.recipe == "dpo":  # dpo drops pairs
            return
        raise TrainingError(
            f"predictor {predictor!r} was never called on {len(self.trained_on):,} training rows whose answers were "
            "kept, so that there is nothing to train its own model on: nothing was uploaded. Next: one model for all "
            "predictors (recipe_options={'multitask': True}), or a program without that predictor"
        )

    def _check_enough(self, rows: Sequence[object], predictor: str = EVERY) -> None:
        if len(rows) >= FEWEST_ROWS:
            return
        whose = f" for predictor {predictor!r}" if predictor else ""
        instead = "one model for all predictors (recipe_options={'multitask': True}); or " if predictor else ""
        raise TrainingError(
            f"{len(rows)} rows are left to train on{whose}, and a job needs at least {FEWEST_ROWS}: nothing was "
            f"uploaded. Next: {instead}{more_rows(self.task)}"
        )

    def _file(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """The training file of a job, once it is checked."""
        self._check_enough(rows)
        content = self._content(rows)
        mixed = content.count(b"\n") - len(rows)
        if mixed:
            self.report(f"Mixing in {mixed:,} rows of other work with {len(rows):,} of the task.")
        check_file(content, "training")
        return content

    def _content(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """The task's rows and those that are mixed in, in an order that depends on neither."""
        return to_jsonl([*rows, *mixed_rows(self.task, len(rows))])

    def _request(self, model: str, training: bytes, hyperparameters: Mapping[str, Any]) -> JobRequest:
        chosen = {**self.task.hyperparameters, **hyperparameters}
        predictor = chosen.pop(PREDICTOR, EVERY)
        return JobRequest(
            model,
            training,
            validation=self._validation(predictor, training),
            method=method_of(training),
            checkpoint=chosen.pop(CHECKPOINT, "last"),
            seed=self.seed,
            suffix=_suffix(self.task.suffix or self.task.id.replace("/", "-"), predictor),
            hyperparameters=chosen,
            predictor=predictor,
            task=mark_of(self.task),
        )


def _suffix(task: str, predictor: str) -> str:
    """The task's name, and the predictor's, which tells its models apart."""
    name = re.sub(r"\W+", "-", predictor).strip("-")
    return f"{task[: SUFFIX - 1 - len(name)]}-{name}"[:SUFFIX] if name else task[:SUFFIX]


def asked_models(program: dspy.Module) -> dict[str, str]:
    """The id of the model that each predictor of a program asks; ``none`` for one that asks no model."""
    lms = {name: part.lm for name, part in predictors(program).items()}
    return {name: lm.model.removeprefix(PREFIX) if lm is not None else "none" for name, lm in lms.items()}

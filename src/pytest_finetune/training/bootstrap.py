"""``dspy.BootstrapFinetune`` without its traps: it trains on a recording that was checked first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_finetune.errors import TrainingError
from pytest_finetune.programs import predictors
from pytest_finetune.training.request import PREDICTOR
from pytest_finetune.training.rows import Call
from pytest_finetune.training.runs import Run, failure_note, judge, quiet, run_program
from pytest_finetune.training.steady import Pending

if TYPE_CHECKING:
    import dspy

    from pytest_finetune.metrics import Metric

EVERY = ""
"""In a mapping by predictor, it stands for all of them."""

Recording = Sequence[Sequence[Call]]
"""For each row of the data that is trained on, the calls of its predictors."""

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""The rows of each job, by the predictor that its model is for; `EVERY`: for all predictors."""

Collect = Callable[["dspy.Module", "dspy.Module", Sequence["dspy.Example"]], Rows]
"""Takes the student, the teacher and the examples."""


@dataclass(frozen=True, slots=True)
class Collected:
    """Traces of a program on the training rows.

    Attributes:
        recording: The calls of the rows that were accepted, in the rows' order.
        kept: For each label, how many of its rows were accepted, and how many there were.
        notes: Sentences on rows that gave no prediction, if there were any.
        judged: What was asked, row by row.
    """

    recording: Recording
    kept: Mapping[str, tuple[int, int]]
    notes: tuple[str, ...]
    judged: tuple[Run, ...]

    def sentence(self) -> str:
        """What was kept, in one sentence, and in one line for each label."""
        kept, total = (sum(counts) for counts in zip(*self.kept.values(), strict=True))
        lines = [f"Kept {kept:,} of {total:,} training rows{' per label:' if len(self.kept) > 1 else '.'}"]
        if len(self.kept) > 1:
            lines += [f"  {label}: {part} of {whole}" for label, (part, whole) in self.kept.items()]
        return "\n".join([*lines, *self.notes])

    def nothing(self, metric: str) -> str:
        """That no row was kept, as the beginning of a message."""
        noted = "".join(f" ({note})" for note in self.notes)
        return f"none of {len(self.judged):,} training rows got an answer that {metric} accepts{noted}"


def collect(
    program: dspy.Module,
    examples: Sequence[dspy.Example],
    labels: Sequence[str],
    *,
    metric: Metric,
    adapter: dspy.Adapter,
    concurrency: int,
) -> Collected:
    """Run a program over the training rows, and keep the traces that the metric accepts.

    Args:
        program: With its LMs attached.
        examples: The rows.
        labels: The label of each row, for the count.
        metric: ``metric.accepts`` decides; see `Metric.accepts` for its threshold.
        adapter: How prompts are written.
        concurrency: Calls at once.

    Raises:
        TrainingError: If a row was lost to the endpoint.
    """
    runs = run_program(program, examples, adapter=adapter, concurrency=concurrency)
    judged = tuple(judge(run, metric) for run in runs)
    names = {id(predictor): name for name, predictor in predictors(program).items()}
    return Collected(
        tuple(calls_of(run, names) for run in judged if run.accepted),
        count_kept(labels, [run.accepted for run in judged]),
        failure_note(judged, "training"),
        judged,
    )


def count_kept(labels: Sequence[str], accepted: Sequence[bool]) -> dict[str, tuple[int, int]]:
    """For each label, by name: how many rows were accepted, and how many there were."""
    total = Counter(labels)
    kept = Counter(label for label, good in zip(labels, accepted, strict=True) if good)
    return {label: (kept[label], total[label]) for label in sorted(total)}


def calls_of(run: Run, names: Mapping[int, str]) -> list[Call]:
    """What the predictors of a program did in a run, by the names that these have by their ``id``."""
    unknown = [call[0] for call in run.trace if id(call[0]) not in names]
    if unknown:
        raise TrainingError(
            f"the program calls a predictor that is none of its own ({unknown[0].signature}): make predictors in "
            "__init__, as attributes of the program, so that they can be tuned"
        )
    return [(names[id(predictor)], dict(inputs), dict(outputs)) for predictor, inputs, outputs in run.trace]


def bootstrap_finetune(collect_rows: Collect) -> Any:
    """Give a ``dspy.BootstrapFinetune`` that trains on rows which were collected, checked and written by us.

    DSPy's own dies of one failing row, trains on any score but 0 and on the teacher's instructions, and takes the
    place of a call in the trace for the predictor that made it.

    Args:
        collect_rows: Collects and writes them; without a teacher, it is given the student as one.
    """
    import dspy
    from dspy.clients.utils_finetune import TrainDataFormat

    class CheckedFinetune(dspy.BootstrapFinetune):  # type: ignore[misc]  # dspy ships no types
        def compile(self, student: Any, trainset: Any, teacher: Any = None, valset: Any = None) -> Any:  # noqa: ARG002
            rows, parts = collect_rows(student, teacher or student, trainset), predictors(student)
            jobs = {}
            with quiet():
                for name, part in rows.items():
                    lm = student.get_lm() if name == EVERY else parts[name].lm
                    jobs[name] = lm.finetune(part, TrainDataFormat.CHAT, {PREDICTOR: name})
                tuned = dict(zip(jobs, _ended([job.result() for job in jobs.values()]), strict=True))
            for name, part in parts.items():
                part.lm, part.demos = tuned[EVERY if EVERY in tuned else name], []
            return student

    return CheckedFinetune()


def _ended(results: Sequence[Any]) -> Sequence[Any]:
    """The LMs that came of jobs, which give their errors as results; a failed one says more than one that goes on."""
    errors = [result for result in results if isinstance(result, Exception)]
    for error in errors:
        if not isinstance(error, Pending):
            raise error
    if errors:
        raise Pending("\n".join(map(str, errors)))
    return results

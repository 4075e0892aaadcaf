"""``dspy.BootstrapFinetune`` without its traps: it trains on a recording that was checked first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_finetune.errors import TrainingError
from pytest_finetune.programs import predictors
from pytest_finetune.training.rows import Call
from pytest_finetune.training.runs import Run, failure_note, judge, quiet, run_program

if TYPE_CHECKING:
    import dspy

    from pytest_finetune.metrics import Metric

Recording = Sequence[Sequence[Call]]
"""For each row of the data that is trained on, the calls of its predictors."""

Collect = Callable[["dspy.Module", "dspy.Module", Sequence["dspy.Example"]], Sequence[Mapping[str, Any]]]
"""Takes the student, the teacher and the examples, and gives rows of a training file."""


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
        tuple(_calls(run, names) for run in judged if run.accepted),
        count_kept(labels, [run.accepted for run in judged]),
        failure_note(judged, "training"),
        judged,
    )


def count_kept(labels: Sequence[str], accepted: Sequence[bool]) -> dict[str, tuple[int, int]]:
    """For each label, by name: how many rows were accepted, and how many there were."""
    total = Counter(labels)
    kept = Counter(label for label, good in zip(labels, accepted, strict=True) if good)
    return {label: (kept[label], total[label]) for label in sorted(total)}


def _calls(run: Run, names: Mapping[int, str]) -> list[Call]:
    unknown = [call[0] for call in run.trace if id(call[0]) not in names]
    if unknown:
        raise TrainingError(
            f"the program calls a predictor that is none of its own ({unknown[0].signature}): make predictors in "
            "__init__, as attributes of the program, so that they can be tuned"
        )
    return [(names[id(predictor)], dict(inputs), dict(outputs)) for predictor, inputs, outputs in run.trace]


def bootstrap_finetune(collect_rows: Collect, concurrency: int) -> Any:
    """Give a ``dspy.BootstrapFinetune`` that trains on rows which were collected, checked and written by us.

    What DSPy's own does badly is done before it starts: the teacher is run by us, so that one failing row does not
    end everything, and ``Metric.accepts`` decides instead of any score but 0. DSPy then meets a teacher that says
    the rows by heart. Rows carry the served program's instructions and no demonstrations, calls are assigned to
    predictors by name, and all predictors share one fine-tuned model.

    Args:
        collect_rows: Collects and writes them; without a teacher, it is given the student as one.
        concurrency: Threads.
    """
    import dspy

    class RowWriter(dspy.ChatAdapter):  # type: ignore[misc]  # dspy ships no types
        def format_finetune_data(self, signature: Any, demos: Any, inputs: Any, outputs: Any) -> Any:  # noqa: ARG002
            return inputs["row"]

    class CheckedFinetune(dspy.BootstrapFinetune):  # type: ignore[misc]  # dspy ships no types
        def compile(self, student: Any, trainset: Any, teacher: Any = None, valset: Any = None) -> Any:  # noqa: ARG002
            rows = collect_rows(student, teacher or student, trainset)
            examples = [dspy.Example(row=row).with_inputs("row") for row in rows]
            with quiet():
                tuned = super().compile(student, trainset=examples, teacher=_by_heart(student))
            tuned._compiled = False  # noqa: SLF001  # or its predictors are hidden from what comes next
            return tuned

    return CheckedFinetune(adapter=RowWriter(), exclude_demos=True, num_threads=concurrency)


def _by_heart(student: dspy.Module) -> dspy.Module:
    import dspy

    teacher = student.deepcopy()
    predictor = teacher.predictors()[0]

    def forward(row: Mapping[str, Any]) -> dspy.Prediction:
        dspy.settings.trace.append((predictor, {"row": row}, {}))
        return dspy.Prediction(row=row)

    teacher.forward = forward
    return teacher

"""A recipe of the user's own: a DSPy teleprompter whose jobs run as all others do, and whose outcome is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_finetune.errors import FinetuneError, TrainingError, UsageError
from pytest_finetune.programs import dump_state, load_state
from pytest_finetune.training.building import Build, Finetuned
from pytest_finetune.training.optimizers import taken
from pytest_finetune.training.runs import LostCalls, quiet

if TYPE_CHECKING:
    import dspy


def own_recipe(build: Build, program: dspy.Module, teacher: dspy.Module | None) -> Finetuned:
    """Run the function that a task gives as its recipe.

    It takes the task and gives a teleprompter. That one's ``compile`` is given a copy of the prompt-optimized
    program, and as many of ``trainset``, ``valset`` and ``teacher`` as it takes; where it fine-tunes the program's
    LM, by ``dspy.BootstrapFinetune`` or by ``lm.finetune``, the job is written down, found again, and paid for once.

    Args:
        build: The build.
        program: The prompt-optimized program.
        teacher: The teacher's program, where the task has a teacher.

    Raises:
        TrainingError: If it fails, or what it gives is not the task's program with models that it has tuned, or
            one of them is asked in other words than it was trained on.
    """
    import dspy

    task, name, student = build.task, build.task.recipe_name, build.student(program)
    lost = LostCalls(f"the recipe {name}")
    build.watch(student)
    context = {"lm": student.get_lm(), "adapter": build.adapter, "disable_history": True}
    with quiet(), dspy.context(callbacks=[lost.callback()], **context):
        try:
            found = _compiled(build, student, teacher)
        except Exception as error:
            known = next((one for one in (error, error.__cause__) if isinstance(one, FinetuneError)), None)
            if known is not None:
                raise known from None
            lost.check()
            raise TrainingError(f"the recipe {name} failed: {type(error).__name__}: {error}") from error
    lost.check()
    _check(task.program(), found, name)
    return build.finished(found)


def _compiled(build: Build, student: dspy.Module, teacher: dspy.Module | None) -> Any:
    data, recipe = build.task.dataset, build.task.recipe
    assert callable(recipe)  # noqa: S101  # or a recipe of ours would run
    teleprompter = recipe(build.task)
    offered = {"trainset": list(data.train), "valset": list(data.dev), "teacher": teacher}
    return teleprompter.compile(student, **taken(teleprompter.compile, offered))


def _check(program: dspy.Module, found: Any, name: str) -> None:
    import dspy

    if not isinstance(found, dspy.Module):
        raise TrainingError(f"the recipe {name} gave a {type(found).__name__}: its compile must give the program")
    try:
        load_state(program, dump_state(found))
    except (FinetuneError, UsageError) as error:
        raise TrainingError(f"the recipe {name} gave another program than the task's: {error}") from error

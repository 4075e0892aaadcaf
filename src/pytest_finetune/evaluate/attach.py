"""A stage's program with engines below its LMs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_finetune.calls.engine import Calling, Engine, below
from pytest_finetune.errors import UsageError

if TYPE_CHECKING:
    import dspy


def attach(program: dspy.Module, stage: str, calling: Calling) -> tuple[dspy.Module, list[dspy.LM]]:
    """Put an engine below every LM of a copy of the program.

    Args:
        program: With an LM of `Endpoint.lm` on every predictor.
        stage: Its name, for messages.
        calling: How its models are asked.

    Returns:
        The copy, and its LMs.

    Raises:
        UsageError: If a predictor has no LM, or one that cannot be asked in this way.
    """
    copy = program.deepcopy()
    made: dict[int, dspy.LM] = {}
    for (name, theirs), (_, ours) in zip(program.named_predictors(), copy.named_predictors(), strict=True):
        if id(theirs.lm) not in made:  # a copy of the program has a copy of the LM in each predictor
            made[id(theirs.lm)] = below(theirs.lm, Engine(_usable(theirs.lm, stage, name), calling))
        ours.lm = made[id(theirs.lm)]
    if not made:
        raise UsageError(f"stage {stage}: the program has no predictor, so there is nothing to evaluate")
    return copy, list(made.values())


def _usable(lm: Any, stage: str, predictor: str) -> Any:
    import dspy

    where = f"stage {stage}, predictor {predictor}"
    if lm is None:
        raise UsageError(f"{where}: it has no LM; attach one to the program first")
    if type(lm) is not dspy.LM or lm.model_type != "chat" or not hasattr(lm, "endpoint"):
        raise UsageError(f"{where}: its LM {getattr(lm, 'model', lm)!r} does not come from an endpoint (Endpoint.lm)")
    return lm

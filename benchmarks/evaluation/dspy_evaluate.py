"""The peer: dspy.Evaluate over the three stages, one after the other, as DSPy's own tutorials do it.

    python benchmarks/evaluation/dspy_evaluate.py BASE_URL ROWS CONCURRENCY [--cache]

With ``--cache``, DSPy's own caches are on; the disk cache is where DSPY_CACHEDIR says.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Literal

import dspy
from tickets import STAGES, ticket


class Classify(dspy.Signature):  # type: ignore[misc]  # dspy ships no types
    """Classify the support ticket."""

    text: str = dspy.InputField()
    category: Literal["billing", "shipping", "account", "technical", "other"] = dspy.OutputField()


def exact(example: Any, prediction: Any, trace: Any = None) -> float:  # noqa: ARG001  # DSPy's signature
    """Whether the answer is the label."""
    return float(prediction.category == example.category)


def main(url: str, rows: int, concurrency: int, *, cache: bool) -> None:
    """Evaluate, and print how many answers of each stage were right."""
    logging.getLogger("dspy").setLevel(logging.ERROR)
    data = [dspy.Example(ticket(number)).with_inputs("text") for number in range(rows)]
    right = {}
    for stage in STAGES:
        lm = dspy.LM(f"openai/{stage.model}", api_base=url, api_key="none", cache=cache, temperature=0)
        program = dspy.Predict(Classify.with_instructions(stage.instructions))
        with dspy.context(lm=lm):
            result = dspy.Evaluate(devset=data, metric=exact, num_threads=concurrency)(program)
        right[stage.name] = round(sum(score for *_, score in result.results))
    print(json.dumps(right))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), cache="--cache" in sys.argv)

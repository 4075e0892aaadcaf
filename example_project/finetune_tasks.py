"""What is tuned: two ways to a small model that sorts support tickets."""

from __future__ import annotations

from typing import Any, Literal

import dspy

from pytest_finetune import Dataset, Task, metrics

CATEGORIES = (
    "billing: charges, invoices, payments, refunds, prices, discounts; "
    "technical: errors, crashes, not working, broken, slow, blank; "
    "account: log in, password, users, access, admin; "
    "feature_request: wishes, suggestions, add an option, plans; "
    "other: internships, documentation, newsletters, praise, interviews, articles"
)


class ClassifyTicket(dspy.Signature):
    """Classify the support ticket."""

    text: str = dspy.InputField()
    category: Literal["billing", "technical", "account", "feature_request", "other"] = dspy.OutputField(
        desc=CATEGORIES
    )


def many_examples(task: Task) -> Any:
    """Fill the teacher's long context with examples: the best of a few draws."""
    return dspy.BootstrapFewShotWithRandomSearch(
        metric=task.metric, max_bootstrapped_demos=8, max_labeled_demos=48, num_candidate_programs=6
    )


# Shares of train, dev and test: enough for the test to certify small differences, and few to train on, since training
# files are committed with the lock.
TICKETS = Dataset.from_file("data/tickets.jsonl", inputs=["text"], shares=(55, 30, 15))

# The small model learns from those of its own answers that are right, once its prompts are as good as they get.
tickets = Task(
    program=lambda: dspy.Predict(ClassifyTicket),
    dataset=TICKETS,
    metric=metrics.exact_match("category"),
    student="sandbox-small",
    optimizer="miprov2",
    optimizer_options={"num_candidates": 12, "num_trials": 18},
    recipe="bootstrap",
)

# The small model learns from the right answers of a large one, whose prompts are long.
distilled = Task(
    program=lambda: dspy.Predict(ClassifyTicket),
    dataset=TICKETS,
    metric=metrics.exact_match("category"),
    student="sandbox-small",
    teacher="sandbox-large",
    teacher_optimizer=many_examples,
    optimizer="labeled_few_shot",
    recipe="distill",
)

"""What is measured on a row: the ready-made metrics, and ``as_metric`` for any function of yours.

All scores lie in [0, 1]. Every metric is a DSPy metric too: ``metric(example, prediction)``.
"""

from __future__ import annotations

from pytest_finetune.metrics.judge import Judge
from pytest_finetune.metrics.metric import Metric, as_metric, composite, judged
from pytest_finetune.metrics.structured import json_fields, json_valid, numeric, set_f1
from pytest_finetune.metrics.text import contains, exact_match, regex, token_f1

__all__ = [
    "Judge",
    "Metric",
    "as_metric",
    "composite",
    "contains",
    "exact_match",
    "json_fields",
    "json_valid",
    "judged",
    "numeric",
    "regex",
    "set_f1",
    "token_f1",
]

"""An entry with everything in it, to be varied."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from pytest_finetune.lock import Entry

MakeEntry = Callable[..., Entry]


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_entry(task: str = "tickets", stage: str = "finetuned", **changes: Any) -> Entry:
    fields: dict[str, Any] = {
        "task": task,
        "stage": stage,
        "model": f"ft:small:acme:{task}:0001",
        "base": "small",
        "endpoint": "acme https://models.acme.example/v1",
        "adapter": "chat",
        "recipe": "bootstrap",
        "optimizer": "miprov2",
        "seed": 7,
        "fingerprints": {"metric": sha("metric"), "program": sha("program"), "prompt": sha("prompt")},
        "data": {
            "train": sha("train"),
            "train_rows": 3200,
            "dev": sha("dev"),
            "dev_rows": 400,
            "test": sha("test"),
            "test_rows": 400,
        },
        "decoding": {"temperature": 0.0, "max_tokens": None},
        "params": {"threshold": 0.5, "n_epochs": 3},
        "score": {"mean": 0.9325, "n": 400, "format_errors": 2},
        "artifacts": {
            "program": f"sha256:{sha('state')}",
            "rows": f"sha256:{sha('rows')}",
            "training": f"sha256:{sha('training')}",
            "training_rows": 2987,
        },
        "job": {
            "id": "ftjob-1",
            "status": "succeeded",
            "created_at": 1795240000,
            "finished_at": 1795240360,
            "training_file": "file-1",
            "trained_tokens": 91234,
            "hyperparameters": {"n_epochs": 3, "batch_size": "auto"},
        },
        "gate": [
            {
                "claim": "finetuned >= prompt_optimized",
                "outcome": "PASS",
                "held": True,
                "method": "tango",
                "estimate": 0.0431,
                "lower": 0.0212,
                "upper": 0.0678,
                "margin": 0.02,
                "alpha": 0.05,
                "n": 400,
            }
        ],
        "env": {"python": "3.11.7", "dspy": "3.4.1"},
    }
    return Entry.model_validate(fields | changes)


@pytest.fixture
def entry() -> MakeEntry:
    return make_entry

"""Everything about a DSPy program that the rest needs: its state, its description, its fingerprints."""

from __future__ import annotations

from pytest_finetune.programs.annotations import allowed_values, type_name
from pytest_finetune.programs.description import (
    describe,
    literals_of,
    output_fields,
    program_fingerprint,
    prompt_fingerprint,
)
from pytest_finetune.programs.serving import served
from pytest_finetune.programs.state import attach, dump_state, load_state, modules, predictors

__all__ = [
    "allowed_values",
    "attach",
    "describe",
    "dump_state",
    "literals_of",
    "load_state",
    "modules",
    "output_fields",
    "predictors",
    "program_fingerprint",
    "prompt_fingerprint",
    "served",
    "type_name",
]

"""Serving what was tested: the pinned program, a share of users to a candidate, and a way back when a model fails.

Needs no pytest.
"""

from __future__ import annotations

from pytest_finetune.production.canary import Canary, Routed
from pytest_finetune.production.fallback import Fallback, Served
from pytest_finetune.production.loading import load
from pytest_finetune.production.rehearsal import rehearsal

__all__ = ["Canary", "Fallback", "Routed", "Served", "load", "rehearsal"]

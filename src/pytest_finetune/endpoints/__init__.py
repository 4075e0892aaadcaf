"""Endpoints: named, OpenAI-shaped addresses, and the two clients that speak to them."""

from __future__ import annotations

from pytest_finetune.endpoints.endpoint import NO_KEY, SANDBOX, Endpoint, Serving, scrub
from pytest_finetune.endpoints.rates import Rates, processes

__all__ = ["NO_KEY", "SANDBOX", "Endpoint", "Rates", "Serving", "processes", "scrub"]

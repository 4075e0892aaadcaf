"""One pytest run says whether your fine-tuned DSPy model still holds up."""

from __future__ import annotations

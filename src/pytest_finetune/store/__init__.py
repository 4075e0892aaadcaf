"""The row store: every answer that was ever paid for, in one SQLite file that several processes share."""

from __future__ import annotations

from pytest_finetune.store.store import Store, StoredRow

__all__ = ["Store", "StoredRow"]

"""The row store: every answer that was ever paid for, in one SQLite file that several processes share."""

from __future__ import annotations

from pytest_finetune.store.calls import Calls
from pytest_finetune.store.privacy import StoredText
from pytest_finetune.store.spending import Spending
from pytest_finetune.store.store import Store, StoredRow

__all__ = ["Calls", "Spending", "Store", "StoredRow", "StoredText"]

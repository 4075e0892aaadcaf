"""Which split a row belongs to.

A row's place is a salted hash of what it asks (or of its group) and of nothing else. So adding, removing or
reordering rows moves none of the others, a corrected label moves nothing, and the same question is never in
two splits. The price: each label, like the whole, gets the shares asked for on average, not exactly (of 1,000
rows, 100 ± 19 are for the test). Exact shares would need a ranking, and then every new row would push others
over its borders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pytest_finetune.core.fingerprint import digest
from pytest_finetune.dataset.rows import SPLITS, DataRow
from pytest_finetune.errors import UsageError

_NAMES = {"train": "train", "dev": "dev", "validation": "dev", "val": "dev", "test": "test"}
_DIGITS = 13  # 52 bits, which a float holds exactly


def split_named(value: object) -> str:
    """Read the name of a split as it stands in the data.

    Raises:
        UsageError: if it is not one.
    """
    split = _NAMES.get(value.strip().lower()) if isinstance(value, str) else None
    if split is None:
        raise UsageError(f"{value!r} is not a split: write train, dev (or validation, val) or test")
    return split


@dataclass(frozen=True, slots=True)
class Placement:
    """How rows come into splits.

    Attributes:
        salt: another salt gives other splits, and another order.
        shares: of train, dev and test; they add up to 1.
    """

    salt: str
    shares: tuple[float, float, float]

    @classmethod
    def of(cls, salt: str, shares: Sequence[float]) -> Placement:
        """Scale the shares to a sum of 1.

        Raises:
            UsageError: unless they are three positive numbers.
        """
        if len(shares) != len(SPLITS) or not all(math.isfinite(share) and share > 0 for share in shares):
            raise UsageError(f"shares={shares!r}: give three positive numbers for train, dev and test: (80, 10, 10)")
        train, dev, test = (share / sum(shares) for share in shares)
        return cls(salt, (train, dev, test))

    def drawn(self, key: str) -> str:
        """Draw the split of the rows with this key."""
        point = self._point(key)
        if point < self.shares[0]:
            return "train"
        return "dev" if point < self.shares[0] + self.shares[1] else "test"

    def with_dev(self, rows: Sequence[DataRow]) -> list[DataRow]:
        """Draw the dev split from the training rows, where the data names only train and test."""
        train, dev, _ = self.shares
        return [
            replace(row, split="dev") if row.split == "train" and self._point(row.key) < dev / (train + dev) else row
            for row in rows
        ]

    def ordered(self, rows: Sequence[DataRow]) -> tuple[DataRow, ...]:
        """Sort by the hash of salt and row id: an order that no file, clock or server chose."""
        return tuple(sorted(rows, key=lambda row: digest(["order", self.salt, row.row_id])))

    def _point(self, key: str) -> float:
        """Map a key to [0, 1), uniformly."""
        return float(int(digest(["split", self.salt, key])[:_DIGITS], 16) / 16**_DIGITS)

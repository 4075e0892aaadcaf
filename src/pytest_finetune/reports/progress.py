"""How far an evaluation is, in words."""

from __future__ import annotations

from typing import Protocol


class Counts(Protocol):
    """What is known while an evaluation runs; `pytest_finetune.evaluate.Progress` is one."""

    @property
    def total(self) -> int:
        """Rows, over all stages."""

    @property
    def done(self) -> int:
        """Rows that have their end."""

    @property
    def asked(self) -> int:
        """Answers that were asked for."""

    @property
    def reused(self) -> int:
        """Rows that were there before."""

    @property
    def errors(self) -> int:
        """Rows without an answer."""

    @property
    def cost(self) -> float | None:
        """US dollars so far; None where a price is unknown."""

    @property
    def seconds(self) -> float:
        """Since the start."""


def line(progress: Counts) -> str:
    """``rows 120/450, 60 reused, 12.3/s, $0.0042, 27 s left``."""
    parts = [f"rows {progress.done:,}/{progress.total:,}"]
    if progress.reused:
        parts.append(f"{progress.reused:,} reused")
    if progress.errors:
        parts.append(f"{progress.errors:,} without an answer")
    rate = progress.asked / progress.seconds if progress.seconds > 0 else 0.0
    if rate:
        parts.append(f"{rate:.1f}/s")
    if progress.cost is not None and progress.asked:
        parts.append(f"${progress.cost:.4f}")
    if rate:
        parts.append(f"{_time((progress.total - progress.done) / rate)} left")
    return ", ".join(parts)


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

"""Time in the sandbox: stamps are real, waits are shortened."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import date, datetime, timezone


@dataclass(frozen=True)
class Clock:
    """A clock whose waits run ``speed`` times faster than real ones."""

    speed: float

    def now(self) -> int:
        """Seconds since 1970, as the wire format counts them."""
        return int(time.time())

    def today(self) -> date:
        """The day in UTC, against which a ``shutdown_date`` is held."""
        return datetime.now(timezone.utc).date()

    async def sleep(self, seconds: float) -> None:
        """Wait for this many sandbox seconds."""
        await asyncio.sleep(seconds / self.speed)

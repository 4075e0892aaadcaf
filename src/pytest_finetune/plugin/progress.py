"""How far the evaluation is, in one line that is written over; nothing where nobody watches."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_finetune.evaluate import Progress


@dataclass
class ProgressLine:
    """Shows an evaluation's progress, where pytest writes to a terminal.

    Args:
        config: Of this run.
    """

    config: pytest.Config

    @cached_property
    def _reporter(self) -> Any:
        """Looked for late: it is registered after us."""
        reporter: Any = self.config.pluginmanager.getplugin("terminalreporter")
        return reporter if reporter is not None and reporter.isatty and self.config.get_verbosity() >= 0 else None

    def __call__(self, progress: Progress) -> None:
        """Write the line over, and wipe it at the end."""
        from pytest_finetune.reports.progress import line

        if self._reporter is None or not progress.asked:
            return
        with self._uncaptured():
            self._reporter.ensure_newline()
            self._reporter.rewrite(line(progress) if progress.done < progress.total else "", erase=True)
            self._reporter.flush()

    def _uncaptured(self) -> AbstractContextManager[None]:
        """What a test's setup writes is captured, the reporter's lines, too."""
        manager: Any = self.config.pluginmanager.getplugin("capturemanager")
        return manager.global_and_fixture_disabled() if manager else nullcontext()

"""The sandbox in the place of a provider, for a script or a test that rehearses production."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_finetune.endpoints import SANDBOX, Endpoint

if TYPE_CHECKING:
    from pytest_finetune.sandbox import Sandbox


@contextmanager
def rehearsal(lock: str | Path, *tasks: str) -> Iterator[Sandbox]:
    """Run a sandbox that serves the models of a lock, fitted again from the training files beside it.

    A model is lost with ``sandbox.set_shutdown(model, "2026-01-01")`` and comes back with
    ``sandbox.set_shutdown(model, None)``; ``sandbox.set_faults`` knows other troubles.

    Args:
        lock: The path of ``models.lock``.
        tasks: Whose models; none: those of all tasks.

    Yields:
        The sandbox; its ``base_url`` is what `load` is to be given.

    Raises:
        LockError: If the lock or a training file is missing or damaged.
        MissingExtra: If the sandbox is not installed.

    Example:
        >>> with rehearsal("models.lock") as sandbox:  # doctest: +SKIP
        ...     program = load("models.lock", "tickets", base_url=sandbox.base_url)
    """
    from pytest_finetune.lock import Artifacts, read_lock
    from pytest_finetune.workflow.connections import Connections

    path = Path(lock).resolve()
    entries = [entry for entry in read_lock(path).models if not tasks or entry.task in tasks]
    with closing(Connections()) as connections:
        for version in (version for entry in entries for version in entry.versions):
            if version.endpoint == SANDBOX and version.state != "retired":
                connections.serve(version, Endpoint(SANDBOX, ""), Artifacts.beside(path))
        yield connections.sandbox()

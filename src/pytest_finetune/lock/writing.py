"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, data: bytes, suffix: str = ".new") -> None:
    """Write a file: a crash leaves the old one or the new one, and a failure leaves nothing beside it.

    Args:
        path: Of the file; what a link leads to stays as it is.
        data: What it is to hold.
        suffix: Of the temporary file beside it; where several may write at a time, each needs its own.

    Raises:
        OSError: If it cannot be written.
    """
    new = path.with_name(f".{path.name}{suffix}")
    new.unlink(missing_ok=True)  # were it a link, it would be written through
    try:
        with new.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)

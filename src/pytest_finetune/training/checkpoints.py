"""What a build has paid for so far, on disk: a build that is run again does not pay for it twice.

An endpoint need not answer twice alike, so that a second run of a killed build would collect other traces, and hand
in another job. Kept by what they were made from, the first ones are taken up.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pytest_finetune.core.fingerprint import canonical_json, digest
from pytest_finetune.endpoints import Endpoint


class Checkpoints:
    """Files beside the journal, named by the hash of what their content was made from.

    Args:
        folder: Where they are kept; made when the first is.
        endpoint: Whose answers they are.
    """

    def __init__(self, folder: Path, endpoint: Endpoint) -> None:
        self.folder = folder
        self.endpoint = endpoint

    def get(self, kind: str, parts: object) -> Any:
        """What was kept; None if there is nothing, or the file is broken."""
        try:
            return json.loads(self._path(kind, parts).read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def put(self, kind: str, parts: object, value: object) -> None:
        """Keep a value that JSON can hold; it is on the disk when this returns.

        Args:
            kind: What it is, for the file's name.
            parts: All that it was made from, beside the endpoint and DSPy's version, which always count.
            value: What is kept.
        """
        path = self._path(kind, parts)
        self.folder.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}")
        with new.open("wb") as file:
            file.write(canonical_json(value))
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)

    def _path(self, kind: str, parts: object) -> Path:
        import dspy

        return self.folder / f"{kind}-{digest([self.endpoint.identity, dspy.__version__, parts])[:32]}.json"

"""A sandbox for the duration of a ``with`` block, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from .faults import Fault
from .settings import Settings

_NEEDED = ("httptools", "multipart", "starlette", "uvicorn")


class SandboxError(Exception):
    """The sandbox did not start, or refused a request; the message holds its own words."""


class Sandbox:
    """An OpenAI-shaped server that learns from the files it is given.

    It listens on a free port of the loopback interface, needs no key, and ends with the block, also when the
    process that started it is killed.

    Args:
        settings: What the server is told; the default needs nothing.

    Raises:
        SandboxError: On entering, if the server does not start (for one, because the extra ``[sandbox]`` is not
            installed).

    Example:
        >>> with Sandbox() as sandbox:  # doctest: +SKIP
        ...     client = openai.OpenAI(base_url=sandbox.base_url, api_key="none")
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ""

    @classmethod
    def at(cls, address: str) -> Sandbox:
        """A sandbox that another process has started, and will stop.

        Args:
            address: Its `address`.
        """
        sandbox = cls()
        sandbox._address = address
        return sandbox

    @property
    def address(self) -> str:
        """Where the server listens, without a path."""
        return self._address

    @property
    def base_url(self) -> str:
        """The address for an OpenAI client, ending in ``/v1``."""
        return f"{self._address}/v1"

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and wait until it listens."""
        missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise SandboxError(
                f"the sandbox needs packages that are not installed ({', '.join(missing)}):"
                " pip install 'pytest-finetune[sandbox]'"
            )
        with tempfile.TemporaryFile() as complaints:
            self._process = subprocess.Popen(  # noqa: S603  # our own module
                [sys.executable, "-m", __package__, self.settings.model_dump_json()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
            line = self._process.stdout.readline() if self._process.stdout else b""
            if not line:
                self.stop()
                complaints.seek(0)
                last = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
                raise SandboxError(f"the sandbox did not start: {' '.join(last)}")
        self._address = json.loads(line)["address"]

    def stop(self) -> None:
        """Stop the server; does nothing if it is not running."""
        if self._process is None:
            return
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._process = None

    def kill(self) -> None:
        """Kill the server as a crash would, with nothing written at the end."""
        if self._process is not None:
            self._process.kill()
        self.stop()

    def set_faults(self, *faults: Fault) -> None:
        """Replace the faults; none at all ends them."""
        self._ask("POST", "/sandbox/faults", {"faults": [fault.model_dump(mode="json") for fault in faults]})

    def request_counts(self) -> dict[str, Any]:
        """How many chat requests reached which model (``by_model``) with which prompt (``by_row``)."""
        return self._ask("GET", "/sandbox/requests")

    def forget_requests(self) -> None:
        """Begin to count anew."""
        self._ask("DELETE", "/sandbox/requests")

    def set_shutdown(self, model: str, day: str | None) -> None:
        """Shut a model down on a day (YYYY-MM-DD)."""
        self._ask("POST", "/sandbox/shutdown", {"model": model, "shutdown_date": day})

    def restore(self, name: str, training_file: Path, **job: Any) -> None:
        """Make a fine-tuned model callable again from the file it was trained on.

        Args:
            name: The id that the model is to have.
            training_file: The JSON Lines file.
            job: The fields of the job that trained it: ``model``, ``seed``, ``method``, ``hyperparameters``.
        """
        file_id = self._upload(training_file)
        self._ask("POST", "/sandbox/models", {"name": name, "training_file": file_id, **job})

    def _upload(self, path: Path) -> str:
        boundary = "finetune-sandbox-upload"
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{path.stem}.jsonl"\r\n\r\n'
        )
        content = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        return str(self._send("POST", "/v1/files", content, kind)["id"])

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | Sequence[Any] | None = None) -> dict[str, Any]:
        content = None if body is None else json.dumps(body).encode()
        return self._send(method, path, content, "application/json")

    def _send(self, method: str, path: str, content: bytes | None, kind: str) -> dict[str, Any]:
        headers = {"content-type": kind}
        if self.settings.api_key is not None:
            headers["authorization"] = f"Bearer {self.settings.api_key}"
        request = urllib.request.Request(self._address + path, content, headers, method=method)  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy
        try:
            with opener.open(request, timeout=120) as response:
                return dict(json.load(response))
        except urllib.error.HTTPError as error:
            raise SandboxError(error.read().decode(errors="replace")) from None

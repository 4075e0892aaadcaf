"""A server that can less than the sandbox: it refuses one kind of request, and passes the others on."""

from __future__ import annotations

import itertools
import json
import threading
import urllib.request
from collections.abc import Container, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pytest_finetune.sandbox import Sandbox


@contextmanager
def refusing(
    sandbox: Sandbox,
    method: str,
    path: str,
    status: int = 404,
    code: str = "",
    refused: list[str] | None = None,
    spared: Container[int] = (),
) -> Iterator[str]:
    """The base URL of a server that answers with a status to requests with this method whose path ends so.

    The paths of these requests are added to ``refused``. Those whose numbers, from 0, are ``spared`` are passed on.
    """
    paths, numbers = [] if refused is None else refused, itertools.count()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0))) or None
            fits = self.command == method and self.path.partition("?")[0].endswith(path)
            refuses = fits and next(numbers) not in spared
            paths.extend([self.path] * refuses)
            told = json.dumps({"error": {"message": "no", "code": code}}).encode()
            body = told if refuses else self._passed_on(content)
            self.send_response(status if refuses else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  # the library's name

        def _passed_on(self, content: bytes | None) -> bytes:
            kind = {"content-type": self.headers.get("content-type", "application/json")}
            request = urllib.request.Request(sandbox.address + self.path, content, kind, method=self.command)  # noqa: S310
            with urllib.request.urlopen(request) as answer:  # noqa: S310  # our own server
                return bytes(answer.read())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()

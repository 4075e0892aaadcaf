"""Runs the application: in the foreground, for `pytest-finetune serve` and for the process of `Sandbox`."""

from __future__ import annotations

import ipaddress
import json
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import uvicorn

from .app import create_app
from .services import Services
from .settings import Settings


def serve(settings: Settings, *, started: Callable[[str], None], until: Callable[[], None] | None = None) -> None:
    """Serve until interrupted.

    Args:
        settings: The server's settings.
        started: Called with the server's address once it listens.
        until: Blocks until the server shall stop; runs in a thread.
    """
    with ExitStack() as stack:
        folder = settings.state_dir
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="finetune-sandbox-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        listener = stack.enter_context(_listen(settings.host, settings.port))
        server = uvicorn.Server(_config(settings, folder))
        if until is not None:
            threading.Thread(target=_stop_after, args=(until, server), daemon=True).start()
        host, port = listener.getsockname()[:2]
        started(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        server.run(sockets=[listener])


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
    )
    # Connections inherit it. Asyncio sets it only on sockets that name their protocol, and without it every
    # answer waits 40 ms for the client's acknowledgement of its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _config(settings: Settings, folder: Path) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(Services.build(settings, folder)),
        access_log=False,
        log_level="critical",  # a dropped answer is a fault that was asked for, not an error to log
        lifespan="on",
        timeout_graceful_shutdown=1,
    )


def _stop_after(until: Callable[[], None], server: uvicorn.Server) -> None:
    until()
    server.should_exit = True


def main() -> None:
    """Serve with the settings in ``argv[1]`` (JSON); tell the address on stdout; stop when stdin ends.

    The end of stdin is how the server notices that whoever started it is gone, however it went.
    """

    def tell(address: str) -> None:
        sys.stdout.write(json.dumps({"address": address}) + "\n")
        sys.stdout.flush()

    def wait_for_end() -> None:
        sys.stdin.buffer.read()

    serve(Settings.model_validate_json(sys.argv[1]), started=tell, until=wait_for_end)

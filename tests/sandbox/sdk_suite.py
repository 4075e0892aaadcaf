"""Runs the official SDK's own tests for files, models and fine-tuning against the sandbox.

They ship in the source distribution of ``openai``. They expect ids of their own to exist, and to go on existing
after they were deleted; the server here is seeded so, the one that users start has none of that.

    python tests/sandbox/sdk_suite.py 2.54.0

What the sandbox answers differently from the published description, with the evidence, is in docs/sandbox.md.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from pytest_finetune.sandbox import Settings
from pytest_finetune.sandbox.app import create_app
from pytest_finetune.sandbox.jobs import JobRecord
from pytest_finetune.sandbox.runner import new_job
from pytest_finetune.sandbox.services import Services
from pytest_finetune.sandbox.settings import Size
from pytest_finetune.sandbox.wire.files import FileObject
from pytest_finetune.sandbox.wire.jobs import CreateJob

FILES = ("file-abc123", "file_id", "string")
JOB = "ft-AF1WoRqd3aJAHsqc9NY7iL8F"
ALIASES: dict[str, Size] = {"gpt-4o-mini": "small", "gpt-6-astra": "large"}
MODEL = "ft:gpt-4o-mini:acemeco:suffix:abc123"
SUITES = ("fine_tuning/test_jobs.py", "fine_tuning/jobs", "test_files.py", "test_models.py")
NEEDS = (
    "pytest",
    "pytest-asyncio",
    "respx",
    "inline-snapshot",
    "nest_asyncio",
    "time-machine",
    "dirty-equals",
    "pytest-xdist",
)


def seed(services: Services, path: str) -> None:
    """Put back, before each request, what the tests expect to find."""
    for file_id in FILES:
        services.state.contents(file_id).write_bytes(b"{}\n")
        file = FileObject(id=file_id, bytes=3, created_at=0, filename="rows.jsonl", purpose="fine-tune")
        services.state.put("file", file_id, file)
    job = new_job(CreateJob(model="gpt-4o-mini", training_file=FILES[0]), job_id=JOB, now=0)
    status = "paused" if path.endswith("/resume") else "running"
    services.jobs.save(JobRecord(job=job.model_copy(update={"status": status})))
    services.models.add(MODEL, "small", "none")


def seeded(app: ASGIApp, services: Services) -> ASGIApp:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            seed(services, scope["path"])
        await app(scope, receive, send)

    return application


def unpack(version: str, folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "openai"]
    subprocess.run([*pip, f"openai=={version}", "--dest", str(folder)], check=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"openai-{version}"


def install(version: str, folder: Path) -> Path:
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", f"openai[aiohttp]=={version}", "httpx2", *NEEDS]
    subprocess.run(pip, check=True)
    return python


def serve(listener: socket.socket, folder: Path) -> None:
    services = Services.build(Settings(live_quirks=False, aliases=ALIASES), folder)
    app = seeded(create_app(services), services)
    uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off")).run(sockets=[listener])


def main() -> int:
    version = sys.argv[1]
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as listener:
        folder = Path(name)
        threading.Thread(target=serve, args=(listener, folder / "state"), daemon=True).start()
        tests, python = unpack(version, folder), install(version, folder)
        suites = [str(tests / "tests" / "api_resources" / suite) for suite in SUITES]
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        return subprocess.run(
            [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *suites],
            cwd=tests,
            env={**os.environ, "TEST_API_BASE_URL": address},
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())

"""The server holds itself to its own description, whatever it is sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.sandbox.conftest import connect, jsonl, training_rows

from pytest_finetune.sandbox import Sandbox, Settings

# No key is needed, so none can be wrong; that a file id does not exist no schema can say; and faults that were set
# would be found.
EXCLUDED = "ignored_auth,positive_data_acceptance"


def test_no_5xx_and_no_undeclared_answer(tmp_path: Path) -> None:
    settings = Settings(clock_speed=10_000, max_upload_bytes=100_000)
    with Sandbox(settings) as server, connect(server, strict=False) as client:
        file = client.files.create(file=("rows.jsonl", jsonl(training_rows(20))), purpose="fine-tune")
        client.fine_tuning.jobs.create(model="sandbox-small", training_file=file.id)
        command = [
            sys.executable,
            "-m",
            "schemathesis.cli",
            "run",
            server.base_url.removesuffix("v1") + "openapi.json",
        ]
        command += ["--seed", "1", "--max-examples", "12", "--generation-database", "none", "--no-color"]
        command += ["--exclude-checks", EXCLUDED, "--exclude-operation-id", "set_faults"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:]

"""What endpoints tell of the models that a lock pins, each in its own way."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TASKS
from tests.unit.lock.conftest import make_entry

from pytest_finetune.lock import Lock, write_lock
from pytest_finetune.workflow.drift import Trouble
from pytest_finetune.workflow.live import unserved
from pytest_finetune.workflow.run import Run
from pytest_finetune.workflow.settings import read_settings

TODAY = date(2026, 11, 21)
TUNED = "ft:small:acme:tickets:0001"
OF_JANUARY = 1768348800  # 2026-01-14, in seconds since 1970
ANEW = "build anew: pytest --ft-retrain --ft-task tickets"


@dataclass
class Endpoint:
    """A server that tells of models, and nothing else.

    Attributes:
        models: What it tells of each.
        lists_only: It does not tell of one model, but lists them all.
        status: What it answers to everything, if that is not 200.
        asked: The paths that were asked for.
    """

    models: dict[str, dict[str, Any]]
    lists_only: bool = False
    status: int = 200
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(path)
        known = {name: {"id": name, "object": "model", **told} for name, told in self.models.items()}
        name = path.removeprefix("/v1/models/")
        if self.status != 200:
            return self.status, {"error": {"message": "no models here"}}
        if path == "/v1/models":
            return 200, {"object": "list", "data": [*known.values()]}
        if self.lists_only or name not in known:
            return 404, {"error": {"message": f"The model `{name}` does not exist"}}
        return 200, known[name]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    told = Endpoint({"small": {}, "large": {}, TUNED: {}})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, answer = told.answer(self.path)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        told.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield told
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project whose one task asks an endpoint of its own."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "finetune_tasks.py").write_text(TASKS.replace('endpoint="sandbox"', 'endpoint="ours"'))
    yield tmp_path
    sys.modules.pop("finetune_tasks", None)


def troubles(folder: Path, server: Endpoint, notice: int = 60, **changes: Any) -> list[Trouble]:
    """What is said of a lock with all stages of a task, the fine-tuned one with these changes."""
    (folder / "pyproject.toml").write_text(f"[tool.pytest-finetune.endpoints.ours]\nbase_url = '{server.url}'\n")
    ours: dict[str, Any] = {"endpoint": f"ours {server.url}"}
    plain = ours | {"job": None, "gate": [], "recipe": None}
    stages = [make_entry(stage=stage, model="small", **plain) for stage in ("baseline", "prompt_optimized")]
    teacher = make_entry(stage="teacher", model="large", base="large", **plain)
    tuned = make_entry(**{"model": TUNED, **ours, **changes})
    write_lock(folder / "models.lock", Lock(model=(*stages, teacher, tuned)))
    with closing(Run(read_settings(folder, environment={}))) as run:
        return list(unserved(run, TODAY, notice))


def test_each_model_is_asked_for_once(folder: Path, endpoint: Endpoint) -> None:
    assert troubles(folder, endpoint) == []
    assert sorted(endpoint.asked) == [f"/v1/models/{name}" for name in (TUNED, "large", "small")]


def test_a_model_that_is_gone_is_one_error_for_all_of_its_stages(folder: Path, endpoint: Endpoint) -> None:
    del endpoint.models["small"], endpoint.models[TUNED]
    assert troubles(folder, endpoint) == [
        Trouble(
            "tickets/baseline, tickets/prompt_optimized: endpoint 'ours' has no model 'small': deploy it, or name"
            f" another model in the tasks file, and {ANEW}"
        ),
        Trouble(f"tickets/finetuned: endpoint 'ours' has no model '{TUNED}': deploy it, or {ANEW}"),
    ]


def test_where_there_is_an_earlier_version_one_can_go_back(folder: Path, endpoint: Endpoint) -> None:
    del endpoint.models[TUNED]
    before = make_entry(model="ft:small:acme:tickets:0000").version
    (trouble,) = troubles(folder, endpoint, previous=[before.model_dump(exclude_none=True)])
    assert trouble.message.endswith(f"go back to an earlier version: pytest-finetune rollback tickets; or {ANEW}")


def test_the_version_in_production_is_asked_for_too(folder: Path, endpoint: Endpoint) -> None:
    running = make_entry(model="ft:old", state="production", endpoint=f"ours {endpoint.url}").version
    (trouble,) = troubles(folder, endpoint, previous=[running.model_dump(exclude_none=True)])
    assert trouble.error
    assert trouble.message == (
        "tickets/finetuned: endpoint 'ours' has no model 'ft:old': deploy it, or put the pinned version into"
        f" production: pytest-finetune promote tickets; or {ANEW}"
    )


def test_an_endpoint_that_only_lists_its_models_is_understood(folder: Path, endpoint: Endpoint) -> None:
    endpoint.lists_only = True
    del endpoint.models["large"]
    (trouble,) = troubles(folder, endpoint)
    assert trouble.message.startswith("tickets/teacher: endpoint 'ours' has no model 'large': ")


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ([TUNED, "tickets-v1"], []),
        (["tickets-v1"], []),
        (
            [TUNED],
            [
                Trouble(
                    f"tickets/finetuned: endpoint 'ours' has '{TUNED}', and serves nothing as 'tickets-v1': deploy it"
                    " under that name",
                    error=False,
                )
            ],
        ),
        (
            [],
            [
                Trouble(
                    f"tickets/finetuned: endpoint 'ours' has no model '{TUNED}' and no 'tickets-v1': deploy it, or"
                    f" {ANEW}"
                )
            ],
        ),
    ],
    ids=["both", "its name", "its id", "neither"],
)
def test_a_model_is_asked_for_by_its_id_and_by_the_name_it_is_served_as(
    folder: Path, endpoint: Endpoint, known: list[str], said: list[Trouble]
) -> None:
    endpoint.models = {name: {} for name in ("small", "large", *known)}
    assert troubles(folder, endpoint, served_as="tickets-v1") == said


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"shutdown_date": None}, None),
        ({"shutdown_date": "2027-01-21"}, None),
        ({"shutdown_date": "2027-01-20"}, (False, "is shut down in 60 days (2027-01-20)")),
        ({"shutdown_date": "2026-11-22"}, (False, "is shut down in 1 days (2026-11-22)")),
        ({"shutdown_date": "2026-11-21"}, (True, "has been shut down (2026-11-21)")),
        ({"deprecation": {"fine_tune": 1, "inference": OF_JANUARY}}, (True, "has been shut down (2026-01-14)")),
        ({"deprecation": {"fine_tune": 1}}, None),
        ({"deprecation": "2026-12-01T12:00:00Z"}, (False, "is shut down in 10 days (2026-12-01)")),
    ],
)
def test_an_end_is_understood_however_it_is_told(
    folder: Path, endpoint: Endpoint, told: dict[str, Any], said: tuple[bool, str] | None
) -> None:
    endpoint.models[TUNED] = told
    error, words = said or (False, "")
    expected = Trouble(f"tickets/finetuned: '{TUNED}' {words} by endpoint 'ours': {ANEW}", error)
    assert troubles(folder, endpoint) == ([expected] if said else [])


@pytest.mark.parametrize("told", ["soon", [1], 1e300])
def test_an_end_that_is_no_date_is_told_as_it_is(folder: Path, endpoint: Endpoint, told: object) -> None:
    endpoint.models[TUNED] = {"shutdown_date": told}
    assert troubles(folder, endpoint) == [
        Trouble(
            f"tickets/finetuned: '{TUNED}': endpoint 'ours' says that its end is {told!r}, which is no date: ask its"
            " provider",
            error=False,
        )
    ]


def test_the_notice_may_be_longer(folder: Path, endpoint: Endpoint) -> None:
    endpoint.models[TUNED] = {"shutdown_date": "2027-06-01"}
    assert troubles(folder, endpoint) == []
    assert len(troubles(folder, endpoint, notice=365)) == 1


@pytest.mark.parametrize("status", [400, 401, 404])
def test_an_endpoint_that_does_not_tell_is_an_error(folder: Path, endpoint: Endpoint, status: int) -> None:
    endpoint.status = status
    found = troubles(folder, endpoint)
    assert [trouble.error for trouble in found] == [True] * 3
    assert found[0].message.startswith(
        "tickets/baseline, tickets/prompt_optimized: endpoint 'ours' does not say whether it has 'small': "
    )
    assert "no models here" in found[0].message


def test_a_version_on_an_endpoint_that_the_task_no_longer_names_is_not_asked_for(
    folder: Path, endpoint: Endpoint
) -> None:
    assert troubles(folder, endpoint, endpoint="theirs https://models.example/v1") == [
        Trouble(
            f"tickets/finetuned: '{TUNED}' is on theirs https://models.example/v1, which the task no longer names",
            error=False,
        )
    ]
    assert f"/v1/models/{TUNED}" not in endpoint.asked

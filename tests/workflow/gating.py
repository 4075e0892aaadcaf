"""Judging claims in this process, as the plugin does, on a server that counts what it is asked."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from tests.conftest import Project

from pytest_finetune.core.claims import ScopedClaim, parse
from pytest_finetune.core.records import Policy, Scope
from pytest_finetune.core.results import Result
from pytest_finetune.sandbox import Sandbox
from pytest_finetune.store import Store
from pytest_finetune.workflow.evaluations import Expected
from pytest_finetune.workflow.run import STORE, Run
from pytest_finetune.workflow.settings import read_settings

ALL = 320  # rows of the test split


@dataclass(frozen=True)
class Gating:
    """One project, gated any number of times."""

    project: Project
    server: Sandbox

    @contextmanager
    def run(self, *claims: Expected, retrain: bool = False, **settings: Any) -> Iterator[Run]:
        """A run to which these claims are announced; the server counts from its beginning."""
        read = read_settings(self.project.path, options={"models": [str(self.project.lock)]}, environment={})
        (address := self.project.path / "address").write_text(self.server.address)
        run = Run(replace(read, **settings), retrain=retrain, shared=address, joins=True)
        self.server.forget_requests()
        try:
            run.check()
            for scoped, _ in claims:
                run.check_claim(scoped)
            run.expect(claims)
            yield run
        finally:
            sys.modules.pop("finetune_tasks", None)
            run.close()

    def judge(self, *claims: Expected, **settings: Any) -> list[Result]:
        """The claims, judged in one run."""
        with self.run(*claims, **settings) as run:
            return [run.gate.judge(scoped, policy) for scoped, policy in claims]

    @property
    def asked(self) -> dict[str, int]:
        """How many requests reached which model in the last run, fine-tuned ones by ``tuned``."""
        counts = self.server.request_counts()["by_model"]
        return {"tuned" if name.startswith("ft:") else name: count for name, count in counts.items()}

    def forget_rows(self) -> None:
        """Empty the store."""
        path = self.project.path / ".pytest-finetune" / STORE
        path.unlink()
        Store.create(path).close()

    def judge_others(self, expected: Expected, count: int) -> None:
        """Let so many other candidates be judged by the rows of a claim."""
        with self.run(expected) as run:
            rows, _ = run.evaluations.candidate(expected[0]) or ("", "")
            for number in range(count):
                run.store.count_candidate(rows, f"candidate {number}")

    def sql(self, statement: str) -> None:
        """Change the store."""
        connection = sqlite3.connect(self.project.path / ".pytest-finetune" / STORE)
        with connection:
            connection.execute(statement)
        connection.close()


def claim(text: str, policy: Policy = Policy(margin=0.02), **scope: Any) -> Expected:  # noqa: B008  # frozen
    """One claim on the task of the built project."""
    (parsed,) = parse(text)
    return ScopedClaim("tickets", parsed, Scope(**scope)), policy

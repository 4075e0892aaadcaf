"""Answers that were paid for before: a build that is killed, or a judge that is asked again, sends nothing twice."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pytest_finetune.core.fingerprint import canonical_json, digest
from pytest_finetune.core.records import Usage


class CallStore(Protocol):
    """Where answers are kept; `pytest_finetune.store.Calls` is one."""

    def recall(self, key: str) -> str | None:
        """Give what was recorded under a key."""
        ...

    def record(self, key: str, response: str, *, purpose: str, model: str, usage: Usage | None) -> None:
        """Keep an answer; the first one under a key stays."""
        ...

    def forget(self, keys: Sequence[str]) -> None:
        """Lose the answers under some keys."""
        ...


class Replay:
    """Finds a request's answer by all that it says.

    A request at temperature 0 has one answer. A sampled one has as many as it was sent in this process: the second
    time it is sent, the second answer is wanted. So a build that is run again meets the same answers.

    Args:
        store: Keeps them.
        purpose: What the answers are for: ``training`` or ``judge``.
    """

    def __init__(self, store: CallStore, purpose: str) -> None:
        self._store = store
        self._purpose = purpose
        self._sent: Counter[str] = Counter()
        self._lock = threading.Lock()

    def key(self, endpoint: str, request: Any) -> str:
        """The key of a request that is about to be sent.

        Args:
            endpoint: The identity of the endpoint.
            request: A ``dspy.lm15.Request``.
        """
        name = digest([endpoint, request])
        if request.config.temperature == 0:
            return name
        with self._lock:
            self._sent[name] += 1
            return digest([name, self._sent[name]])

    def recall(self, key: str) -> Mapping[str, Any] | None:
        """The body of the answer, if there is one."""
        text = self._store.recall(key)
        return None if text is None else json.loads(text)

    def record(self, key: str, model: str, body: Mapping[str, Any], usage: Usage | None) -> None:
        """Keep the body of an answer."""
        self._store.record(key, canonical_json(body).decode(), purpose=self._purpose, model=model, usage=usage)

    def forget(self, keys: Sequence[str]) -> None:
        """Lose answers that were of no use, so that they are asked for again."""
        self._store.forget(keys)

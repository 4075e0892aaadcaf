"""The engine below an LM: it asks until there is an answer, or no hope.

DSPy's own retries are off. They sleep where nothing can wake them, count nothing, and each thread knows of its own
trouble only. The engine is DSPy's documented seam (``dspy.LM(engine=…)``); below it is DSPy's own native client.
This also leaves out what DSPy does around each call and a gate has no use for: looking for a better route, and
pricing from a table that it fetches from the internet.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_finetune.calls.budget import Budget, OverBudget
from pytest_finetune.calls.failures import concerns_the_prompt, is_limit, passing, refuse_emptiness
from pytest_finetune.calls.notes import NOTES, Notes
from pytest_finetune.calls.records import Replay
from pytest_finetune.calls.traffic import Retries, Traffic
from pytest_finetune.core.records import Usage
from pytest_finetune.endpoints import Endpoint
from pytest_finetune.errors import UsageError

if TYPE_CHECKING:
    import dspy

_CLIENT = {"api_key": None, "api_base": None, "base_url": None, "timeout": None}  # the engine's, no longer the LM's

_ROUTE = "openai-chat"
_LETTERS = 4  # of English text are about a token
_ANSWER = 256  # tokens that an answer is taken to have, until it is there


@dataclass(frozen=True)
class Calling:
    """How models are asked: one for all engines that share a limit.

    Attributes:
        traffic: How many requests are under way.
        retries: How patiently requests are repeated.
        timeout: Seconds to wait for the next byte of an answer.
        budget: What requests cost, and what may be spent.
        replay: Answers that were paid for before; None where every request is to be sent.
        of_rows: Every call belongs to a row, whose notes it must find.
        strays: The models of calls that did not: their rows have no answer that counts.
    """

    traffic: Traffic = field(default_factory=lambda: Traffic(32))
    retries: Retries = field(default_factory=Retries)
    timeout: float = 60.0
    budget: Budget = field(default_factory=Budget)
    replay: Replay | None = None
    of_rows: bool = False
    strays: list[str] = field(default_factory=list)


class Engine:
    """Asks the models of one endpoint for DSPy.

    Args:
        lm: The LM of `Endpoint.lm` whose place it takes.
        calling: How its model is asked.

    Raises:
        EndpointError: If the variable of a header is not set.
        UsageError: If a cap is set, and the model's price is unknown.
    """

    def __init__(self, lm: dspy.LM, calling: Calling) -> None:
        from dspy.lm15 import LMRouter, RouterConfig

        from pytest_finetune.endpoints.wire import transport

        self._lm = lm
        self._calling = calling
        self._endpoint: Endpoint = lm.endpoint
        calling.budget.check(lm.model.partition("/")[2])
        self._transport = transport(self._endpoint, timeout=calling.timeout, connections=calling.traffic.most)
        config = RouterConfig(
            api_keys={_ROUTE: self._endpoint.key},  # asked for each request, since keys expire
            base_urls={_ROUTE: self._endpoint.base_url},
            transport=self._transport,
        )
        self._router = LMRouter(config)
        self._provider = self._router.lm(f"{_ROUTE}:{lm.model.partition('/')[2]}")

    @property
    def most(self) -> int:
        """Requests that may be under way at once."""
        return self._calling.traffic.most

    # What the model can do, as DSPy knows it: adapters ask, and only then is it looked up.
    @property
    def supports_function_calling(self) -> bool:
        """As the LM in whose place it stands."""
        return bool(self._lm.supports_function_calling)

    @property
    def supports_reasoning(self) -> bool:
        """As the LM in whose place it stands."""
        return bool(self._lm.supports_reasoning)

    @property
    def supports_response_schema(self) -> bool:
        """As the LM in whose place it stands."""
        return bool(self._lm.supports_response_schema)

    @property
    def supported_params(self) -> set[str]:
        """As the LM in whose place it stands."""
        return set(self._lm.supported_params)

    def __deepcopy__(self, memo: dict[int, Any]) -> Engine:
        return self  # programs are copied, connections and the limit are shared

    def complete(self, request: Any) -> Any:
        """Give the answer to a request, from the endpoint or from the replay.

        Args:
            request: A ``dspy.lm15.Request``.

        Returns:
            A ``dspy.lm15.Response``.

        Raises:
            OverBudget: It might cost more than is left.
            UsageError: Nobody knows for which row it is asked.
        """
        notes = self._notes(request.model)
        wire = replace(request, model=request.model.partition("/")[2])
        replay = self._calling.replay
        if replay is None:
            return self._ask(wire, notes)
        key = replay.key(self._endpoint.identity, wire)
        notes.replayed.append(key)
        body = replay.recall(key)
        if body is not None:
            return self._provider.parse_response(wire, _Stored(body))
        response = self._ask(wire, notes)
        replay.record(key, wire.model, response.provider_data, self._usage(wire.model, response))
        return response

    def _notes(self, model: str) -> Notes:
        """Those of the row; a thread that a program made by itself carries no context, and so has none."""
        import dspy

        notes: Notes | None = dspy.settings.get(NOTES)
        if notes is None and self._calling.of_rows:
            self._calling.strays.append(model)
            raise UsageError("a model was asked from a thread that does not know for which row")
        return notes or Notes(math.inf)

    @contextmanager
    def readable(self) -> Iterator[None]:
        """Within it, answers are forgotten if one of them cannot be read: asked again, it may be another."""
        import dspy
        from dspy.utils.exceptions import AdapterParseError

        notes = Notes(math.inf)
        try:
            with dspy.context(**{NOTES: notes}):
                yield
        except AdapterParseError:
            if self._calling.replay is not None:
                self._calling.replay.forget(notes.replayed)
            raise

    def _ask(self, wire: Any, notes: Notes) -> Any:
        attempt = 0
        renewed = False
        while True:
            attempt += 1
            generation = self._endpoint.key_generation
            try:
                return self._once(wire, notes)
            except OverBudget as stop:
                self._calling.traffic.stop(str(stop))
                raise
            except Exception as error:
                if not renewed and _is_expiry(error) and self._endpoint.renew_key(generation):
                    renewed = True
                    continue
                wait = self._wait(attempt, error)
                if wait is None or time.monotonic() + wait > notes.until:
                    if notes.failure is None and not concerns_the_prompt(error):
                        notes.failure, notes.failing = error, wire.model
                    raise
                self._calling.traffic.pause(wait)

    def _wait(self, attempt: int, error: Exception) -> float | None:
        """Seconds before the next attempt; None: no hope."""
        if is_limit(error):
            self._calling.traffic.refused()
        if not passing(error):
            return None
        return self._calling.retries.wait(attempt, getattr(error, "retry_after", None))

    def _once(self, wire: Any, notes: Notes) -> Any:
        traffic, rates = self._calling.traffic, self._endpoint.rates
        booked = tokens_of(wire) if rates.counts_tokens else 0.0
        traffic.pause(rates.request(booked))
        with traffic.slot(), self._calling.budget.booked(wire) as bill:
            notes.attempts += 1
            start = time.perf_counter()
            response = self._provider.complete(wire)
            refuse_emptiness(response)
            usage = self._usage(wire.model, response)
            bill(usage)
            if usage is not None:
                rates.settle(booked, usage.prompt_tokens + usage.completion_tokens)
            notes.take(response, time.perf_counter() - start, usage)
        traffic.answered()
        return response

    def _usage(self, model: str, response: Any) -> Usage | None:
        sent, received = response.usage.input_tokens, response.usage.output_tokens
        if sent is None or received is None:
            return None
        return Usage(sent, received, self._calling.budget.cost(model, sent, received))

    def close(self) -> None:
        """Close the connections."""
        self._router.close()
        self._transport.close()


class AsyncEngine:
    """The same engine for programs that are ``async``; it waits in a thread, since a slot may be long in coming.

    The threads are its own: those of an event loop are about as many as the machine has cores.

    Args:
        engine: Asks.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._threads = ThreadPoolExecutor(engine.most, "pytest-finetune")

    def __deepcopy__(self, memo: dict[int, Any]) -> AsyncEngine:
        return self

    async def complete(self, request: Any) -> Any:
        """As `Engine.complete`."""
        ask = partial(copy_context().run, self._engine.complete, request)
        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)


def below(lm: dspy.LM, engine: Engine) -> dspy.LM:
    """A copy of an LM with an engine in the place of its own client, retries and cache."""
    return lm.copy(engine=engine, async_engine=AsyncEngine(engine), cache=False, num_retries=0, **_CLIENT)


def tokens_of(request: Any) -> float:
    """About how many tokens a request may use, its answer included; what it used is put in its place later.

    Args:
        request: A ``dspy.lm15.Request``.
    """
    prompt = sum(len(str(part)) for part in (request.system or "", *request.messages))
    return prompt / _LETTERS + (request.config.max_tokens or _ANSWER)


def _is_expiry(error: Exception) -> bool:
    return getattr(error, "status", None) == 401


@dataclass(frozen=True)
class _Stored:
    """A recorded answer, as DSPy's client reads one from the network."""

    body: Any

    def json(self) -> Any:
        return self.body

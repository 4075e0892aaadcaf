"""Calls to a model: one engine below every LM of an evaluation, which retries, gives way, and takes notes.

DSPy's own retries are off. They sleep where nothing can wake them, count nothing, and each thread knows of its own
trouble only. The engine is DSPy's documented seam (``dspy.LM(engine=…)``); below it is DSPy's own native client.
This also leaves out what DSPy does around each call and a gate has no use for: looking for a better route, and
pricing from a table that it fetches from the internet.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_finetune.core.records import Usage
from pytest_finetune.errors import UsageError
from pytest_finetune.evaluate.failures import concerns_the_prompt, is_limit, passing, refuse_emptiness
from pytest_finetune.evaluate.traffic import Retries, Traffic

if TYPE_CHECKING:
    import dspy

NOTES = "pytest_finetune_notes"  # the name under which dspy.context carries the notes of a row into all its threads

_ROUTE = "openai-chat"
_OURS = {"api_key": None, "api_base": None, "base_url": None, "timeout": None}  # what the engine sees to, not the LM


@dataclass
class Notes:
    """What happened to one row.

    Attributes:
        until: No request begins after this (``time.monotonic``).
        attempts: Requests sent.
        latency: Seconds waited for answers, back-off left out; None without an answer.
        models: The models that the endpoint says have answered, in order.
        text: What the model said last.
        finish: Why it ended there: ``stop``, ``length``, ``content_filter``.
        refusal: What it said in refusing.
        failure: The error that was left after all retries, whatever the program made of it.
    """

    until: float
    attempts: int = 0
    latency: float | None = None
    models: list[str] = field(default_factory=list)
    text: str | None = None
    finish: str | None = None
    refusal: str | None = None
    failure: Exception | None = None
    _tokens: list[tuple[int | None, int | None]] = field(default_factory=list)

    @property
    def usage(self) -> Usage | None:
        """The tokens of all answers, if the endpoint told them."""
        sent = [tokens for tokens, _ in self._tokens if tokens is not None]
        received = [tokens for _, tokens in self._tokens if tokens is not None]
        if not self._tokens or min(len(sent), len(received)) < len(self._tokens):
            return None
        return Usage(sum(sent), sum(received))

    @property
    def served_model(self) -> str | None:
        """The models that answered, each once."""
        return ", ".join(dict.fromkeys(self.models)) or None

    def take(self, response: Any, seconds: float) -> None:
        """Note an answer."""
        self.latency = (self.latency or 0.0) + seconds
        self.models.append(response.model)
        self.text, self.finish = response.text, response.finish_reason
        refusals = [part.text for part in response.message.parts if part.type == "refusal"]
        self.refusal = " ".join(refusals) or None
        self._tokens.append((response.usage.input_tokens, response.usage.output_tokens))


class Engine:
    """Asks one model for DSPy.

    Args:
        lm: The LM whose place it takes.
        traffic: Shared by all engines of an evaluation.
        retries: How patiently requests are repeated.
        timeout: Seconds to wait for the next byte of an answer.
    """

    def __init__(self, lm: dspy.LM, traffic: Traffic, retries: Retries, timeout: float, connections: int) -> None:
        from dspy.lm15 import LMRouter, RouterConfig, Timeouts

        self._lm = lm
        self._traffic = traffic
        self._retries = retries
        self._model = lm.model.partition("/")[2]
        config = RouterConfig(
            api_keys={_ROUTE: lm.kwargs.get("api_key")},
            base_urls={_ROUTE: lm.kwargs.get("api_base") or lm.kwargs.get("base_url")},
            timeouts=Timeouts(read=timeout, write=timeout, pool=timeout),
            max_connections=connections,
        )
        self._router = LMRouter(config)
        self._provider = self._router.lm(f"{_ROUTE}:{self._model}")

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
        """Ask until there is an answer, or no hope.

        Args:
            request: A ``dspy.lm15.Request``.

        Returns:
            A ``dspy.lm15.Response``.
        """
        import dspy

        notes = dspy.settings.get(NOTES) or Notes(math.inf)  # a program's own threads carry no context
        wire = replace(request, model=self._model)
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._once(wire, notes)
            except Exception as error:
                wait = self._retries.wait(attempt, getattr(error, "retry_after", None)) if passing(error) else None
                if is_limit(error):
                    self._traffic.refused()
                if wait is None or time.monotonic() + wait > notes.until:
                    notes.failure = None if concerns_the_prompt(error) else error
                    raise
                self._traffic.pause(wait)

    def _once(self, wire: Any, notes: Notes) -> Any:
        with self._traffic.slot():
            notes.attempts += 1
            start = time.perf_counter()
            response = self._provider.complete(wire)
            refuse_emptiness(response)
            notes.take(response, time.perf_counter() - start)
        self._traffic.answered()
        return response

    def close(self) -> None:
        """Close the connections."""
        self._router.close()


def attach(
    program: dspy.Module, stage: str, traffic: Traffic, retries: Retries, timeout: float, most: int
) -> tuple[dspy.Module, list[dspy.LM]]:
    """Put an engine below every LM of a copy of the program.

    Args:
        program: With an LM of `Endpoint.lm` on every predictor.
        stage: Its name, for messages.
        traffic: Shared by all engines.
        retries: How patiently requests are repeated.
        timeout: Seconds to wait for the next byte of an answer.
        most: Connections at most.

    Returns:
        The copy, and its LMs.

    Raises:
        UsageError: If a predictor has no LM, or one that cannot be asked in this way.
    """
    copy = program.deepcopy()
    made: dict[int, dspy.LM] = {}
    for (name, theirs), (_, ours) in zip(program.named_predictors(), copy.named_predictors(), strict=True):
        if id(theirs.lm) not in made:  # a copy of the program has a copy of the LM in each predictor
            engine = Engine(_usable(theirs.lm, stage, name), traffic, retries, timeout, most)
            made[id(theirs.lm)] = theirs.lm.copy(engine=engine, cache=False, num_retries=0, **_OURS)
        ours.lm = made[id(theirs.lm)]
    if not made:
        raise UsageError(f"stage {stage}: the program has no predictor, so there is nothing to evaluate")
    return copy, list(made.values())


def _usable(lm: Any, stage: str, predictor: str) -> Any:
    import dspy

    where = f"stage {stage}, predictor {predictor}"
    if lm is None:
        raise UsageError(f"{where}: it has no LM; attach one to the program first")
    address = getattr(lm, "kwargs", {}).get("api_base") or getattr(lm, "kwargs", {}).get("base_url")
    if type(lm) is not dspy.LM or not lm.model.startswith("openai/") or lm.model_type != "chat" or not address:
        raise UsageError(f"{where}: its LM {getattr(lm, 'model', lm)!r} does not come from an endpoint (Endpoint.lm)")
    return lm

"""One endpoint, and the two clients that speak to it: DSPy's for answers, the openai library's for files and jobs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies

from pytest_finetune.endpoints.keys import key_command
from pytest_finetune.endpoints.rates import Rates, rates_of
from pytest_finetune.errors import EndpointError
from pytest_finetune.secrets import hide, hide_credentials, hide_within

if TYPE_CHECKING:
    import dspy
    import openai

SANDBOX = "sandbox"
NO_KEY = "none"  # DSPy and openai refuse to work without a key, also where the endpoint needs none


@dataclass(frozen=True)
class Serving:
    """The commands that make a trained model callable, and end that.

    They are run without a shell; ``{model}`` stands for the trained model's id, ``{name}`` for the name it is to be
    served as.

    Attributes:
        deploy: Makes the model callable.
        probe: Ends with status 0 once it is.
        take_down: Undoes ``deploy``.
        timeout: Seconds that each of them may take, and that a deployment may take to answer the probe.
    """

    deploy: str | None = None
    probe: str | None = None
    take_down: str | None = None
    timeout: float = 1800.0


@dataclass(frozen=True)
class Endpoint:
    """One OpenAI-shaped address.

    Attributes:
        name: What tasks and the lock call it.
        base_url: The address, ending in ``/v1`` or what stands for it.
        api_key_env: The environment variable that holds the key.
        extra_body: Sent with every job that is created, for what a provider wants beyond the common format.
        api_key_command: A command line that prints the key. Without it and ``api_key_env``, no key is needed.
        headers_env: Further headers, each with the environment variable that holds its value.
        ca_bundle: A PEM file of certificates that are trusted besides the system's.
        proxy: An ``http://`` address through which requests go.
        requests_per_minute: Over all processes of a run; None: no limit.
        tokens_per_minute: Likewise, prompts and answers together.
        timeout: Seconds to wait for the next byte of an answer; None: as the run's settings say.
        serving: How a trained model becomes callable.
    """

    name: str
    base_url: str
    api_key_env: str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    api_key_command: str | None = field(default=None, repr=False)
    headers_env: Mapping[str, str] = field(default_factory=dict)
    ca_bundle: str | None = None
    proxy: str | None = field(default=None, repr=False)
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout: float | None = None
    serving: Serving = field(default_factory=Serving, repr=False)

    @property
    def identity(self) -> str:
        """What the lock pins: the address without credentials or query; the sandbox by its name alone.

        The sandbox listens on another port each time, so its address says nothing.
        """
        return self.name if self.name == SANDBOX else f"{self.name} {scrub(self.base_url)}"

    @property
    def rates(self) -> Rates:
        """The limits that all calls to it in this process keep."""
        return rates_of(self.name, self.requests_per_minute, self.tokens_per_minute)

    def key(self) -> str:
        """The key.

        Raises:
            EndpointError: If the variable is not set, or the command fails.
        """
        if self.api_key_command is not None:
            return key_command(self.api_key_command).key(self.name)
        return NO_KEY if self.api_key_env is None else self._variable(self.api_key_env, "a key")

    @property
    def key_generation(self) -> int:
        """Counts the keys that were refused; see `renew_key`."""
        return 0 if self.api_key_command is None else key_command(self.api_key_command).generation

    def renew_key(self, generation: int) -> bool:
        """After a 401: ask for a new key, unless another thread did; say whether one can be had at all.

        Args:
            generation: `key_generation` when the refused request was made.
        """
        if self.api_key_command is None:
            return False
        key_command(self.api_key_command).refused(generation)
        return True

    def headers(self) -> dict[str, str]:
        """The further headers.

        Raises:
            EndpointError: If a variable is not set.
        """
        return {name: self._variable(variable, f"header {name}") for name, variable in self.headers_env.items()}

    def at_once(self, wanted: int) -> int:
        """How many requests may be under way, so that none waits for its turn for more than a minute."""
        return wanted if self.requests_per_minute is None else max(1, min(wanted, int(self.requests_per_minute)))

    def check(self) -> None:
        """Make sure that what is needed to ask it is there.

        Raises:
            EndpointError: If a key or a header is missing.
        """
        self.key()
        self.headers()
        self._hide_settings()

    def lm(self, model: str, **options: Any) -> dspy.LM:
        """A DSPy LM for a model of this endpoint.

        The address is explicit and the prefix ``openai/`` is put in front of every id, fine-tuned ones included:
        so the native engine is used, and baseline and fine-tuned model are asked in the same way. It carries the
        endpoint: what is more than an address and a key is heeded by `pytest_finetune.calls.Engine` below it.

        Args:
            model: The model's id on the endpoint, without a prefix.
            options: Decoding parameters and others that ``dspy.LM`` takes.
        """
        import dspy

        # Else DSPy fetches a price table from the internet on the first call, which nobody asked for.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        options.setdefault("cache", False)  # the row store is the cache; DSPy's ignores the address
        lm = dspy.LM(f"openai/{model}", api_base=self.base_url, api_key=self.key(), **options)
        lm.endpoint = self
        return lm

    def client(self, **options: Any) -> openai.OpenAI:
        """The official client, for files, jobs and models.

        Args:
            options: What ``openai.OpenAI`` takes; a time-out of the endpoint stands above theirs.
        """
        import openai

        from pytest_finetune.endpoints.wire import http_client

        self._hide_settings()
        if self.timeout is not None:
            options["timeout"] = self.timeout
        return openai.OpenAI(
            base_url=self.base_url,
            api_key=self.key,
            default_headers=self.headers(),
            http_client=http_client(self),
            **options,
        )

    def _variable(self, name: str, what: str) -> str:
        value = os.environ.get(name, "")
        if not value:
            raise EndpointError(
                f"endpoint {self.name!r} needs {what} in the environment variable {name}, which is not set:"
                f" export {name}=…"
            )
        return hide(value)

    def _hide_settings(self) -> None:
        """An address may hold a password, also that of a proxy; and what is sent with a job may hold a key."""
        for address in (self.base_url, self.proxy or "", *getproxies().values()):
            hide_credentials(address)
        hide_within(self.extra_body)


def scrub(url: str) -> str:
    """The URL without user, password, query and fragment: fit to be written down."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = f"[{host}]" if ":" in host else host
    if parts.port is not None:
        address += f":{parts.port}"
    return urlunsplit((parts.scheme, address, parts.path, "", ""))

"""Endpoints: named, OpenAI-shaped addresses, and the two clients that speak to them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from pytest_finetune.errors import EndpointError

if TYPE_CHECKING:
    import dspy
    import openai

SANDBOX = "sandbox"
NO_KEY = "none"  # DSPy and openai refuse to work without a key, also where the endpoint needs none


@dataclass(frozen=True)
class Endpoint:
    """One OpenAI-shaped address.

    Attributes:
        name: What tasks and the lock call it.
        base_url: The address, ending in ``/v1`` or what stands for it.
        api_key_env: The environment variable that holds the key; ``None``: the endpoint needs none.
        extra_body: Sent with every job that is created, for what a provider wants beyond the common format.
    """

    name: str
    base_url: str
    api_key_env: str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """What the lock pins: the address without credentials or query; the sandbox by its name alone.

        The sandbox listens on another port each time, so its address says nothing.
        """
        return self.name if self.name == SANDBOX else f"{self.name} {scrub(self.base_url)}"

    def key(self) -> str:
        """The key from the environment.

        Raises:
            EndpointError: If the variable is not set.
        """
        if self.api_key_env is None:
            return NO_KEY
        key = os.environ.get(self.api_key_env, "")
        if not key:
            raise EndpointError(
                f"endpoint {self.name!r} needs a key in the environment variable {self.api_key_env}, which is not"
                f" set: export {self.api_key_env}=…"
            )
        return key

    def lm(self, model: str, **options: Any) -> dspy.LM:
        """A DSPy LM for a model of this endpoint.

        The address is explicit and the prefix ``openai/`` is put in front of every id, fine-tuned ones included:
        so the native engine is used, and baseline and fine-tuned model are asked in the same way.

        Args:
            model: The model's id on the endpoint, without a prefix.
            options: Decoding parameters and others that ``dspy.LM`` takes.
        """
        import dspy

        # Else DSPy fetches a price table from the internet on the first call, which nobody asked for.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        options.setdefault("cache", False)  # the row store is the cache; DSPy's ignores the address
        return dspy.LM(f"openai/{model}", api_base=self.base_url, api_key=self.key(), **options)

    def client(self, **options: Any) -> openai.OpenAI:
        """The official client, for files, jobs and models."""
        import openai

        return openai.OpenAI(base_url=self.base_url, api_key=self.key(), **options)


def scrub(url: str) -> str:
    """The URL without user, password, query and fragment: fit to be written down."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    address = f"[{host}]" if ":" in host else host
    if parts.port is not None:
        address += f":{parts.port}"
    return urlunsplit((parts.scheme, address, parts.path, "", ""))

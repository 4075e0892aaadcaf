"""``[tool.pytest-finetune.endpoints.NAME]``: what can be said of an endpoint, and the providers that are known."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from pytest_finetune.endpoints.endpoint import Endpoint, Serving

PLACEHOLDERS = ("model", "name")


@dataclass(frozen=True)
class Preset:
    """What is known of a provider.

    Attributes:
        base_url: Its address; ``{resource}`` stands for the option of that name.
        api_key_env: The variable that its documentation uses for the key.
        extra_body: Sent with every job that is created.
    """

    base_url: str
    api_key_env: str
    extra_body: Mapping[str, Any] = field(default_factory=dict)


PRESETS = {
    # learn.microsoft.com, "Azure OpenAI in Microsoft Foundry Models v1 API" and "Customize a model with fine-tuning":
    # of the training types, Standard alone keeps the data in the resource's region.
    "azure": Preset(
        "https://{resource}.openai.azure.com/openai/v1", "AZURE_OPENAI_API_KEY", {"trainingType": "Standard"}
    ),
    # docs.tokenfactory.nebius.com/api-reference/introduction
    "nebius": Preset("https://api.tokenfactory.nebius.com/v1", "NEBIUS_API_KEY"),
}


def _refuse(message: str) -> PydanticCustomError:
    return PydanticCustomError("endpoint", "{message}", {"message": message})


def _command(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise _refuse(f"is no command line ({error})") from None
    if not words:
        raise _refuse("is empty; name a command, or leave it out")
    return text


def _with_placeholders(text: str) -> str:
    unknown = [name for name in re.findall(r"\{(\w*)\}", text) if name not in PLACEHOLDERS]
    if unknown:
        raise _refuse(f"has the placeholder {{{unknown[0]}}}; known are {{model}} and {{name}}")
    return _command(text)


def _url(text: str) -> str:
    if urlsplit(text).scheme not in ("http", "https") or not urlsplit(text).netloc:
        raise _refuse("is no address: it must begin with http:// or https://")
    if "@" in urlsplit(text).netloc or urlsplit(text).query or urlsplit(text).fragment:
        raise _refuse(
            "is an address with a user, a query or a fragment, which are not sent, and may be secret: give the key by"
            " api_key_env, and what else is to be sent by headers_env"
        )
    return _with_port(text)


def _with_port(text: str) -> str:
    """The address, whose port is a number if it has one."""
    try:
        urlsplit(text).port  # noqa: B018  # read, it is checked
    except ValueError:
        raise _refuse("has a port that is none: it must be a number up to 65535, as in http://HOST:8000/v1") from None
    return text


def _proxy(text: str) -> str:
    if urlsplit(text).scheme != "http" or not urlsplit(text).hostname:
        raise _refuse("must be http://[USER:PASSWORD@]HOST:PORT (https endpoints are reached through it as well)")
    return _with_port(text)


Command = Annotated[str, AfterValidator(_command)]
ServingCommand = Annotated[str, AfterValidator(_with_placeholders)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class EndpointTable(BaseModel):
    """``[tool.pytest-finetune.endpoints.NAME]``. The descriptions of the fields are the table of the docs."""

    model_config = ConfigDict(extra="forbid")

    preset: Literal["azure", "nebius"] | None = Field(
        None, description="a known provider, which sets `base_url`, `api_key_env` and `extra_body`"
    )
    resource: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = Field(
        None, description='the name of the Azure resource, for `preset = "azure"`'
    )
    base_url: Annotated[str, AfterValidator(_url)] | None = Field(
        None, description="the address, up to and with `/v1`; needed without a preset"
    )
    api_key_env: str | None = Field(None, description="the environment variable that holds the key")
    api_key_command: Command | None = Field(
        None, description="a command that prints the key; run again after five minutes and after a 401"
    )
    headers_env: dict[str, str] = Field(
        default_factory=dict, description="further headers: name = the environment variable that holds the value"
    )
    ca_bundle: str | None = Field(
        None, description="a PEM file of certificates to trust besides the system's, from the rootdir"
    )
    proxy: Annotated[str, AfterValidator(_proxy)] | None = Field(
        None, description="an `http://` proxy, for this endpoint only; it stands above `HTTPS_PROXY`"
    )
    requests_per_minute: Positive | None = Field(
        None, description="never ask more often, over all processes of a run"
    )
    tokens_per_minute: Positive | None = Field(
        None, description="never use more tokens, prompts and answers together, over all processes of a run"
    )
    timeout: Positive | None = Field(
        None, description="seconds to wait for the next byte of an answer (default: the setting `row_timeout`)"
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        description="sent with every job that is created, for what the provider wants beyond the format",
    )
    deploy: ServingCommand | None = Field(None, description="a command that makes a trained model callable")
    probe: ServingCommand | None = Field(None, description="a command that ends with status 0 once it is callable")
    take_down: ServingCommand | None = Field(None, description="a command that undoes `deploy`, after the evaluation")
    serving_timeout: Positive = Field(
        1800.0, description="seconds for each of these commands, and until `probe` succeeds"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> EndpointTable:
        if self.preset is None and self.base_url is None:
            raise _refuse('needs base_url, or preset = "azure" or "nebius"')
        if self.preset == "azure" and not (self.resource or self.base_url):
            raise _refuse('preset "azure" needs resource, the name of the Azure resource, or base_url')
        if self.resource and (self.preset != "azure" or self.base_url):
            raise _refuse('resource goes with preset = "azure" and without base_url')
        if self.api_key_env and self.api_key_command:
            raise _refuse("has both api_key_env and api_key_command: keep one")
        if self.take_down and not self.deploy:
            raise _refuse("has take_down and no deploy: what is taken down would be another's")
        return self

    def endpoint(self, name: str, root: Path) -> Endpoint:
        """The endpoint of this table.

        Args:
            name: Of the table.
            root: The folder from which ``ca_bundle`` is read.
        """
        preset = PRESETS.get(self.preset or "") or Preset("", "")
        key_env = self.api_key_env or (None if self.api_key_command else preset.api_key_env or None)
        return Endpoint(
            name,
            self.base_url or preset.base_url.format(resource=self.resource),
            api_key_env=key_env,
            extra_body={**preset.extra_body, **self.extra_body},
            api_key_command=self.api_key_command,
            headers_env=self.headers_env,
            ca_bundle=None if self.ca_bundle is None else str(root / self.ca_bundle),
            proxy=self.proxy,
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            timeout=self.timeout,
            serving=Serving(self.deploy, self.probe, self.take_down, self.serving_timeout),
        )

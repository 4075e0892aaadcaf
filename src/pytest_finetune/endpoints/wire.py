"""The two HTTP clients, each with the endpoint's headers, certificates, proxy and limits."""

from __future__ import annotations

import contextlib
import importlib
import time
from typing import TYPE_CHECKING, Any

from pytest_finetune.secrets import redacted

if TYPE_CHECKING:
    import openai

    from pytest_finetune.endpoints.endpoint import Endpoint

_OF_THE_BODY = {"content-length", "content-encoding", "transfer-encoding"}


def transport(endpoint: Endpoint, *, timeout: float, connections: int) -> Any:
    """What carries the requests of DSPy's native client.

    Args:
        endpoint: Its headers are read here, once.
        timeout: Seconds to wait for the next byte.
        connections: So many are open at once.

    Raises:
        EndpointError: If the variable of a header is not set.
    """
    transports: Any = importlib.import_module("dspy._vendor.lm15.transports")  # dspy.lm15 takes one, and has none
    headers = tuple(endpoint.headers().items())
    names = {name.lower() for name, _ in headers}

    class Transport(transports.StdlibTransport):  # type: ignore[misc]  # dspy ships no types
        def stream(self, request: Any) -> Any:
            request.headers = [(name, value) for name, value in request.headers if name.lower() not in names]
            request.headers.extend(headers)
            response = super().stream(request)
            if response.status < 400:
                return response
            with response:  # an endpoint that refuses a request may quote it
                content = _redacted(response.read())
            told = {name: getattr(response, name) for name in ("status", "reason", "headers", "http_version")}
            return type(response)(**told, chunks=iter([content]), release=lambda _: None)

    return Transport(
        read_timeout=timeout,
        write_timeout=timeout,
        pool_timeout=timeout,
        max_connections=connections,
        ca_bundle=endpoint.ca_bundle,
        proxy=endpoint.proxy,
    )


def http_client(endpoint: Endpoint) -> openai.DefaultHttpxClient:
    """What carries the requests of the openai library; a key that was refused is renewed, and the request repeated.

    A request that got a 401 did nothing, so that repeating it is safe for every kind of request.
    """
    import openai

    class Client(openai.DefaultHttpxClient):
        def send(self, request: Any, **options: Any) -> Any:
            time.sleep(endpoint.rates.request())
            generation = endpoint.key_generation
            response = super().send(request, **options)
            if response.status_code == 401 and endpoint.renew_key(generation):
                response.close()
                request.headers["Authorization"] = f"Bearer {endpoint.key()}"
                response = super().send(request, **options)
            return _without_secrets(response) if response.status_code >= 400 else response

        def __del__(self) -> None:
            with contextlib.suppress(Exception):  # as openai's own client does, for those who do not close theirs
                self.close()

    settings: dict[str, Any] = {} if endpoint.proxy is None else {"proxy": endpoint.proxy}
    if endpoint.ca_bundle is not None:
        settings["verify"] = _trusting(endpoint.ca_bundle)
    return Client(**settings)


def _without_secrets(response: Any) -> Any:
    """The same refusal, without what it may quote of the request."""
    content = _redacted(response.read())
    headers = [(name, value) for name, value in response.headers.multi_items() if name not in _OF_THE_BODY]
    return type(response)(response.status_code, headers=headers, content=content, request=response.request)


def _redacted(content: bytes) -> bytes:
    return redacted(content.decode(errors="replace")).encode()


def _trusting(ca_bundle: str) -> Any:
    """The system's certificates and those of the bundle."""
    import ssl

    context = ssl.create_default_context()
    context.load_verify_locations(cafile=ca_bundle)
    return context

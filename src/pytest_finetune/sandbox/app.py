"""The server as an ASGI application: reads a request, checks it, has it carried out, writes the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from .errors import ApiError, invalid_request
from .faults import OF_A_JOB, FaultKind, refusal
from .openapi import describe
from .operations import OPERATIONS, Operation, Result
from .services import Call, Services, Upload

_LONGEST_JSON = 32 * 1024 * 1024


def create_app(services: Services) -> Starlette:
    """The application over these parts."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        services.runner.recover()
        yield
        await services.runner.stop()
        services.state.close()

    async def description(_request: Request) -> JSONResponse:
        return JSONResponse(describe(OPERATIONS))

    by_path: dict[str, dict[str, Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    routes = [_route(path, operations, services) for path, operations in by_path.items()]
    return Starlette(
        routes=[*routes, Route("/openapi.json", description)],
        lifespan=lifespan,
        exception_handlers={HTTPException: _unknown, ApiError: _error},
    )


def _route(path: str, operations: Mapping[str, Operation], services: Services) -> Route:
    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await _Exchange(operations[method], services, request).answer()

    # A model's name may hold a slash.
    return Route(path.replace("{model}", "{model:path}"), endpoint, methods=list(operations))


@dataclass
class _Exchange:
    """One request on its way to an answer."""

    operation: Operation
    services: Services
    request: Request

    async def answer(self) -> Response:
        self._check_key()
        content = await self._read()
        body, upload = await self._parse(content)
        model = getattr(body, "model", None)
        drawn = content or str(self.request.url.query).encode() + self.request.url.path.encode()
        fault = self.services.faults.draw(self.operation.name, model, drawn)
        if fault is not None:
            await self._act_before(fault.kind, fault.seconds)
            refused = refusal(fault, model)
            if refused is not None:
                raise refused
        kind = None if fault is None else fault.kind
        call = Call(self.services, self.request.path_params, self._query(), body, content, upload, kind)
        response = _write(await self.operation.handler(call))
        return _Dropped(response) if kind is FaultKind.DROP else response

    def _check_key(self) -> None:
        key = self.services.settings.api_key
        if key is not None and self.request.headers.get("authorization") != f"Bearer {key}":
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")

    async def _read(self) -> bytes:
        """The body, unless it is longer than is allowed."""
        upload = self.operation.form is not None
        limit = self.services.settings.max_upload_bytes
        limit = limit if upload else min(limit, _LONGEST_JSON)
        chunks, size = [], 0
        async for chunk in self.request.stream():
            size += len(chunk)
            if size > limit:
                raise ApiError(413, f"Maximum content size limit ({limit}) exceeded.", code="content_too_large")
            chunks.append(chunk)
        return b"".join(chunks)

    async def _parse(self, content: bytes) -> tuple[BaseModel | None, Upload | None]:
        if self.operation.form is not None:
            return await self._parse_form(self.operation.form, content)
        if self.operation.body is None:
            return None, None
        try:
            return self.operation.body.model_validate_json(content), None
        except ValidationError as error:
            if error.errors()[0]["type"] == "json_invalid":
                raise ApiError(400, "We could not parse the JSON body of your request.") from None
            raise invalid_request(error) from None

    async def _parse_form(self, form: type[BaseModel], content: bytes) -> tuple[BaseModel, Upload | None]:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content, "more_body": False}

        try:
            async with Request(self.request.scope, receive).form(max_part_size=1024 * 1024) as fields:
                file = fields.get("file")
                upload = None
                if file is not None and not isinstance(file, str):
                    upload = Upload(file.filename or "upload", await file.read())
                given = {name: value for name, value in fields.items() if name != "file"}
                return form.model_validate(given), upload
        except (HTTPException, MultiPartException):
            raise ApiError(400, "Could not parse multipart form.") from None
        except ValidationError as error:
            raise invalid_request(error) from None

    def _query(self) -> BaseModel | None:
        if self.operation.query is None:
            return None
        given: dict[str, Any] = {}
        for name, value in self.request.query_params.items():
            field, bracket, key = name.partition("[")
            if bracket:
                inner = given.setdefault(field, {})
                if isinstance(inner, dict):
                    inner[key.rstrip("]")] = value
            else:
                given[name] = value
        try:
            return self.operation.query.model_validate(given)
        except ValidationError as error:
            raise invalid_request(error) from None

    async def _act_before(self, kind: FaultKind, seconds: float) -> None:
        if kind in OF_A_JOB:
            return
        if kind in {FaultKind.SLOW, FaultKind.HANG}:
            await asyncio.sleep(seconds)
        if kind is FaultKind.HANG:
            raise ApiError(504, "The server timed out.", kind="server_error")


class _Dropped(Response):
    """Begins the answer, then closes the connection."""

    def __init__(self, whole: Response) -> None:
        super().__init__(content=bytes(whole.body) if hasattr(whole, "body") else b"data: ", status_code=200)
        self.headers["content-length"] = str(len(self.body) + 1024)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's signature
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


def _write(result: Result) -> Response:
    headers = {"x-request-id": f"req_{token_hex(16)}"}
    if isinstance(result, BaseModel):
        return Response(result.model_dump_json(), media_type="application/json", headers=headers)
    if isinstance(result, bytes):
        return Response(result, media_type="application/octet-stream", headers=headers)
    return StreamingResponse(result, media_type="text/event-stream", headers=headers)


async def _error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101  # registered for this class alone
    return JSONResponse(error.body, error.status, {"x-request-id": f"req_{token_hex(16)}", **error.headers})


async def _unknown(request: Request, error: Exception) -> Response:
    """A path or method that is not there."""
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class alone
    where = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        refused = ApiError(405, f"Not allowed to {where}.", code="method_not_allowed")
    else:
        refused = ApiError(error.status_code, f"Invalid URL ({where})", code="unknown_url")
    return JSONResponse(refused.body, refused.status, dict(error.headers or {}))

"""Errors as the real service words them: a status and ``{"error": {message, type, param, code}}``."""

from __future__ import annotations

from pydantic import ValidationError


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: The HTTP status.
        message: For a person.
        code: For a program, such as ``model_not_found``.
        param: The request's field at fault, where there is one.
        kind: The body's ``type``.
        headers: Sent with the answer, such as ``retry-after``.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def model_not_found(model: str) -> ApiError:
    """The same words for a model that was deleted, shut down, or never there."""
    return ApiError(
        404,
        f"The model `{model}` does not exist or you do not have access to it.",
        code="model_not_found",
    )


def invalid_request(error: ValidationError) -> ApiError:
    """The first thing that is wrong with a request's body or query."""
    first = error.errors(include_url=False)[0]
    param = ".".join(str(part) for part in first["loc"]) or None
    if first["type"] == "missing":
        message, code = f"Missing required parameter: '{param}'.", "missing_required_parameter"
    elif first["type"] == "extra_forbidden":
        message, code = f"Unrecognized request argument supplied: {param}", "unknown_parameter"
    else:
        message, code = f"Invalid value for '{param}': {first['msg']}.", "invalid_value"
    return ApiError(400, message, code=code, param=param)

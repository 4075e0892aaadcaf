"""``/sandbox``: what no real service has, for tests and for those who start the server."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from ..errors import ApiError
from ..faults import Fault
from ..services import Call, expect
from ..wire.common import Answer, Request
from ..wire.jobs import CreateJob
from ..wire.models import ModelObject
from .jobs import check_job


class SetFaults(Request):
    """The faults from now on, in place of those set before."""

    faults: list[Fault]


class RequestCount(Answer):
    """How often one prompt was put to one model."""

    model: str
    row: str
    count: int


class RequestCounts(Answer):
    """Every chat request that reached a model, refused ones left out."""

    total: int
    by_model: dict[str, int]
    by_row: list[RequestCount]


class RestoreModel(CreateJob):
    """A model to fit from its training file, and the name it is to have."""

    name: Annotated[str, StringConstraints(pattern=r"^ft:[\w.:-]+$", max_length=256)]


class SetShutdown(Request):
    """The day on which a model stops answering; ``null`` takes it back."""

    model: str
    shutdown_date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None


async def set_faults(call: Call) -> SetFaults:
    """Replace the faults."""
    body = expect(call.body, SetFaults)
    call.services.faults.set(body.faults)
    return body


async def count_requests(call: Call) -> RequestCounts:
    """Count chat requests by model and by row."""
    requests, by_model = call.services.requests, dict[str, int]()
    for (model, _row), count in requests.items():
        by_model[model] = by_model.get(model, 0) + count
    rows = [RequestCount(model=model, row=row, count=count) for (model, row), count in sorted(requests.items())]
    return RequestCounts(total=requests.total(), by_model=by_model, by_row=rows)


async def forget_requests(call: Call) -> RequestCounts:
    """Begin to count anew."""
    call.services.requests.clear()
    return await count_requests(call)


async def restore_model(call: Call) -> ModelObject:
    """Make a model callable again from the file it was trained on; answers when it is ready."""
    body, services = expect(call.body, RestoreModel), call.services
    if body.seed is None:
        raise ApiError(400, "Missing required parameter: 'seed'.", param="seed", code="missing_required_parameter")
    check_job(call, body)
    await services.runner.restore(body.name, body)
    return services.models.describe(body.name)


async def set_shutdown(call: Call) -> BaseModel:
    """Say when a model is shut down."""
    body, models = expect(call.body, SetShutdown), call.services.models
    models.set_shutdown(body.model, body.shutdown_date)
    return body

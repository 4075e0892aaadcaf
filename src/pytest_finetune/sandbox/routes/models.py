"""``/v1/models``."""

from __future__ import annotations

from ..services import Call
from ..wire.models import DeletedModel, ModelList, ModelObject


async def list_models(call: Call) -> ModelList:
    """The models that can be called."""
    return ModelList(data=call.services.models.list())


async def retrieve_model(call: Call) -> ModelObject:
    """One model, with the day on which it is shut down, where one is set."""
    return call.services.models.describe(call.path["model"])


async def delete_model(call: Call) -> DeletedModel:
    """Delete a fine-tuned model."""
    call.services.models.delete(call.path["model"])
    return DeletedModel(id=call.path["model"])

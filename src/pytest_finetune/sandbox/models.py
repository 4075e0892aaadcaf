"""Which models there are, and the one that answers to a name."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

from pydantic import BaseModel

from .clock import Clock
from .errors import ApiError, model_not_found
from .learning import FittedModel, Model, base_model
from .settings import BASE_MODELS, Settings, Size
from .state import State
from .wire.models import ModelObject

OWNER = "org-sandbox"
_DATED = re.compile(r"(.+)-\d{4}-\d{2}-\d{2}")


class StoredModel(BaseModel):
    """A fine-tuned model: what is told of it, and the name of its weights."""

    described: ModelObject
    size: Size
    weights: str


class Shutdown(BaseModel):
    """The day (YYYY-MM-DD) from which a model answers no more."""

    date: str


@dataclass
class Models:
    """Base models, their aliases, and the fine-tuned ones."""

    settings: Settings
    state: State
    clock: Clock
    _loaded: dict[str, Model] = field(default_factory=dict)
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)

    def base_size(self, name: str) -> Size | None:
        """The size of a base model or alias; a dated form of an alias counts."""
        dated = _DATED.fullmatch(name)
        for candidate in (name, dated.group(1) if dated else name):
            size = BASE_MODELS.get(candidate) or self.settings.aliases.get(candidate)
            if size is not None:
                return size
        return None

    def stored(self, name: str) -> StoredModel | None:
        """A fine-tuned model by its name."""
        return self.state.get("model", name, StoredModel)

    def add(self, name: str, size: Size, weights: str) -> None:
        """Make a fine-tuned model callable."""
        described = ModelObject(id=name, created=self.clock.now(), owned_by=OWNER)
        self.state.put("model", name, StoredModel(described=described, size=size, weights=weights))
        self._loaded.pop(name, None)

    def describe(self, name: str) -> ModelObject:
        """What ``GET /models/NAME`` answers.

        Raises:
            ApiError: 404, if there is no such model or it was shut down.
        """
        stored = self.stored(name)
        if stored is not None:
            described = stored.described
        elif self.base_size(name) is not None:
            described = ModelObject(id=name, created=0, owned_by="system")
        else:
            raise model_not_found(name)
        shutdown = self.state.get("shutdown", name, Shutdown)
        if shutdown is None:
            return described
        if shutdown.date <= self.clock.today().isoformat():
            raise model_not_found(name)
        return described.model_copy(update={"shutdown_date": shutdown.date})

    def list(self) -> list[ModelObject]:
        """Every model that can be called."""
        names = [*BASE_MODELS, *self.settings.aliases]
        names += [model.described.id for model in self.state.all("model", StoredModel)]
        listed = []
        for name in names:
            try:
                listed.append(self.describe(name))
            except ApiError:
                continue  # shut down
        return listed

    def delete(self, name: str) -> None:
        """Delete a fine-tuned model; base models stay."""
        if self.stored(name) is None:
            if self.base_size(name) is not None:
                raise ApiError(403, f"You do not have permission to delete the model `{name}`.", param="model")
            raise model_not_found(name)
        self.state.delete("model", name)
        self._loaded.pop(name, None)

    def set_shutdown(self, name: str, day: str | None) -> None:
        """Say when a model stops answering: a day that has come stops it now, ``None`` takes it back."""
        if self.stored(name) is None and self.base_size(name) is None:
            raise model_not_found(name)
        if day is None:
            self.state.delete("shutdown", name)
        else:
            self.state.put("shutdown", name, Shutdown(date=day))

    async def load(self, name: str) -> Model:
        """The model that answers to the name.

        Raises:
            ApiError: 404, if there is none or it was shut down.
        """
        self.describe(name)
        if name in self._loaded:
            return self._loaded[name]
        async with self._loading:
            if name not in self._loaded:
                self._loaded[name] = await self._read(name)
        return self._loaded[name]

    async def _read(self, name: str) -> Model:
        stored = self.stored(name)
        if stored is None:
            size = self.base_size(name)
            if size is None:
                raise model_not_found(name)
            return base_model(size)
        content = self.state.weights(stored.weights).read_bytes()
        return await asyncio.to_thread(FittedModel.from_bytes, content)

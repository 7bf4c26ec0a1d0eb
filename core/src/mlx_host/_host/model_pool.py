"""The models of a server: what is served can change, and each model can be loaded and unloaded, while requests run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from weakref import WeakSet

from mlx_host._host.catalog import Catalog, ModelSpec
from mlx_host._host.served_model import ServedModel
from mlx_host.api import ModelState, ModelStatus
from mlx_host.errors import LoadError, MlxHostError

# A reader of changes that is so many behind misses the oldest.
MAX_UNREAD_CHANGES = 1000


class Changes(AsyncIterator[ModelStatus]):
    """Snapshots of the models whose state changed, from when this was created until the pool stops."""

    def __init__(self) -> None:
        self._unread: deque[ModelStatus] = deque(maxlen=MAX_UNREAD_CHANGES)
        self._closed = False
        self._arrived = asyncio.Event()

    def add(self, status: ModelStatus) -> None:
        self._unread.append(status)
        self._arrived.set()

    def close(self) -> None:
        self._closed = True
        self._arrived.set()

    async def __anext__(self) -> ModelStatus:
        while not self._unread:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._unread.popleft()


class ModelPool:
    """The served models, one for each specification of `catalog`; `create` makes one from its specification."""

    def __init__(self, create: Callable[[ModelSpec], ServedModel], catalog: Catalog) -> None:
        self.catalog = catalog
        self._create = create
        # Models that are no longer served, while they are being unloaded.
        self._removed: set[ServedModel] = set()
        self._changes: WeakSet[Changes] = WeakSet()
        self._models = {spec.name: self._new(spec) for spec in catalog}

    @classmethod
    def empty(cls) -> ModelPool:
        """Return a pool for a host that only describes its APIs."""

        def create(spec: ModelSpec) -> ServedModel:
            raise AssertionError("an empty pool creates no model")

        return cls(create, Catalog())

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(list(self._models.values()))

    def resolve(self, name: str) -> ServedModel:
        """Find a model, loaded or not, as `Catalog.resolve` does."""
        return self._models[self.catalog.resolve(name).name]

    def add(self, spec: ModelSpec) -> ServedModel:
        """Serve another model, which is not loaded yet; UsageError if its name is taken."""
        self.catalog = self.catalog.with_spec(spec)
        model = self._models[spec.name] = self._new(spec)
        return model

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Serve a model no more, and unload it as `ServedModel.unload` does; its name is free at once."""
        self.catalog = self.catalog.without(name)
        model = self._models.pop(name)
        self._removed.add(model)
        await model.unload(force=force)
        self._removed.discard(model)

    def _new(self, spec: ModelSpec) -> ServedModel:
        model = self._create(spec)
        model.lifecycle.subscribe(lambda: self._publish(model))
        return model

    def changes(self) -> Changes:
        """Return an iterator over snapshots of models as their state changes from now on."""
        changes = Changes()
        self._changes.add(changes)
        return changes

    def _publish(self, model: ServedModel) -> None:
        status = model.status()
        for changes in self._changes:
            changes.add(status)

    def start(self) -> None:
        """Begin to load every model."""
        for model in self:
            model.start()

    async def wait_started(self, *, strict: bool = False) -> None:
        """Wait until every model is ready or has failed; LoadError if none is ready.

        If `strict`, or if there is only one model, LoadError as soon as one has failed.
        """
        loading = {asyncio.create_task(model.wait_loaded()) for model in self}
        strict = strict or len(loading) == 1
        errors: list[BaseException] = []
        try:
            while loading:
                done, loading = await asyncio.wait(loading, return_when=asyncio.FIRST_COMPLETED)
                errors += [error for task in done if (error := task.exception()) is not None]
                if errors and strict:
                    raise errors[0]
        finally:
            for task in loading:
                task.cancel()
        for error in errors:
            if not isinstance(error, MlxHostError):
                raise error
        if errors and not any(model.state is ModelState.READY for model in self):
            raise LoadError("No model could be loaded. " + " ".join(str(error) for error in errors))

    async def stop(self, timeout: float) -> None:
        """End all requests and processes; this is final."""
        await asyncio.gather(*(model.stop(timeout) for model in (*self, *self._removed)))
        for changes in self._changes:
            changes.close()

"""The models of a server, which can be added, removed, loaded and unloaded while requests run."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from weakref import WeakSet

from mlx_host._host.catalog import Catalog, ModelSpec
from mlx_host._host.served_model import ServedModel
from mlx_host.api import ModelState, ModelStatus
from mlx_host.errors import LoadError, MlxHostError

# If a consumer of changes is further behind, the oldest are dropped.
MAX_PENDING_CHANGES = 1000


class Changes(AsyncIterator[ModelStatus]):
    """The statuses of models at each change of their state, until the pool stops."""

    def __init__(self) -> None:
        self._pending: deque[ModelStatus] = deque(maxlen=MAX_PENDING_CHANGES)
        self._closed = False
        self._arrived = asyncio.Event()

    def add(self, status: ModelStatus) -> None:
        self._pending.append(status)
        self._arrived.set()

    def close(self) -> None:
        self._closed = True
        self._arrived.set()

    async def __anext__(self) -> ModelStatus:
        while not self._pending:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._pending.popleft()


class ModelPool:
    """The served models, created by `create`: one for each specification in `catalog`."""

    def __init__(self, create: Callable[[ModelSpec], ServedModel], catalog: Catalog) -> None:
        self.catalog = catalog
        self._create = create
        # Removed models, while they are being unloaded.
        self._removed: set[ServedModel] = set()
        self._changes: WeakSet[Changes] = WeakSet()
        self._models = {spec.name: self._new(spec) for spec in catalog}

    @classmethod
    def empty(cls) -> ModelPool:
        """Return a pool without models, for a host that only describes its APIs."""

        def create(spec: ModelSpec) -> ServedModel:
            raise AssertionError("an empty pool creates no model")

        return cls(create, Catalog())

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(list(self._models.values()))

    def resolve(self, name: str) -> ServedModel:
        """Return the model, loaded or not, that `name` resolves to; see `Catalog.resolve`."""
        return self._models[self.catalog.resolve(name).name]

    def add(self, spec: ModelSpec) -> ServedModel:
        """Add a model, without loading it; UsageError if its name is taken."""
        self.catalog = self.catalog.with_spec(spec)
        model = self._models[spec.name] = self._new(spec)
        return model

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a model, and unload it as `ServedModel.unload` does; its name can be reused at once."""
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
        """Return an iterator over the statuses of models as their states change from now on."""
        changes = Changes()
        self._changes.add(changes)
        return changes

    def _publish(self, model: ServedModel) -> None:
        status = model.status()
        for changes in self._changes:
            changes.add(status)

    def start(self) -> None:
        """Start to load every model."""
        for model in self:
            model.start()

    async def wait_started(self, *, strict: bool = False) -> None:
        """Wait until every model is ready or has failed; LoadError if none of them is ready.

        With `strict`, or with only one model, LoadError is raised as soon as a model has failed.
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
        """Shut all models down; they cannot be started again."""
        await asyncio.gather(*(model.stop(timeout) for model in (*self, *self._removed)))
        for changes in self._changes:
            changes.close()

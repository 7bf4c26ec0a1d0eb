"""The host: finds the model that a request is for and lets the plugins have their say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from mlx_host._host.output_processor import AnswerEvent, answer
from mlx_host._host.reply import Exchange
from mlx_host._host.served_model import ModelState, ServedModel
from mlx_host._plugins.manager import Plugins
from mlx_host._settings import HostSettings
from mlx_host.errors import ModelNotFound, UnsupportedRequest
from mlx_host.requests import ChatRequest, Request, TokenizeRequest


class Host:
    """The models of this server, by name, and its settings."""

    def __init__(self, plugins: Plugins, models: Sequence[ServedModel], settings: HostSettings) -> None:
        self.plugins = plugins
        self.models = {model.name: model for model in models}
        self.settings = settings
        self.stopping = False

    def start(self) -> None:
        """Begin to load every model."""
        for model in self.models.values():
            model.start()

    async def stop(self, timeout: float) -> None:
        """End every model's process."""
        await asyncio.gather(*(model.stop(timeout) for model in self.models.values()))

    @property
    def ready(self) -> bool:
        """Whether every model is up and requests are taken."""
        return not self.stopping and all(model.state is ModelState.READY for model in self.models.values())

    def model(self, name: str) -> ServedModel:
        """Find a model; where only one is served, it answers to any name. ModelNotFound says what there is."""
        if name in self.models:
            return self.models[name]
        if len(self.models) == 1:
            return next(iter(self.models.values()))
        there_is = ", ".join(sorted(self.models))
        raise ModelNotFound(f"The model {name!r} is not served here; there is: {there_is}.", param="model")

    def ask(self, request: Request, *, streams: bool = False) -> Exchange:
        """Put a request to its model; entering the exchange waits for a slot and raises what refuses it."""
        model = self.model(request.model)
        request = self.plugins.hook.prepare_request(request=request, model=model)
        if not model.serves(request):
            assert model.info is not None
            tasks = ", ".join(sorted(kind.task for kind in model.info.supported_requests))
            raise UnsupportedRequest(
                f"Model {model.name!r} does not serve {request.task} requests; it serves: {tasks}. "
                f"{self._who_would(request)}",
                param="model",
            )
        return Exchange(model, request, streams, self.plugins.request_finished)

    def _who_would(self, request: Request) -> str:
        names = [name for name, model in self.models.items() if model.info is not None and model.serves(request)]
        if names:
            return f"Served here for {request.task}: {', '.join(sorted(names))}."
        backends = [name for name, each in self.plugins.backends.found.items() if isinstance(request, each.serves)]
        if backends:
            return f"A model of one of these backends would: {', '.join(sorted(backends))}."
        return "No backend that is installed does; `mlx-host plugins` lists them."

    def chat(self, request: ChatRequest, *, streams: bool = False) -> AsyncGenerator[list[AnswerEvent], None]:
        """Put a chat request to its model and read the answer with the model's parsers."""
        exchange = self.ask(self._with_tools_offered(request), streams=streams)
        prepared = exchange.request
        assert isinstance(prepared, ChatRequest)
        return answer(exchange, prepared, self.model(prepared.model))

    def tokenize(self, request: TokenizeRequest) -> Exchange:
        """Ask a model for the tokens that it would read; of a conversation, those that `chat` would have it read."""
        if isinstance(request.prompt, ChatRequest):
            request = replace(request, prompt=self._with_tools_offered(request.prompt))
        return self.ask(request)

    def _with_tools_offered(self, request: ChatRequest) -> ChatRequest:
        """Leave out the tools where the model's settings do not offer them of their own accord."""
        offered = request.tool_choice != "auto" or self.model(request.model).parsers.auto_tools
        return request if offered else replace(request, tools=(), allowed_tools=None)

"""Small APIs on the scripted backend for tests of ApiContract: a valid one, and others with one fault each."""

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from mlx_host import hookimpl
from mlx_host.api import Api, ApiSettings, ChatEvent, ChoiceDelta, Deadline, Endpoints, Reply, Service
from mlx_host.api.http import (
    Collector,
    Encoder,
    JsonResponse,
    caller,
    collect,
    ignored_fields,
    ignored_header,
    new_router,
    respond,
)
from mlx_host.errors import RequestError
from mlx_host.parsing import Content
from mlx_host.requests import ChatRequest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

ROOT = "/v1/trials"


class Body(BaseModel):
    model_config = ConfigDict(extra="allow")

    text: str = Field(min_length=1)
    stream: bool = False


class AnyBody(Body):
    text: Any


class TrialSettings(ApiSettings):
    uppercase: bool = Field(False, description="Return upper-case text.")


class UndescribedSettings(ApiSettings):
    uppercase: bool = False


def text_of(events: Sequence[ChatEvent]) -> str:
    deltas = [event for event in events if isinstance(event, ChoiceDelta)]
    return "".join(part.text for delta in deltas for part in delta.parts if isinstance(part, Content))


class TextCollector(Collector[ChatEvent]):
    def __init__(self) -> None:
        self.text = ""

    def add(self, events: Sequence[ChatEvent]) -> None:
        self.text += text_of(events)

    async def response(self) -> Response:
        return JsonResponse({"text": self.text})


class TextEncoder(Encoder[ChatEvent]):
    def encode(self, events: Sequence[ChatEvent]) -> list[str]:
        text = text_of(events)
        return [json.dumps(text)] if text else []


class ValidApi(Endpoints):
    """Returns the text; the model rejects the text "reject"."""

    body: type[Body] = Body
    in_schema = True

    def __init__(self, service: Service, name: str) -> None:
        self.service = service
        self.path = f"{ROOT}/{name}"

    def router(self) -> APIRouter:
        router = new_router()

        @router.post(self.path, response_model=None, include_in_schema=self.in_schema)
        async def trial(body: self.body, http: Request) -> Response:  # type: ignore[name-defined]
            return await self.handle(body, http)

        return router

    async def handle(self, body: Body, http: Request) -> Response:
        return await self.respond(body, http, self.submit(body, http))

    def submit(self, body: Body, http: Request) -> Reply[ChatEvent]:
        step = ["reject", "rejected by the model"] if body.text == "reject" else ["text", f"{body.text}"]
        message = {"role": "user", "content": json.dumps([step])}
        request = ChatRequest(id=f"trial-{uuid.uuid4().hex}", model="", messages=[message])
        return self.service.chat(request, caller=caller(http), deadline=Deadline.of(stream=body.stream))

    async def respond(self, body: Body, http: Request, reply: Reply[ChatEvent]) -> Response:
        headers = ignored_header(ignored_fields(body))
        return await respond(http, reply, self.encoder() if body.stream else TextCollector(), headers)

    def encoder(self) -> Encoder[ChatEvent]:
        return TextEncoder()


class OwnFormat(ValidApi):
    def error(self, error: RequestError) -> Response:
        return JsonResponse({"fault": error.message}, error.status)


class EmptyErrors(ValidApi):
    def error(self, error: RequestError) -> Response:
        return Response(status_code=error.status)


class WrongStatus(ValidApi):
    def error(self, error: RequestError) -> Response:
        return JsonResponse({"fault": error.message}, 400)


class TwoFormats(ValidApi):
    async def handle(self, body: Body, http: Request) -> Response:
        try:
            async with self.submit(body, http) as reply:
                events = [event async for batch in reply for event in batch]
        except RequestError as error:
            return JSONResponse({"detail": error.message}, error.status)
        return JsonResponse({"text": text_of(events)}, headers=ignored_header(ignored_fields(body)))


class IgnoresSilently(ValidApi):
    async def respond(self, body: Body, http: Request, reply: Reply[ChatEvent]) -> Response:
        return await respond(http, reply, self.encoder() if body.stream else TextCollector())


class ParsesItself(ValidApi):
    def router(self) -> APIRouter:
        router = new_router()

        @router.post(self.path, response_model=None)
        async def trial(http: Request) -> Response:
            try:
                body = Body(**json.loads(await http.body()))
            except ValidationError as error:
                return self.error(RequestErrorOf400(f"{error}"))
            return await self.handle(body, http)

        return router


class RequestErrorOf400(RequestError):
    status = 400


class AcceptsAnyType(ValidApi):
    body = AnyBody


class KeepsRunning(ValidApi):
    async def respond(self, body: Body, http: Request, reply: Reply[ChatEvent]) -> Response:
        if body.stream:
            return await super().respond(body, http, reply)
        collector = TextCollector()
        await collect(reply, collector)
        response = await collector.response()
        response.headers.update(ignored_header(ignored_fields(body)))
        return response


class StreamsTooSoon(ValidApi):
    async def respond(self, body: Body, http: Request, reply: Reply[ChatEvent]) -> Response:
        if not body.stream:
            return await super().respond(body, http, reply)
        headers = ignored_header(ignored_fields(body))
        return StreamingResponse(self.stream(reply), media_type="text/event-stream", headers=headers)

    async def stream(self, reply: Reply[ChatEvent]) -> AsyncIterator[str]:
        async with reply:
            async for events in reply:
                if text := text_of(events):
                    yield f"data: {json.dumps(text)}\n\n"


class UppercaseEncoder(TextEncoder):
    def encode(self, events: Sequence[ChatEvent]) -> list[str]:
        return [text.upper() for text in super().encode(events)]


class StreamsOther(ValidApi):
    def encoder(self) -> Encoder[ChatEvent]:
        return UppercaseEncoder()


class Undocumented(ValidApi):
    in_schema = False


class CatchesAll(ValidApi):
    def router(self) -> APIRouter:
        router = super().router()

        @router.get(f"{self.path}/{{rest:path}}", response_model=None)
        async def anything(rest: str) -> Response:
            return JsonResponse({"rest": rest})

        return router


def trial(name: str, endpoints: type[ValidApi] = ValidApi, **changes: Any) -> Api[Any]:
    def create(service: Service, settings: ApiSettings) -> Endpoints:
        return endpoints(service, name)

    fields = {"settings": TrialSettings, "prefixes": (f"{ROOT}/{name}",), "request_types": (ChatRequest,), **changes}
    return Api(name=name, create=create, **fields)


APIS = {
    api.name: api
    for api in (
        trial("valid"),
        trial("own-format", OwnFormat),
        trial("empty-errors", EmptyErrors),
        trial("wrong-status", WrongStatus),
        trial("two-formats", TwoFormats),
        trial("ignores-silently", IgnoresSilently),
        trial("parses-itself", ParsesItself),
        trial("accepts-any-type", AcceptsAnyType),
        trial("keeps-running", KeepsRunning),
        trial("streams-too-soon", StreamsTooSoon),
        trial("streams-other", StreamsOther),
        trial("undocumented", Undocumented),
        trial("catches-all", CatchesAll),
        trial("undescribed", settings=UndescribedSettings),
        trial("without-types", request_types=()),
        trial("without-prefix", OwnFormat, prefixes=()),
    )
}


@hookimpl
def register_apis() -> list[Api[Any]]:
    return list(APIS.values())

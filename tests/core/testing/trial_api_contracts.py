"""The API contract on each trial API, run by test_api_contract.py in a separate pytest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from mlx_host.testing import ApiContract, HttpResponse
from mlx_host_trial_apis import APIS, ROOT


class TrialContract(ApiContract):
    arguments = ("--backend", "scripted")
    body: ClassVar = {"text": "Hi"}
    stream: ClassVar = {"stream": True}
    invalid = ({"text": ""}, {"text": "reject"})

    @classmethod
    def output(cls, response: HttpResponse) -> object:
        if response.media_type == "application/json":
            return response.json()["text"]
        return "".join(data for _, data in response.messages()).replace('"', "")


def contract(name: str, **more: Any) -> type[TrialContract]:
    return type("Trial", (TrialContract,), {"api": APIS[name], "path": f"{ROOT}/{name}", **more})


TestValid = contract("valid")
TestOwnFormat = contract("own-format")
TestEmptyErrors = contract("empty-errors")
TestWrongStatus = contract("wrong-status")
TestTwoFormats = contract("two-formats", stream=None, timeout=2.0)
TestIgnoresSilently = contract("ignores-silently")
TestParsesItself = contract("parses-itself")
TestAcceptsAnyType = contract("accepts-any-type")
TestKeepsRunning = contract("keeps-running", timeout=2.0)
TestStreamsTooSoon = contract("streams-too-soon", timeout=2.0)
TestStreamsOther = contract("streams-other")
TestUndocumented = contract("undocumented")
TestCatchesAll = contract("catches-all")
TestUndescribed = contract("undescribed")
TestWithoutTypes = contract("without-types")
TestWithoutPrefix = contract("without-prefix")
TestUnregistered = contract("valid", api=replace(APIS["valid"], name="unregistered"))

"""Overload and mass disconnects: each request gets a response or a 429, and no slot or process leaks."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.client import children, post, queue, script, text_script, wait_for_queue
from tests.support.load_client import Reply, connect, request, run_concurrently, send_request
from tests.support.server import ServerProcess, running_server

ANSWER = ["every", " one", " of", " these", " words"]


def chat(messages: list[dict[str, Any]], **more: Any) -> bytes:
    return request(json.dumps({"messages": messages, **more}).encode())


def whole_text(reply: Reply) -> str:
    """The text of a response, plain or streamed, after checking that it is complete."""
    if reply.headers["content-type"] == "application/json":
        choice = reply.json()["choices"][0]
        assert choice["finish_reason"] == "stop"
        return str(choice["message"]["content"])
    assert reply.body.endswith(b"data: [DONE]\n\n")
    lines = [line.removeprefix("data: ") for line in reply.body.decode().split("\n\n")]
    chunks = [json.loads(line)["choices"][0] for line in lines if line.startswith("{")]
    assert chunks[-1]["finish_reason"] == "stop"
    return "".join(chunk["delta"].get("content", "") for chunk in chunks)


def test_500_concurrent_requests(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    steps = script(["until", str(gate)], *(["text", word] for word in ANSWER))
    with running_server("--backend", "scripted", "--slots", "8", "--queue-size", "64") as server:
        rejected = 0

        async def client(number: int) -> Reply:
            nonlocal rejected
            reply = await send_request(server, chat(steps, stream=number % 2 == 0))
            if reply.status == 429:
                rejected += 1
                if rejected == 500 - 8 - 64:
                    gate.touch()
            return reply

        async def main() -> list[Reply]:
            return await asyncio.wait_for(asyncio.gather(*map(client, range(500))), 120)

        replies = asyncio.run(main())
        assert Counter(reply.status for reply in replies) == {200: 72, 429: 428}
        assert {whole_text(reply) for reply in replies if reply.status == 200} == {"".join(ANSWER)}
        assert all(1 <= int(reply.headers["retry-after"]) <= 120 for reply in replies if reply.status == 429)
        assert queue(server) == (0, 0)


async def leave_early(server: ServerProcess, dice: random.Random) -> None:
    """Send a request, or part of it, and disconnect at a random moment."""
    endless = dice.random() < 0.5
    messages = script(["repeat", "on and on"]) if endless else text_script(*ANSWER)
    sent = chat(messages, stream=dice.random() < 0.7)
    async with connect(server) as (reader, writer):
        if dice.random() < 0.3:
            writer.write(sent[: dice.randrange(len(sent))])
            return
        writer.write(sent)
        await writer.drain()
        if dice.random() < 0.3:
            return
        await asyncio.sleep(dice.random() * 0.02)
        if b'"stream": true' in sent:
            await reader.read(dice.choice([1, 300, 3000]))


def test_1000_disconnects_leak_nothing() -> None:
    with running_server("--backend", "scripted", "--slots", "4", "--queue-size", "16") as server:
        (child,) = children(server)

        def reference_response() -> Any:
            return post(server, {"messages": text_script(*ANSWER), "logprobs": True}).json()["choices"][0]

        before = reference_response()
        dice = random.Random(4)

        async def main() -> None:
            await asyncio.wait_for(
                run_concurrently(lambda _: leave_early(server, dice), range(1000), concurrency=30), 120
            )

        asyncio.run(main())
        wait_for_queue(server, 0)
        assert reference_response() == before
        assert children(server) == [child]
        assert not any("Traceback" in line for line in server.lines)

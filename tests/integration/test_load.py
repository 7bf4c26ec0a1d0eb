"""Far more than the server can take: everybody gets an answer or a refusal, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.client import children, post, queue, says, script, wait_for_queue
from tests.support.crowd import Reply, ask, connected, each, request
from tests.support.server import ServerProcess, running_server

ANSWER = ["every", " one", " of", " these", " words"]


def chat(messages: list[dict[str, Any]], **more: Any) -> bytes:
    return request(json.dumps({"messages": messages, **more}).encode())


def whole_text(reply: Reply) -> str:
    """The text of an answer, streamed or not, which must be complete."""
    if reply.headers["content-type"] == "application/json":
        choice = reply.json()["choices"][0]
        assert choice["finish_reason"] == "stop"
        return str(choice["message"]["content"])
    assert reply.body.endswith(b"data: [DONE]\n\n")
    lines = [line.removeprefix("data: ") for line in reply.body.decode().split("\n\n")]
    chunks = [json.loads(line)["choices"][0] for line in lines if line.startswith("{")]
    assert chunks[-1]["finish_reason"] == "stop"
    return "".join(chunk["delta"].get("content", "") for chunk in chunks)


def test_five_hundred_at_once(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    steps = script(["until", str(gate)], *(["say", word] for word in ANSWER))
    with running_server("--backend", "scripted", "--slots", "8", "--queue-size", "64") as server:
        refused = 0

        async def client(number: int) -> Reply:
            nonlocal refused
            reply = await ask(server, chat(steps, stream=number % 2 == 0))
            if reply.status == 429:
                refused += 1
                if refused == 500 - 8 - 64:
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
    """Send a request, or part of it, and go away at some moment."""
    endless = dice.random() < 0.5
    messages = script(["forever", "on and on"]) if endless else says(*ANSWER)
    sent = chat(messages, stream=dice.random() < 0.7)
    async with connected(server) as (reader, writer):
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


def test_a_thousand_disconnects_leave_nothing() -> None:
    with running_server("--backend", "scripted", "--slots", "4", "--queue-size", "16") as server:
        (child,) = children(server)

        def answer() -> Any:
            return post(server, {"messages": says(*ANSWER), "logprobs": True}).json()["choices"][0]

        before = answer()
        dice = random.Random(4)

        async def main() -> None:
            await asyncio.wait_for(each(lambda _: leave_early(server, dice), range(1000), at_once=30), 120)

        asyncio.run(main())
        wait_for_queue(server, 0)
        assert answer() == before
        assert children(server) == [child]
        assert not any("Traceback" in line for line in server.lines)

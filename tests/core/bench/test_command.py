from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result
from mlx_host._bench.command import bench
from mlx_host._bench.server import run_server
from mlx_host.errors import UsageError

from tests.support.stub_server import DONE, STREAM_HEAD, chunk, models, response, serving, usage


async def good(path: str, body: bytes) -> AsyncIterator[bytes]:
    yield models("tiny") if path == "/v1/models" else STREAM_HEAD + chunk("a") + chunk("b") + usage(4) + DONE


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(bench, arguments)


def test_stdout_contains_only_json() -> None:
    with serving(good) as url:
        result = invoke(url, "--concurrency", "1,2", "--requests", "3", "--max-tokens", "8", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    points = report.pop("points")
    assert report == {"url": f"{url}/v1", "model": "tiny", "max_tokens": 8, "prompt_tokens": 64}
    assert [(point["concurrency"], point["requests"], point["completed"]) for point in points] == [(1, 3, 3), (2, 3, 3)]
    assert all(point["completion_tokens"] == 12 for point in points)
    assert result.stderr == ""


def test_a_table_without_json() -> None:
    with serving(good) as url:
        result = invoke(url, "--concurrency", "2")
    assert result.exit_code == 0
    assert "tiny at" in result.stdout
    assert "p50/p95 ms" in result.stdout


def test_requests_are_twice_the_concurrency_and_at_least_eight() -> None:
    with serving(good) as url:
        result = invoke(url, "--concurrency", "1,5", "--json")
    assert [point["requests"] for point in json.loads(result.stdout)["points"]] == [8, 10]


def test_failed_requests_set_the_exit_code() -> None:
    asked = 0

    async def script(path: str, body: bytes) -> AsyncIterator[bytes]:
        nonlocal asked
        asked += path != "/v1/models"
        if path == "/v1/models" or asked < 3:
            async for piece in good(path, body):
                yield piece
        else:
            yield response(b'{"error": {"message": "full"}}', status=429)

    with serving(script) as url:
        result = invoke(url, "--concurrency", "1", "--requests", "3", "--json")
    assert result.exit_code == 1
    (point,) = json.loads(result.stdout)["points"]
    assert (point["completed"], point["failures"]) == (1, [{"reason": "HTTP 429: full", "count": 2}])


def usage_error(*arguments: str) -> str:
    result = invoke(*arguments)
    assert isinstance(result.exception, UsageError)
    assert result.stdout == ""
    return str(result.exception)


def test_no_server_at_the_address_is_an_error() -> None:
    with serving(good) as url:
        pass
    assert usage_error(url).startswith(f"Cannot connect to {url}/v1 (connection failed: Connection refused).")


def test_one_of_several_models_must_be_named() -> None:
    async def script(path: str, body: bytes) -> AsyncIterator[bytes]:
        yield models("a", "b")

    with serving(script) as url:
        assert "--model: a, b" in usage_error(url)


def test_url_or_model_is_required() -> None:
    assert "--model" in usage_error()


def test_options_of_run_cannot_be_combined_with_a_url() -> None:
    assert "Unknown options '--backend lm'" in usage_error("http://127.0.0.1:1/v1", "--backend", "lm")


@pytest.mark.parametrize("concurrency", ["", "1,x", "0", "8,-1"])
def test_concurrency_is_a_list_of_positive_numbers(concurrency: str) -> None:
    result = invoke("http://127.0.0.1:1", f"--concurrency={concurrency}")
    assert result.exit_code == 2
    assert "--concurrency" in result.stderr


SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

assert sys.argv[1] == "--port"
HTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""


def test_a_started_server_is_ready_and_stopped_afterwards(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(SERVER)

    async def start_and_stop() -> int:
        async with run_server([sys.executable, str(script)]) as target:
            _, writer = await asyncio.open_connection(target.host, target.port)
            writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(target.host, target.port)
        return target.port

    assert asyncio.run(start_and_stop()) > 0


def test_the_output_of_a_server_that_does_not_start_is_reported() -> None:
    async def start() -> None:
        async with run_server([sys.executable, "-c", "raise SystemExit('no such model')"]):
            pass

    with pytest.raises(UsageError, match=r"exit code 1(?s:.*)\nno such model"):
        asyncio.run(start())


def mlx_host(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "mlx_host", *arguments], check=False, capture_output=True, text=True)


def test_a_server_for_the_model_is_started_measured_and_stopped() -> None:
    ended = mlx_host("bench", "--backend", "echo", "--uppercase", "--concurrency", "2", "--max-tokens", "5", "--json")
    assert ended.stderr == ""
    assert ended.returncode == 0
    report = json.loads(ended.stdout)
    (point,) = report["points"]
    assert report["model"] == "echo"
    assert (point["completed"], point["failed"], point["completion_tokens"]) == (8, 0, 40)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", urlsplit(report["url"]).port or 0))


def test_a_wrong_address_is_a_usage_error_of_the_command() -> None:
    with serving(good) as url:
        pass
    ended = mlx_host("bench", url)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"Error: Cannot connect to {url}/v1")
    assert "Traceback" not in ended.stderr

"""The command `mlx-host bench`; what it needs is imported when it runs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence

import rich_click as click

from mlx_host.errors import UsageError


class _Concurrencies(click.ParamType[tuple[int, ...]]):
    """Numbers with commas between them."""

    name = "N,N,…"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(number) for number in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 1,8,32", param, ctx)
        if min(numbers) < 1:
            self.fail(f"{value!r}: each number must be at least 1", param, ctx)
        return numbers


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", metavar="[URL | RUN OPTIONS…]", nargs=-1, type=click.UNPROCESSED)
@click.option("--model", help="The model to ask. Without URL: the model to start a server with.")
@click.option("--concurrency", type=_Concurrencies(), default="1,8,32", show_default=True, help="Requests at once.")
@click.option(
    "--requests",
    type=click.IntRange(min=1),
    help="Requests at each concurrency.  [default: twice the concurrency, at least 8]",
)
@click.option("--max-tokens", type=click.IntRange(min=2), default=128, show_default=True, help="Tokens an answer.")
@click.option(
    "--prompt-tokens", type=click.IntRange(min=1), default=64, show_default=True, help="Tokens a prompt, roughly."
)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=600, show_default=True, help="Seconds.")
@click.option("--api-key", envvar="MLX_HOST_BENCH_API_KEY", show_envvar=True, help="Sent as a bearer token.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on stdout.")
@click.pass_context
def bench(
    ctx: click.Context,
    arguments: tuple[str, ...],
    model: str | None,
    concurrency: tuple[int, ...],
    requests: int | None,
    max_tokens: int,
    prompt_tokens: int,
    timeout: float,
    api_key: str | None,
    as_json: bool,
) -> None:
    """Measure latency and throughput of any OpenAI-compatible server.

    URL is its base, such as http://127.0.0.1:8000/v1. Without URL a server is started, measured and stopped: --model
    and the options that are not listed here are those of `mlx-host run`, for example --backend lm.

    The exit code is 1 if a request failed.
    """
    url, run_options = _split(arguments)
    if url is None and model is None and not run_options:
        raise UsageError("Nothing to measure: give the URL of a server, or --model to have one started.")

    import uvloop
    from rich.console import Console

    from mlx_host._bench.client import Workload
    from mlx_host._bench.http_client import Target
    from mlx_host._bench.report import report_json, report_table
    from mlx_host._bench.runner import measure

    target = Target.parse(url, api_key) if url else None
    workload = Workload(model or "", max_tokens, prompt_tokens, salt=f"{secrets.token_hex(3)}-")
    plan = [(number, requests or max(8, 2 * number)) for number in concurrency]
    session = uvloop.run(measure(target, run_options, workload, plan, timeout))
    report = report_json(session)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        Console().print(report_table(report))
    if any(point.failures for point in session.points):
        ctx.exit(1)


def _split(arguments: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The URL, if there is one, and the options for the server to start, if there is none."""
    if not arguments or arguments[0].startswith("-"):
        return None, arguments
    url, *rest = arguments
    if rest:
        raise UsageError(
            f"{' '.join(rest)!r} is not understood: a running server at {url} takes no options of `mlx-host run`. "
            "See mlx-host bench --help for those of bench."
        )
    return url, ()

"""The command `mlx-host bench`; its modules are imported when it runs, so that other commands start fast."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence

import rich_click as click
from click.shell_completion import CompletionItem

from mlx_host._completion import ARGUMENTS, complete_run_option, complete_served_model, run_option_names
from mlx_host.errors import UsageError


class _Concurrencies(click.ParamType[tuple[int, ...]]):
    """A comma-separated list of positive integers."""

    name = "N,N,…"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(number) for number in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a comma-separated list of integers such as 1,8,32", param, ctx)
        if min(numbers) < 1:
            self.fail(f"{value!r}: each concurrency must be at least 1", param, ctx)
        return numbers


class _BenchCommand(click.RichCommand):
    """Completes the options of `mlx-host run` in addition to its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # While a value is completed, the arguments cannot be parsed.
        ctx.meta[ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        own = super().shell_complete(ctx, incomplete)
        names = {item.value for item in own}
        return own + [item for item in run_option_names(ctx, incomplete) if item.value not in names]


@click.command(cls=_BenchCommand, context_settings={"ignore_unknown_options": True})
@click.argument(
    "arguments",
    metavar="[URL | RUN OPTIONS…]",
    nargs=-1,
    type=click.UNPROCESSED,
    shell_complete=complete_run_option,
)
@click.option(
    "--model",
    help="The model to measure. Without URL, a server is started with it.",
    shell_complete=complete_served_model,
)
@click.option(
    "--concurrency",
    type=_Concurrencies(),
    default="1,8,32",
    show_default=True,
    help="Numbers of concurrent requests; each is measured in turn.",
)
@click.option(
    "--requests",
    type=click.IntRange(min=1),
    help="Number of requests at each concurrency.  [default: twice the concurrency, at least 8]",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=2),
    default=128,
    show_default=True,
    help="Maximum number of tokens of each completion.",
)
@click.option(
    "--prompt-tokens",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Approximate number of tokens of each prompt.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600,
    show_default=True,
    help="Timeout of each request, in seconds.",
)
@click.option("--api-key", envvar="MLX_HOST_BENCH_API_KEY", show_envvar=True, help="API key, sent as a bearer token.")
@click.option("--json", "as_json", is_flag=True, help="Print the results to stdout as JSON.")
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
    """Measure latency and throughput of an OpenAI-compatible server.

    URL is the server's base URL, such as http://127.0.0.1:8000/v1. Without URL, a server is started and measured:
    --model and all options that are not listed here are passed to `mlx-host run`, for example --backend lm.

    The exit code is 1 if a request failed.
    """
    url, run_options = _split(arguments)
    if url is None and model is None and not run_options:
        raise UsageError("Nothing to measure: give the URL of a server, or --model to start one.")

    import uvloop
    from rich.console import Console

    from mlx_host._bench.client import Workload
    from mlx_host._bench.http_client import Target
    from mlx_host._bench.report import report_json, report_table
    from mlx_host._bench.runner import run_benchmark

    target = Target.parse(url, api_key) if url else None
    workload = Workload(model or "", max_tokens, prompt_tokens, salt=f"{secrets.token_hex(3)}-")
    plan = [(number, requests or max(8, 2 * number)) for number in concurrency]
    result = uvloop.run(run_benchmark(target, run_options, workload, plan, timeout))
    report = report_json(result)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        Console().print(report_table(report))
    if any(measured.failed for measured in result.results):
        ctx.exit(1)


def _split(arguments: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """Return the URL or None, and the options of the server to start."""
    if not arguments or arguments[0].startswith("-"):
        return None, arguments
    url, *rest = arguments
    if rest:
        raise UsageError(
            f"Unknown options {' '.join(rest)!r}: with a URL ({url}), options of `mlx-host run` are not accepted. "
            "See `mlx-host bench --help`."
        )
    return url, ()

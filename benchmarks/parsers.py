"""Measures the cost of parsing: every installed parser parses 100 kB and 1 MB in chunks of four characters.

    uv run python -m benchmarks.parsers

If the cost is linear, the ratio of the two times is about 10. Compare the time per chunk with that of one decoding
step, which is at least a millisecond.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator

from mlx_host._cli import discover
from mlx_host.parsing import Parser, Part, ToolCall
from mlx_host.testing.samples import Sample, load_samples
from rich.console import Console
from rich.progress import track
from rich.table import Table

CHUNK_LENGTH = 4
SHORT, LONG = 100_000, 1_000_000
STREAMED = "one huge argument, streamed"
WORDS = "The quick brown fox < jumps > over the {lazy} dog [1], and then some. "


def texts(parser: type[Parser], length: int) -> Iterator[tuple[str, str, Sample]]:
    """Yield name, text and sample: prose, the family's samples joined, and a call with one huge argument.

    The last text is parsed twice, the second time with streamed arguments.
    """
    known = load_samples(parser)
    any_sample = next((sample for sample in known if sample.tools), known[0])
    yield "prose", (WORDS * (length // len(WORDS) + 1))[:length], any_sample
    samples = "\n".join(sample.text for sample in known)
    yield "samples", (samples * (length // len(samples) + 1))[:length], any_sample
    for sample in known:
        calls = [part for part in parse(parser, sample, [sample.text]) if isinstance(part, ToolCall)]
        if len(calls) == 1 and "Oslo" in calls[0].source:
            text = sample.text.replace("Oslo", (WORDS * (length // len(WORDS) + 1))[:length])
            yield "one huge argument", text, sample
            yield STREAMED, text, sample
            return


def parse(parser: type[Parser], sample: Sample, chunks: list[str], *, stream: bool = False) -> list[Part]:
    """Return the parts of the chunks, parsed with the sample's prompt and tools."""
    instance = parser(generation_prompt=sample.generation_prompt, tools=sample.tools)
    instance.stream_arguments = stream
    return [part for chunk in chunks for part in instance.feed(chunk)] + instance.finish()


def seconds(parser: type[Parser], sample: Sample, text: str, *, stream: bool) -> float:
    """Return the CPU time of parsing the text once."""
    chunks = [text[at : at + CHUNK_LENGTH] for at in range(0, len(text), CHUNK_LENGTH)]
    begin = time.process_time()
    parse(parser, sample, chunks, stream=stream)
    return time.process_time() - begin


def main() -> None:
    """Run the benchmark and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3, help="repetitions; the median counts (default: 3)")
    arguments.add_argument("families", nargs="*", help="parsers to measure (default: all)")
    options = arguments.parse_args()
    installed = {parser.name: parser for parser in discover().parsers.found.values()}
    table = Table("parser", "text", "1 MB to 100 kB", "µs per chunk")
    chosen = options.families or sorted(installed)
    for name in track(chosen, console=Console(stderr=True)):
        parser = installed[name]
        for (what, short, sample), (_, long, _) in zip(texts(parser, SHORT), texts(parser, LONG), strict=True):
            stream = what == STREAMED
            rounds = [
                (seconds(parser, sample, short, stream=stream), seconds(parser, sample, long, stream=stream))
                for _ in range(options.rounds)
            ]
            ratio = statistics.median(long_time / short_time for short_time, long_time in rounds)
            each = statistics.median(long_time for _, long_time in rounds) / (len(long) / CHUNK_LENGTH)
            table.add_row(name, what, f"{ratio:.1f}", f"{each * 1e6:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()

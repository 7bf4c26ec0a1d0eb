"""The cost of parsing: each installed family parses 100 kB and 1 MB, in chunks of four characters.

    uv run python -m benchmarks.parsers

If the cost is linear, the ratio of the two times is near 10. Compare the time per chunk with one decoding step, which
takes at least a millisecond.
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

PIECE = 4
SHORT, LONG = 100_000, 1_000_000
WORDS = "The quick brown fox < jumps > over the {lazy} dog [1], and then some. "


def texts(parser: type[Parser], length: int) -> Iterator[tuple[str, str, Sample]]:
    """Plain prose, the family's samples concatenated, and a call with one huge argument."""
    known = load_samples(parser)
    any_tools = next((sample for sample in known if sample.tools), known[0])
    yield "prose", (WORDS * (length // len(WORDS) + 1))[:length], any_tools
    samples = "\n".join(sample.text for sample in known)
    yield "samples", (samples * (length // len(samples) + 1))[:length], any_tools
    for sample in known:
        calls = [part for part in read(parser, sample, [sample.text]) if isinstance(part, ToolCall)]
        if len(calls) == 1 and "Oslo" in calls[0].source:
            yield (
                "one huge argument",
                sample.text.replace("Oslo", (WORDS * (length // len(WORDS) + 1))[:length]),
                sample,
            )
            return


def read(parser: type[Parser], sample: Sample, pieces: list[str]) -> list[Part]:
    """Parse a text with the generation prompt and the tools of the sample."""
    reading = parser(generation_prompt=sample.generation_prompt, tools=sample.tools)
    return [part for piece in pieces for part in reading.feed(piece)] + reading.finish()


def seconds(parser: type[Parser], sample: Sample, text: str) -> float:
    """The CPU time of one run, in seconds."""
    pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    begin = time.process_time()
    read(parser, sample, pieces)
    return time.process_time() - begin


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3, help="the median of so many is taken")
    arguments.add_argument("families", nargs="*", help="families to measure; all by default")
    asked = arguments.parse_args()
    installed = {parser.name: parser for parser in discover().parsers.found.values()}
    table = Table("parser", "text", "1 MB to 100 kB", "µs a piece")
    chosen = asked.families or sorted(installed)
    for name in track(chosen, console=Console(stderr=True)):
        parser = installed[name]
        for (what, short, sample), (_, long, _) in zip(texts(parser, SHORT), texts(parser, LONG), strict=True):
            rounds = [(seconds(parser, sample, short), seconds(parser, sample, long)) for _ in range(asked.rounds)]
            ratio = statistics.median(long_time / short_time for short_time, long_time in rounds)
            each = statistics.median(long_time for _, long_time in rounds) / (len(long) / PIECE)
            table.add_row(name, what, f"{ratio:.1f}", f"{each * 1e6:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()

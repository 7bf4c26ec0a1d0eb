"""Builds the documentation site: `uv run python -m scripts.build_docs`; warnings are errors.

Copies docs/ to a build folder, replaces each `<!-- reference: NAME -->` with the text that scripts/reference
generates from the code, and runs Zensical on the copy. The generator sees plain Markdown only and can be replaced.
Afterwards, llms.txt and the Markdown of all pages are added to the site.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import rich_click as click

from scripts.llms_txt import write_llms_txt
from scripts.reference import expand_markers

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "zensical.toml"
# Addressed to tests/docs, which does not execute these blocks.
NOT_RUN_TITLE = re.compile(r'^( *```\w+) title="Not run here[^"\n]*"', re.MULTILINE)


def write_pages(source: Path, target: Path) -> None:
    """Write the pages of `source` to `target` with every reference marker expanded; other files are copied."""
    for path in sorted(each for each in source.rglob("*") if each.is_file()):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            copy.write_text(render_page(path.read_text(encoding="utf-8")), encoding="utf-8")
        else:
            shutil.copyfile(path, copy)


def render_page(markdown: str) -> str:
    """Return the Markdown of a page as the generator reads it.

    Raises KeyError for a marker that names no section.
    """
    return expand_markers(NOT_RUN_TITLE.sub(r"\1", markdown))


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT / "build",
    show_default="build",
    help="Build folder; the site is written to its subfolder `site`.",
)
@click.argument("action", type=click.Choice(["build", "serve"]), default="build")
def main(output: Path, action: str) -> None:
    """Build the documentation site from docs/ and the code, or serve it on localhost."""
    pages = output / "docs"
    for generated in (pages, output / "site", output / ".cache"):
        shutil.rmtree(generated, ignore_errors=True)
    write_pages(ROOT / "docs", pages)
    shutil.copyfile(ROOT / CONFIG, output / CONFIG)
    zensical = [sys.executable, "-m", "zensical"]
    if action == "serve":
        subprocess.run([*zensical, "serve"], cwd=output, check=True)
        return
    done = subprocess.run(
        [*zensical, "build", "--strict"],
        cwd=output,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    # Zensical always colors its messages; click removes the escape codes unless this is a terminal.
    click.echo(done.stdout, nl=False)
    if done.returncode == 0:
        write_llms_txt(output / CONFIG, pages, output / "site")
        click.echo(f"The site is in {output / 'site'}; `python -m scripts.build_docs serve` serves it on localhost.")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()

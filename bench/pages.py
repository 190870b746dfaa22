"""Lines in, a page of docs/ out that holds them between two marks; the rest is written by hand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path


def fill(page: Path, name: str, lines: Iterable[str]) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- /NAME -->`.

    Args:
        page: A Markdown file.
        name: Of the marks.
        lines: Of Markdown.

    Raises:
        ValueError: The page has no such marks.
    """
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    text = page.read_text(encoding="utf-8")
    if not marks.search(text):
        raise ValueError(f"{page.name} has no <!-- {name} --> and <!-- /{name} -->")
    body = "\n".join(lines)
    filled = marks.sub(lambda found: f"{found[1]}\n{body}\n\n{found[2]}", text)
    page.write_text(filled, encoding="utf-8")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]

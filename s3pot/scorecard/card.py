"""The measured numbers in a model card: the text between two marker comments."""

from collections.abc import Sequence
from pathlib import Path

from s3pot.scorecard.table import Row, to_markdown

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def write_measured_section(card: Path, rows: Sequence[Row], where: str) -> None:
    """Replace the measured numbers of a card and leave the rest; a card without markers gets them at its end.

    Args:
        card: Markdown file.
        rows: what stands in the table; rows that were not measured are left out.
        where: what it was measured on, e.g. "160 composites of dev, weights 3f2a...".

    Raises:
        FileNotFoundError: if there is no such card.
        ValueError: if its markers are not one pair in order.
    """
    if not card.is_file():
        raise FileNotFoundError(f"{card}: no such model card")
    text = card.read_text(encoding="utf-8")
    section = f"{BEGIN}\nMeasured on {where}.\n\n{to_markdown([row for row in rows if row.met != 'not measured'])}{END}"
    if BEGIN not in text and END not in text:
        card.write_text(f"{text.rstrip()}\n\n{section}\n", encoding="utf-8")
        return
    begin, end = text.find(BEGIN), text.find(END)
    if text.count(BEGIN) != 1 or text.count(END) != 1 or end < begin:
        raise ValueError(f"{card}: expected one pair of {BEGIN} and {END}, in this order")
    card.write_text(text[:begin] + section + text[end + len(END) :], encoding="utf-8")

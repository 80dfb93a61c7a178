"""Measured numbers in a card, and everything else left alone."""

from pathlib import Path

import pytest

from s3pot.scorecard.card import BEGIN, END, write_measured_section
from s3pot.scorecard.estimates import Estimate
from s3pot.scorecard.table import assemble


def test_the_section_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text(f"# parser\n\n- before\n{BEGIN}\nold 0.1\n{END}\n- after\n")
    rows = assemble({"parser/classes_clean": Estimate(mean=0.8125, n=7)}, ["parser"])
    for _ in range(2):  # writing twice is writing once
        write_measured_section(card, rows, "7 faces of dev")
        text = card.read_text()
        assert text.startswith(f"# parser\n\n- before\n{BEGIN}\nMeasured on 7 faces of dev.\n")
        assert text.endswith(f"{END}\n- after\n")
        assert "| 0.812 |" in text or "| 0.813 |" in text
        assert "old" not in text
        assert "not measured" not in text


def test_a_card_without_markers_gets_them(tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text("# parser\n\n- text\n")
    write_measured_section(card, [], "nothing")
    text = card.read_text()
    assert text.startswith(f"# parser\n\n- text\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n")


@pytest.mark.parametrize("text", [BEGIN, END, f"{END} {BEGIN}", f"{BEGIN} {END} {BEGIN} {END}"])
def test_broken_markers_change_nothing(tmp_path: Path, text: str) -> None:
    card = tmp_path / "card.md"
    card.write_text(text)
    with pytest.raises(ValueError, match="one pair"):
        write_measured_section(card, [], "nothing")
    assert card.read_text() == text


def test_a_missing_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.md: no such model card"):
        write_measured_section(tmp_path / "none.md", [], "nothing")

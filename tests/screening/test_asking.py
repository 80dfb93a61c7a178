"""From an image file to its row, through a real server."""

from pathlib import Path

import pytest

from s3pot.images import write_png
from s3pot.screening.asking import ask_about
from s3pot.screening.chat import Endpoint, EndpointRefused
from s3pot.screening.patience import Patience, RequestPace
from s3pot.screening.rows import SCHEMA
from tests.chat_server import QUESTION, ChatServer, answer, chatting, coloured

QUICK = Patience(attempts=3, first_wait=0.01, longest_wait=0.02)


def _ask(server: ChatServer, path: Path, **changed: object) -> dict:
    endpoint = Endpoint(url=server.url, model="m", timeout=5.0, max_side=56)
    row = ask_about({"id": path.name, "path": str(path)}, endpoint, QUESTION, QUICK, RequestPace(0.0), **changed)
    assert list(row) == SCHEMA.names
    return row


@pytest.fixture
def red(tmp_path: Path) -> Path:
    write_png(tmp_path / "red.png", coloured("red"))
    return tmp_path / "red.png"


def test_a_label_with_its_reason_and_what_it_took(red: Path) -> None:
    with chatting() as server:
        row = _ask(server, red)
    assert {name: row[name] for name in ("id", "path", "status", "label", "reason", "answer", "error", "attempts")} == {
        "id": "red.png",
        "path": str(red),
        "status": "ok",
        "label": "occluded",
        "reason": "a hand over the mouth",
        "answer": answer("occluded"),
        "error": None,
        "attempts": 1,
    }
    assert (row["prompt_tokens"], row["completion_tokens"], row["score"]) == (700, 20, None)
    assert row["seconds"] > 0
    [asked] = server.asked
    assert asked.picture.shape == (42, 56, 3)


def test_it_goes_on_after_failures(red: Path) -> None:
    with chatting(fault=lambda colour, before: (500, "cut", None)[before]) as server:
        row = _ask(server, red)
    assert (row["status"], row["label"], row["attempts"]) == ("ok", "occluded", 3)


def test_it_gives_up(red: Path) -> None:
    with chatting(fault=lambda colour, before: 503) as server:
        row = _ask(server, red)
    assert (row["status"], row["label"], row["attempts"], len(server.asked)) == ("failed", None, 3, 3)
    assert "503" in row["error"]


def test_a_picture_that_is_refused_is_not_sent_again(red: Path) -> None:
    with chatting(fault=lambda colour, before: 413) as server:
        row = _ask(server, red)
    assert (row["status"], row["attempts"], len(server.asked)) == ("failed", 1, 1)


def test_an_answer_of_another_form_is_kept_word_for_word_and_not_asked_for_again(red: Path) -> None:
    with chatting(text={"red": "It is OCCLUDED, I think."}) as server:
        row = _ask(server, red)
    assert (row["status"], row["label"], row["reason"]) == ("unparsed", None, None)
    assert row["answer"] == "It is OCCLUDED, I think."
    assert "no JSON" in row["error"]
    assert len(server.asked) == 1


def test_an_answer_that_was_cut_says_so(red: Path) -> None:
    with chatting(fault=lambda colour, before: "length") as server:
        row = _ask(server, red)
    assert row["status"] == "unparsed"
    assert row["error"].startswith("cut off at max_tokens; no JSON")


def test_an_unreadable_image_is_not_sent(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    with chatting() as server:
        broken, missing = _ask(server, tmp_path / "broken.jpg"), _ask(server, tmp_path / "missing.jpg")
    assert (broken["status"], broken["attempts"], missing["status"]) == ("failed", 0, "failed")
    assert "broken.jpg" in broken["error"]
    assert "missing.jpg" in missing["error"]
    assert server.asked == []


def test_a_wrong_key_ends_it_all(red: Path) -> None:
    with chatting(fault=lambda colour, before: "echo") as server, pytest.raises(EndpointRefused, match=r"401.*\*\*\*"):
        _ask(server, red, key="s3cr3t")

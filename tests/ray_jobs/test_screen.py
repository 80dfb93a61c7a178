"""Screening as a job: a server that misbehaves, workers on Ray, and folders that are taken up again."""

import json
import logging
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from ray_jobs.actor_pools import PoolConfig
from ray_jobs.cli import app
from ray_jobs.encode_inputs import list_inputs
from ray_jobs.job_cli import PartlyFailed
from ray_jobs.journal import Journal
from ray_jobs.screen import CHOSEN, TABLE, ScreenConfig, screen
from ray_jobs.screen_stages import Asking, AskWorker, ScoreWorker, Scoring
from s3pot.chain import ChainConfig
from s3pot.config import ConfigError
from s3pot.images import write_png
from s3pot.screening.chat import Endpoint
from s3pot.screening.patience import Patience, RequestPace
from s3pot.segmenter import OcclusionSegmenter
from tests.chat_server import COLOURS, QUESTION, ChatServer, Fault, chatting, coloured
from tests.stand_ins import textured_face

QUICK = Patience(attempts=5, first_wait=0.02, longest_wait=0.3)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of three colours in two folders, and one file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(12):
        colour = COLOURS[number % 3]
        write_png(folder / ("odd" if number % 2 else "even") / f"{number:02d}-{colour}.png", coloured(colour))
    (folder / "even" / "99-broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def database(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder whose database is there."""
    runs = tmp_path_factory.mktemp("runs")
    (runs / "mlflow.db").write_bytes(empty_database.read_bytes())
    return runs


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[Asking | Scoring]:
    """The workers work here, without Ray; holds what they were told."""
    told: list[Asking | Scoring] = []

    def run(items: pa.Table, work: Asking | Scoring, pool: PoolConfig) -> Iterator[dict[str, Any]]:
        told.append(work)
        if isinstance(work, Scoring):
            worker: AskWorker | ScoreWorker = ScoreWorker(work, torch.get_num_threads())
        else:
            worker = AskWorker(work, RequestPace(work.requests_per_minute), 1)
        for first in range(0, len(items), pool.batch_size):
            yield from worker(items.slice(first, pool.batch_size).to_pandas()).to_pylist()

    monkeypatch.setattr("ray_jobs.screen.run_screening", run)
    monkeypatch.setattr("ray_jobs.cluster.connect", lambda: None)
    return told


def _config(server: ChatServer, photos: Path, out: Path, runs: Path, **changed: object) -> ScreenConfig:
    endpoint = Endpoint(url=server.url, model="some/vlm", timeout=2.0)
    values = {"endpoint": endpoint, "question": QUESTION, "patience": QUICK, "at_once": 4}
    return ScreenConfig(input=str(photos), out=out, runs=runs, **{**values, **changed})


def _labels(out: Path) -> dict[str, str | None]:
    table = pq.read_table(out / TABLE).to_pylist()
    return {row["id"]: row["label"] for row in table}


@pytest.mark.usefixtures("ray_cluster")
def test_a_server_that_misbehaves_costs_attempts_and_nothing_else(photos: Path, database: Path, tmp_path: Path) -> None:
    # Of each colour the first requests go wrong, every time in another way; a colour has twelve requests in all.
    faults: dict[str, list[Fault]] = {
        "red": [429, "hang_up", "slow", "garbage"],
        "green": [500, "cut", "no_choices", "drip"],
        "blue": [503, "cut_unsaid"],
    }

    def fault(colour: str, before: int) -> Fault:
        return faults[colour][before] if before < len(faults[colour]) else None

    out = tmp_path / "out"
    with chatting(fault=fault, retry_after="0.2", text=_TEXTS, seconds=6.0) as server:
        with pytest.raises(PartlyFailed, match=r"of 13 images 1 failed and 4 have an answer that is not of the form"):
            screen(_config(server, photos, out, database))
        asked = list(server.asked)
    table = {row["id"]: row for row in pq.read_table(out / TABLE).to_pylist()}
    assert len(table) == 13
    for name, row in table.items():
        colour = name.partition("-")[2].partition(".")[0]
        expected = {
            "red": ("ok", "occluded"),
            "green": ("ok", "free"),
            "blue": ("unparsed", None),
            "broken": ("failed", None),
        }
        assert (row["status"], row["label"]) == expected[colour], name
        assert row["answer"] == _TEXTS.get(colour)
    assert len(asked) == 12 + sum(len(of_colour) for of_colour in faults.values())
    assert sum(row["attempts"] for row in table.values()) == len(asked)
    assert {"model", "messages"} <= set(asked[0].body)
    chosen = list_inputs(str(out / CHOSEN))
    assert sorted(chosen["id"]) == sorted(name for name in table if "red" in name)
    assert all(Path(path).is_file() for path in chosen["path"])
    assert set(chosen["reason"]) == {"a hand over the mouth"}


_TEXTS = {
    "red": json.dumps({"reason": "a hand over the mouth", "label": "occluded"}),
    "green": json.dumps({"reason": "clear", "label": "free"}),
    "blue": "Sure! The label is occluded.",
}


@pytest.mark.usefixtures("in_process")
def test_a_run_that_is_taken_up_asks_only_for_what_is_missing(photos: Path, database: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with chatting(text=_TEXTS, fault=lambda colour, before: 500 if colour == "green" else None) as server:
        config = _config(server, photos, out, database, patience=Patience(attempts=1))
        with pytest.raises(PartlyFailed, match="5 failed"):
            screen(config)
        first = len(server.asked)
        assert first == 12
        server.fault = lambda colour, before: None
        with pytest.raises(PartlyFailed, match="1 failed and 4 have"):
            screen(config)
        assert {asked.colour for asked in server.asked[first:]} == {"green"}
        assert len(server.asked) == first + 4
        server.text = {**_TEXTS, "blue": _TEXTS["red"]}
        # Other numbers of workers or another pace ask the same question.
        again = replace(config, retry_unparsed=True, at_once=2, requests_per_minute=6000.0)
        with pytest.raises(PartlyFailed, match="1 failed and 0 have"):
            screen(again)
        assert {asked.colour for asked in server.asked[first + 4 :]} == {"blue"}
        before = len(server.asked)
        with pytest.raises(ConfigError, match=r"another question: choose another out"):
            screen(replace(config, question=replace(QUESTION, text=f"Really? {QUESTION.text}")))
        assert len(server.asked) == before
    assert not (out / "answers.jsonl").exists()
    assert sum(label == "occluded" for label in _labels(out).values()) == 8


@pytest.mark.usefixtures("in_process")
def test_answers_of_a_killed_run_count(photos: Path, database: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with chatting(text=_TEXTS) as server:
        config = _config(server, photos / "odd", out, database, limit=4)
        ids = list_inputs(str(photos / "odd"), 4)["id"].tolist()
        out.mkdir()
        row = {"id": ids[0], "path": "/somewhere", "status": "ok", "label": "free", "reason": "paid for"}
        # As a kill in the middle of a line leaves it.
        (out / "answers.jsonl").write_text(json.dumps(row) + "\n" + '{"id": "')
        table = screen(replace(config, question=replace(QUESTION, chosen=("free",)), retry_unparsed=False, limit=1))
        assert server.asked == []
        assert table["reason"].tolist() == ["paid for"]
        assert pq.read_table(out / CHOSEN)["id"].to_pylist() == ids[:1]
        with Journal(out / "answers.jsonl"), pytest.raises(ConfigError, match="another run writes here"):
            screen(config)


@pytest.mark.usefixtures("in_process")
def test_a_wrong_key_or_a_dead_server_ends_the_run(photos: Path, database: Path, tmp_path: Path) -> None:
    with chatting(fault=lambda colour, before: 401) as server:
        with pytest.raises(ConfigError, match="answered 401"):
            screen(_config(server, photos, tmp_path / "key", database))
        assert len(server.asked) <= 12
    with chatting(fault=lambda colour, before: 500) as server:
        config = _config(server, photos, tmp_path / "dead", database, patience=Patience(attempts=1), stop_after=3)
        with pytest.raises(PartlyFailed, match=r"3 requests in a row failed .*500.*run the same command again"):
            screen(config)
    assert set(pd.read_parquet(tmp_path / "dead" / TABLE)["status"]) == {"failed"}


def test_a_key_that_is_not_set_is_told_before_anything_starts(photos: Path, tmp_path: Path) -> None:
    endpoint = Endpoint(url="http://127.0.0.1:9/v1", model="m", api_key_variable="S3POT_TEST_NO_SUCH_KEY")
    config = ScreenConfig(input=str(photos), out=tmp_path / "out", endpoint=endpoint, question=QUESTION)
    with pytest.raises(ConfigError, match="S3POT_TEST_NO_SUCH_KEY is not set"):
        screen(config)
    assert not (tmp_path / "out").exists()


def test_a_key_stays_where_it_is(
    photos: Path,
    database: Path,
    tmp_path: Path,
    in_process: list[Asking | Scoring],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("S3POT_TEST_KEY", "s3cr3t-k3y")
    out = tmp_path / "out"
    with chatting(text=_TEXTS, fault=lambda colour, before: None if before else "echo400") as server:
        endpoint = Endpoint(url=server.url, model="m", api_key_variable="S3POT_TEST_KEY")
        with caplog.at_level(logging.DEBUG), pytest.raises(PartlyFailed, match=r"first: .*wrong key"):
            screen(_config(server, photos, out, database, endpoint=endpoint))
        assert {asked.headers["Authorization"] for asked in server.asked} == {"Bearer s3cr3t-k3y"}
    # Workers take it from their own environment: what they are told travels through Ray.
    assert b"s3cr3t-k3y" not in pickle.dumps(in_process)
    assert "unencrypted" in caplog.text
    assert "s3cr3t-k3y" not in caplog.text
    written = [path for folder in (out, database) for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == TABLE for path in written)
    assert [path for path in written if b"s3cr3t-k3y" in path.read_bytes()] == []


@pytest.mark.usefixtures("random_weights", "in_process")
def test_without_an_endpoint_our_own_score_decides(database: Path, tmp_path: Path) -> None:
    pictures = {f"{number}.png": textured_face(number)[0] for number in range(3)}
    for name, picture in pictures.items():
        write_png(tmp_path / "faces" / name, picture)
    segmenter = OcclusionSegmenter.load(ChainConfig(alignment="none"), abstain=False)
    scores = {name: segmenter.predict(picture).score for name, picture in pictures.items()}
    low, middle, high = sorted(scores.values())
    assert low < middle < high
    config = ScreenConfig(
        input=str(tmp_path / "faces"),
        out=tmp_path / "out",
        chain=ChainConfig(alignment="none", device="cpu"),
        threshold=(low + middle) / 2,
        batch_size=1,
        runs=database,
    )
    table = screen(config).set_index("id")
    assert {name: table.at[name, "score"] for name in scores} == pytest.approx(scores, abs=1e-5)
    named = {name for name, label in table["label"].items() if label == "occluded"}
    assert named == {name for name, score in scores.items() if score > low}
    # Another threshold needs no model again, and the folder is the same.
    again = screen(replace(config, threshold=(middle + high) / 2)).set_index("id")
    assert (again["label"] == "occluded").sum() == 1
    assert again["seconds"].equals(table["seconds"])
    assert len(pq.read_table(tmp_path / "out" / CHOSEN)) == 1


@pytest.mark.usefixtures("ray_cluster", "random_weights")
def test_scores_come_back_from_a_cluster(database: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "faces" / "a.png", textured_face(1)[0])
    chain = ChainConfig(alignment="none")
    table = screen(ScreenConfig(input=str(tmp_path / "faces"), out=tmp_path / "out", chain=chain, runs=database))
    [row] = table.to_dict("records")
    assert (row["status"], row["label"]) == ("ok", "occluded")
    assert 0.0 < row["score"] <= 1.0


def test_a_model_needs_a_question(photos: Path, tmp_path: Path) -> None:
    words = [f"input={photos}", f"out={tmp_path / 'out'}", "endpoint.url=http://127.0.0.1:9/v1", "endpoint.model=m"]
    result = CliRunner().invoke(app, ["data", "screen", *words, "--dry-run"])
    assert result.exit_code == 2
    assert "question is missing: start from experiments/screen_qwen_vl.yaml" in result.output

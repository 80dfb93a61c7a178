"""The prediction job. What it finds is held against `OcclusionSegmenter`, image by image."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from ray import cloudpickle
from skimage.data import astronaut
from typer.testing import CliRunner

from ray_jobs import predict as job
from ray_jobs.cli import app
from ray_jobs.job_cli import PartlyFailed
from ray_jobs.predict import PredictConfig, predict
from ray_jobs.predict_stages import PredictActor, PredictWork
from s3pot.chain import ChainConfig
from s3pot.config import ConfigError
from s3pot.data.run_lengths import decode_runs
from s3pot.head.face_fitting import FittingConfig
from s3pot.images import decode_png, encode_png, read_image, write_png
from s3pot.photo_masks import predict_photographs
from s3pot.places import join_place, list_place, read_place
from s3pot.prediction_table import PredictionTable
from s3pot.segmenter import OcclusionSegmenter
from s3pot.store.back_off import BackOff
from s3pot.store.errors import StoreError
from tests.ray_jobs.mlflow_stand_ins import put_database, stored_runs
from tests.stand_ins import textured_face

Rows = Generator[tuple[str, list[dict[str, Any]]], None, None]


def with_scarf(picture: np.ndarray) -> np.ndarray:
    """The astronaut with a bar over her mouth."""
    covered = picture.copy()
    covered[128:160, 190:260] = (20, 120, 40)
    return covered


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One face, two faces, none, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("photos")
    write_png(folder / "one.png", with_scarf(astronaut()))
    head = astronaut()[:260]
    write_png(folder / "sub" / "two.png", np.hstack([head, with_scarf(head)]))
    write_png(folder / "wall.png", np.full((120, 160, 3), 90, np.uint8))
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


class TestRealActors:
    @pytest.fixture(scope="class")
    @staticmethod
    def config(
        photos: Path,
        ray_cluster: dict[str, object],
        empty_database: Path,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> PredictConfig:
        folder = tmp_path_factory.mktemp("predicted")
        put_database(empty_database, folder / "runs")
        config = PredictConfig(
            input=str(photos),
            out=str(folder / "out"),
            overlays=True,
            abstain=False,
            batch_size=3,
            actors=1,
            runs=folder / "runs",
        )
        with pytest.raises(PartlyFailed, match=r"^1 of 4 photographs failed, first: .*broken\.jpg: is no image"):
            predict(config)
        return config

    def test_the_job_finds_what_the_segmenter_finds(self, config: PredictConfig, photos: Path) -> None:
        table = pd.read_parquet(Path(config.out) / "table.parquet").set_index(["image", "face"])
        expected_index = [("broken.jpg", 0), ("one.png", 1), ("sub/two.png", 1), ("sub/two.png", 2), ("wall.png", 0)]
        assert table.index.tolist() == expected_index
        segmenter = OcclusionSegmenter.load(abstain=False)
        for name in ("one.png", "sub/two.png", "wall.png"):
            picture = read_image(photos / name)
            size = (picture.shape[0], picture.shape[1])
            mask = decode_png((Path(config.out) / "masks" / f"{name}.png").read_bytes()) > 0
            expected = np.zeros(size, bool)
            for face, result in enumerate(segmenter.predict_all(picture), start=1):
                row = table.loc[(name, face)]
                assert row["status"] == result.status
                assert row["score"] == pytest.approx(result.score, abs=1e-3)
                found = decode_runs({"size": list(size), "counts": row["rle"]}, size)
                # Another batch size and thread count [design 5.3].
                assert (found & result.occlusion).sum() >= 0.99 * (found | result.occlusion).sum()
                expected |= found
            np.testing.assert_array_equal(mask, expected)
            assert read_image(Path(config.out) / "overlays" / f"{name}.jpg").shape == picture.shape
        assert table.loc[("one.png", 1), "area"] > 200, "the bar is found"

    def test_nothing_is_stored_besides(self, config: PredictConfig) -> None:
        names = {path.relative_to(config.out).as_posix() for path in Path(config.out).rglob("*") if path.is_file()}
        pictures = ("one.png", "sub/two.png", "wall.png")
        masks = {f"masks/{name}.png" for name in pictures} | {f"overlays/{name}.jpg" for name in pictures}
        assert names == masks | {"table.parquet"}

    def test_mlflow_has_numbers_and_no_pictures(self, config: PredictConfig) -> None:
        [run] = stored_runs(f"sqlite:///{config.runs / 'mlflow.db'}")
        assert {name: run.data.metrics[name] for name in ("photographs", "faces", "without_face", "failed")} == {
            "photographs": 4,
            "faces": 3,
            "without_face": 1,
            "failed": 1,
        }
        kinds = {path.suffix for path in config.runs.rglob("*") if path.is_file()}
        assert kinds.isdisjoint({".png", ".jpg", ".parquet"})


class InProcess:
    """In the place of the actors: predicts in this process, and notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.after: Callable[[int], None] = lambda done: None

    def __call__(self, items: pa.Table, work: PredictWork) -> Rows:
        rows = items.to_pylist()
        self.asked.append([f"{row['id']}:{row['fit']}" if "fit" in row else row["id"] for row in rows])
        segmenter = work.load()
        for done, row in enumerate(rows):
            self.after(done)
            [found] = predict_photographs(segmenter, [row], work.writing, BackOff(1))
            yield row["id"], found

    def take(self) -> list[list[str]]:
        """What was asked for since the last time."""
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch, random_weights: Path) -> InProcess:
    stand_in = InProcess()
    monkeypatch.setattr(job, "run_prediction", stand_in)
    monkeypatch.setattr(job.cluster, "connect", lambda: None)
    return stand_in


@pytest.fixture
def faces(tmp_path: Path, empty_database: Path) -> PredictConfig:
    """Three aligned faces."""
    for number in range(3):
        write_png(tmp_path / "in" / f"{number}.png", textured_face(number)[0])
    put_database(empty_database, tmp_path / "runs")
    return PredictConfig(
        input=str(tmp_path / "in"),
        out=str(tmp_path / "out"),
        chain=ChainConfig(alignment="none"),
        runs=tmp_path / "runs",
        fitting=FittingConfig(steps=3),
    )


class TestResume:
    def test_only_what_is_missing_has_changed_or_is_to_be_retried(
        self, actors: InProcess, faces: PredictConfig, tmp_path: Path
    ) -> None:
        (tmp_path / "in" / "3.png").write_bytes(b"no picture yet")
        with pytest.raises(PartlyFailed, match="1 of 4 photographs failed"):
            predict(faces)
        with pytest.raises(PartlyFailed):
            predict(faces)
        assert actors.take() == [["0.png", "1.png", "2.png", "3.png"]], "and nothing the second time"
        before = PredictionTable(faces.out).rows().set_index("image")
        write_png(tmp_path / "in" / "1.png", textured_face(9)[0])
        write_png(tmp_path / "in" / "4.png", textured_face(4)[0])
        with pytest.raises(PartlyFailed):
            predict(faces)
        with pytest.raises(PartlyFailed):
            predict(replace(faces, retry_failed=True))
        write_png(tmp_path / "in" / "3.png", textured_face(3)[0])
        table = predict(faces)
        assert actors.take() == [["1.png", "4.png"], ["3.png"], ["3.png"]]
        after = table.rows().set_index("image")
        assert after.index.tolist() == [f"{number}.png" for number in range(5)]
        changed = after["image_sha256"] != before["image_sha256"].reindex(after.index)
        assert changed.tolist() == [False, True, False, True, True]
        assert (after["score"] != before["score"].reindex(after.index)).tolist()[:3] == [False, True, False]

    def test_another_head_or_chain_does_all_again_and_overlays_what_has_none(
        self, actors: InProcess, faces: PredictConfig
    ) -> None:
        everything = ["0.png", "1.png", "2.png"]
        predict(faces)
        predict(replace(faces, abstain=False))
        predict(replace(faces, abstain=False, overlays=True))
        predict(replace(faces, abstain=False))
        assert actors.take() == [everything] * 3
        chain = replace(faces.chain, prefix=replace(faces.chain.prefix, face_completion="hull"))
        table = predict(replace(faces, abstain=False, chain=chain))
        assert actors.take() == [everything]
        assert len(table.rows()) == 3

    def test_an_interrupted_run_goes_on_where_it_was(
        self, actors: InProcess, faces: PredictConfig, tmp_path: Path
    ) -> None:
        def interrupt(done: int) -> None:
            if done == 2:
                raise KeyboardInterrupt

        actors.after = interrupt
        with pytest.raises(KeyboardInterrupt):
            predict(faces)
        assert not (tmp_path / "out" / "table.parquet").exists()
        assert PredictionTable(faces.out).rows(["status"])["image"].tolist() == ["0.png", "1.png"]
        actors.after = lambda done: None
        write_png(tmp_path / "in" / "0.png", textured_face(9)[0])
        table = predict(faces)
        assert actors.take()[1:] == [["2.png"]], "what changed meanwhile is for the run after"
        assert len(table.rows()) == 3
        predict(faces)
        assert actors.take() == [["0.png"]]

    def test_a_full_disk_keeps_what_is_done(
        self, actors: InProcess, faces: PredictConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(done: int) -> None:
            if done == 1:
                raise StoreError("masks/1.png.png: cannot be written: No space left on device")

        actors.after = full
        with pytest.raises(StoreError, match="No space left"):
            predict(faces)
        actors.after = lambda done: None
        predict(faces)
        assert actors.take()[1:] == [["1.png", "2.png"]]


class TestFitting:
    def test_the_faces_of_the_lowest_score_have_heads_of_their_own(
        self, actors: InProcess, faces: PredictConfig
    ) -> None:
        shared = predict(replace(faces, abstain=False)).rows()
        worst = shared.sort_values("score")["image"].tolist()
        assert shared["score"].nunique() == 3
        assert shared["score"].min() > 0
        assert not shared["transductive"].any()
        table = predict(replace(faces, abstain=False, per_image=2))
        assert actors.take()[1:] == [sorted(f"{image}:1" for image in worst[:2])]
        rows = table.rows().set_index("image")
        assert rows["transductive"].to_dict() == {image: image in worst[:2] for image in sorted(worst)}
        before = shared.set_index("image")["score"]
        assert rows["score_before"].dropna().to_dict() == before[sorted(worst[:2])].to_dict()
        predict(replace(faces, abstain=False, per_image=2))
        assert actors.take() == [], "they have been fitted"
        predict(replace(faces, abstain=False, per_image=3))
        assert actors.take() == [[f"{worst[2]}:1"]]
        predict(replace(faces, abstain=False, per_image=1, fitting=FittingConfig(steps=4)))
        assert actors.take() == [[f"{worst[0]}:1"]]


class TestCommandLine:
    def test_a_photograph_a_folder_and_a_glob(self, actors: InProcess, faces: PredictConfig, tmp_path: Path) -> None:
        words = [f"out={faces.out}", f"runs={faces.runs}", "chain.alignment=none"]
        for source, expected in (
            (tmp_path / "in" / "1.png", [["1.png"]]),
            (tmp_path / "in" / "[02].png", [["0.png", "2.png"]]),
            (tmp_path / "in", []),
        ):
            result = CliRunner().invoke(app, ["predict", str(source), *words], catch_exceptions=False)
            assert result.exit_code == 0, result.output
            assert actors.take() == expected

    def test_failures_are_a_sentence_and_a_code(self, actors: InProcess, faces: PredictConfig, tmp_path: Path) -> None:
        (tmp_path / "in" / "0.png").write_bytes(b"")
        words = [f"out={faces.out}", f"runs={faces.runs}", "chain.alignment=none"]
        result = CliRunner().invoke(app, ["predict", f"input={tmp_path / 'in'}", *words])
        assert result.exit_code == 1
        assert "failed in part: 1 of 3 photographs failed, first: " in result.output
        result = CliRunner().invoke(app, ["predict", str(tmp_path / "nowhere"), *words])
        assert result.exit_code == 2
        assert "nowhere" in result.output
        assert "Traceback" not in result.output


def test_what_actors_are_told_is_small() -> None:
    work = PredictConfig(input="photos", out="out").work
    assert len(cloudpickle.dumps((PredictActor, {"work": work, "threads": 1}))) < 10_000, "no weights among it"


@pytest.mark.parametrize(
    ("values", "message"),
    [({"batch_size": 0}, "batch_size"), ({"limit": -1}, "limit"), ({"per_image": -1}, "per_image")],
)
def test_ranges(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredictConfig(input="photos", out="out", **values)


def test_ids_that_look_like_those_of_faces_are_refused(
    actors: InProcess, photos: Path, tmp_path: Path, empty_database: Path
) -> None:
    (tmp_path / "images.csv").write_text(f"id,path\na#2,{photos / 'one.png'}\n")
    config = PredictConfig(input=str(tmp_path / "images.csv"), out=str(tmp_path / "out"), runs=tmp_path / "runs")
    with pytest.raises(ConfigError, match="'a#2' ends like that of a further face"):
        predict(config)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a local S3 server with two faces and a file that is none; the URI of its folder."""
    server_module = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'moto[s3]'")
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "secretly", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys)
    client.create_bucket(Bucket="faces")
    for number in range(2):
        client.put_object(Bucket="faces", Key=f"in/deep er/{number}.png", Body=encode_png(textured_face(number)[0]))
    client.put_object(Bucket="faces", Key="in/broken.png", Body=b"no picture")
    # Workers were started before: they find the keys in the URI, not in their environment.
    yield f"s3://testing:secretly@faces/in?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    server.stop()


def test_from_bucket_to_bucket(
    bucket: str, ray_cluster: dict[str, object], empty_database: Path, tmp_path: Path
) -> None:
    put_database(empty_database, tmp_path / "runs")
    out = bucket.replace("/in?", "/out?")
    config = PredictConfig(
        input=bucket, out=out, chain=ChainConfig(alignment="none"), overlays=True, runs=tmp_path / "runs", actors=1
    )
    with pytest.raises(PartlyFailed, match="1 of 3 photographs failed") as failed:
        predict(config)
    found = list_place(out)
    assert found is not None
    assert [image.id for image in found] == [
        *(f"masks/deep er/{number}.png.png" for number in range(2)),
        *(f"overlays/deep er/{number}.png.jpg" for number in range(2)),
    ]
    table = PredictionTable(out)
    rows = table.rows().set_index("image")
    assert rows["status"].eq("failed").tolist() == [True, False, False]
    assert table.parts() == []
    mask = decode_png(read_place(join_place(out, rows.loc["deep er/0.png", "mask"]))) > 0
    assert mask.sum() == rows.loc["deep er/0.png", "area"]
    # The key to a bucket is written nowhere that others read.
    [run] = stored_runs(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    written = [str(failed.value), str(run.data.params), rows.to_csv()]
    written += [path.read_text() for path in (tmp_path / "runs" / "predict").rglob("*") if path.is_file()]
    assert not any("secretly" in text for text in written)


@pytest.mark.chaos
def test_a_terminated_job_says_so_and_goes_on(
    photos: Path, ray_cluster: dict[str, object], repository: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("0.png", "1.png", "3.png"):
        write_png(folder / name, read_image(photos / "one.png"))
    os.mkfifo(tmp_path / "pipe")  # a photograph that never comes: here the job is when it is told to stop
    rows = [f"{number},{folder / f'{number}.png'}" for number in range(4)]
    rows[2] = f"2,{tmp_path / 'pipe'}"
    (tmp_path / "images.csv").write_text("\n".join(["id,path", *rows]) + "\n")
    words = [str(tmp_path / "images.csv"), f"out={out}", f"runs={tmp_path / 'runs'}", "batch_size=1", "actors=1"]
    environment = os.environ | {"RAY_ADDRESS": str(ray_cluster["address"]), "PYTHONPATH": str(repository)}
    with (tmp_path / "log.txt").open("wb") as log:
        driver = subprocess.Popen(
            [sys.executable, "-m", "ray_jobs.predict", *words], cwd=repository, env=environment, stderr=log
        )
        end = time.monotonic() + 120
        while not (out / "masks" / "1.png").exists():
            assert driver.poll() is None, (tmp_path / "log.txt").read_text()
            assert time.monotonic() < end, "nothing was predicted"
            time.sleep(0.02)
        time.sleep(1.0)  # the rows are on their way to the driver
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(timeout=60) == 143
    assert "terminated: what is finished is kept" in (tmp_path / "log.txt").read_text()
    done = PredictionTable(str(out)).rows(["status"])["image"].tolist()
    assert done in (["0"], ["0", "1"])
    (tmp_path / "pipe").unlink()
    write_png(tmp_path / "pipe", read_image(photos / "one.png"))
    config = PredictConfig(input=words[0], out=str(out), batch_size=1, actors=1, runs=tmp_path / "runs")
    again = predict(config).rows(["rle"])
    assert again["image"].tolist() == ["0", "1", "2", "3"]
    assert again["rle"].nunique() == 1

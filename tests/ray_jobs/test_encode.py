"""The encoding job: real Ray actors, real files, bad files among them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skimage.data import astronaut

from analysis.report import write_report
from ray_jobs.encode import EncodeConfig, encode, read_items
from ray_jobs.evaluate import EvaluateConfig, evaluate
from ray_jobs.job_cli import PartlyFailed
from s3pot.chain import ChainConfig
from s3pot.config import ConfigError
from s3pot.images import write_png
from s3pot.landmark_file import FIVE_POINTS
from s3pot.prefix import FrozenPrefix
from s3pot.store.prompt_store import PromptStore


def test_every_image_has_a_row_and_tokens(astronaut_store: PromptStore, astronaut_manifest: Path) -> None:
    wanted = pd.read_parquet(astronaut_manifest)
    rows = astronaut_store.rows()
    assert rows["id"].tolist() == sorted(wanted["id"])
    assert set(rows["status"]) <= {"ok", "no_occlusion_prompts"}
    record = astronaut_store.records()[0]
    assert record.image_tokens.shape == (128, 32, 32)
    assert len(record.occlusion_prompts) + len(record.face_prompts) > 100


def test_ray_gives_what_the_library_gives(astronaut_store: PromptStore, astronaut_manifest: Path) -> None:
    from s3pot.chain import load_prefix
    from s3pot.images import read_image

    row = pd.read_parquet(astronaut_manifest).iloc[2]
    prefix: FrozenPrefix = load_prefix(astronaut_store.chain)
    alone = prefix.run([read_image(row["path"])], [row["id"]])[0]
    stored = astronaut_store.records({row["id"]})[0]
    # Another batch size and thread count: design 5.3 asks for nearly the same prompts, not for the same bits.
    mine, theirs = set(alone.occlusion_prompts.tolist()), set(stored.occlusion_prompts.tolist())
    assert len(mine & theirs) >= 0.97 * len(mine | theirs)
    assert np.allclose(alone.image_tokens.numpy(), stored.image_tokens.float().numpy(), atol=0.02)


def test_running_again_encodes_nothing(astronaut_store: PromptStore, astronaut_manifest: Path, tmp_path: Path) -> None:
    shards = sorted((astronaut_store.root / "shards").iterdir())
    before = [path.stat().st_mtime_ns for path in shards]
    config = EncodeConfig(
        input=astronaut_manifest, store=astronaut_store.root, chain=ChainConfig(alignment="none"), runs=tmp_path
    )
    encode(config)
    assert [path.stat().st_mtime_ns for path in sorted((astronaut_store.root / "shards").iterdir())] == before


def test_bad_and_faceless_files_are_rows(
    ray_cluster: dict[str, object], tmp_path: Path, rng: np.random.Generator
) -> None:
    photos = tmp_path / "photos"
    write_png(photos / "noise.png", rng.integers(0, 255, (120, 160, 3), dtype=np.uint8))
    (photos / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    (photos / "empty.png").write_bytes(b"")
    config = EncodeConfig(input=photos, store=tmp_path / "store", runs=tmp_path / "runs", batch_size=2)
    with pytest.raises(PartlyFailed, match="2 of 3 images failed"):
        encode(config)
    rows = PromptStore(tmp_path / "store").rows().set_index("id")
    assert rows.loc["noise.png", "status"] == "no_face"
    assert rows.loc["broken.jpg", "status"] == rows.loc["empty.png", "status"] == "failed"
    assert "broken.jpg" in rows.loc["broken.jpg", "error"]


# Eyes and mouth corners of the astronaut.
POINTS = np.array([[205.0, 105.0], [243.0, 105.0], [209.0, 143.0], [239.0, 143.0]])


class TestSeveralFaces:
    @pytest.fixture
    def config(self, tmp_path: Path) -> EncodeConfig:
        """A photograph of the astronaut beside herself with truth, one of her alone, and their landmarks."""
        write_png(tmp_path / "two.png", np.hstack([astronaut(), astronaut()]))
        write_png(tmp_path / "one.png", astronaut())
        truth = np.zeros((512, 1024), np.uint8)
        truth[120:160, 190:250] = 255
        write_png(tmp_path / "truth.png", truth)
        truths, known = [tmp_path / "truth.png", None], {"kind": "objects", "face_id": "astronaut"}
        manifest = pd.DataFrame({"id": ["two", "one"], "path": ["two.png", "one.png"], "truth_path": truths} | known)
        manifest.to_csv(tmp_path / "images.csv", index=False)
        rows = [("two", 0, POINTS), ("two", 1, POINTS + np.array([512, 0])), ("one", 0, POINTS)]
        marks = [
            {"id": name, "face": face, **dict(zip(FIVE_POINTS, at.ravel(), strict=True))} for name, face, at in rows
        ]
        pd.DataFrame(marks).to_csv(tmp_path / "marks.csv", index=False)
        return EncodeConfig(
            input=tmp_path / "images.csv",
            store=tmp_path / "store",
            chain=ChainConfig(alignment="landmarks", landmarks=tmp_path / "marks.csv", faces="all"),
            batch_size=1,
            runs=tmp_path / "runs",
        )

    def test_are_rows_that_evaluate_and_report_take(self, ray_cluster: dict[str, object], config: EncodeConfig) -> None:
        store = encode(config)
        rows = store.rows().set_index("id")
        assert rows.index.tolist() == ["one", "two", "two#2"]
        assert rows.loc["two#2", "path"] == rows.loc["two", "path"]
        assert rows.loc["two#2", "to_original"][2] - rows.loc["two", "to_original"][2] == pytest.approx(512)
        parts = sorted((store.root / "manifest").iterdir())
        encode(config)
        assert sorted((store.root / "manifest").iterdir()) == parts, "nothing is encoded twice"
        evaluated = evaluate(EvaluateConfig(store=store.root, runs=config.runs))
        table = pd.read_parquet(evaluated / "per_image.parquet").set_index("id")
        assert table.index.tolist() == ["one", "two", "two#2"]
        assert table.loc["two", "truth_pixels"] == 2400, "truth is of the photograph"
        assert (evaluated / "masks" / "two#2.png").is_file()
        out = config.runs / "report.html"
        page = write_report(store.root, {"shipped": evaluated}, out, title="", note="", images=True).read_text()
        assert "two#2" in page

    def test_landmarks_of_other_images_are_refused_before_anything_starts(self, config: EncodeConfig) -> None:
        assert config.chain.landmarks is not None
        marks = pd.read_csv(config.chain.landmarks)
        marks.assign(id=marks["id"] + ".png").to_csv(config.chain.landmarks, index=False)
        with pytest.raises(ConfigError, match=r"marks\.csv: has no row for any image .* look like 'two\.png'.*'two'"):
            encode(config)
        assert not config.store.exists()

    def test_ids_that_look_like_those_of_faces_are_refused(self, config: EncodeConfig) -> None:
        manifest = pd.read_csv(config.input)
        manifest.assign(id=["two", "two#2"]).to_csv(config.input, index=False)
        with pytest.raises(ConfigError, match=r"images\.csv: the id 'two#2' ends like that of a further face"):
            encode(config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id\na\n", "lacks the columns path"),
        ("id,path\na,x\na,y\n", "more than once"),
        ("id,path\n../a,x\n", "leads out"),
    ],
)
def test_a_bad_manifest_is_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    manifest = tmp_path / "images.csv"
    manifest.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_items(manifest)


@pytest.mark.parametrize("name", ["images.parquet", "images.csv"])
def test_ids_are_text_whatever_the_manifest_says(tmp_path: Path, name: str) -> None:
    """Stored ids are text: a number would never be found again, and its image be encoded at every run."""
    frame = pd.DataFrame({"id": [7, 8], "path": ["a.png", "b.png"]})
    frame.to_parquet(tmp_path / name) if name.endswith("parquet") else frame.to_csv(tmp_path / name, index=False)
    assert [item["id"] for item in read_items(tmp_path / name)] == ["7", "8"]


def test_paths_of_a_manifest_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text("id,path\na,pictures/a.png\nb,/elsewhere/b.png\n")
    paths = [item["path"] for item in read_items(tmp_path / "images.csv")]
    assert paths == [str(tmp_path / "pictures" / "a.png"), "/elsewhere/b.png"]


def test_a_missing_input_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither a folder .* nor"):
        read_items(tmp_path / "nowhere")

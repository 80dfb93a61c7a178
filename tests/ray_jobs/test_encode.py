"""The encoding job: real Ray actors, real files, bad files among them."""

from collections.abc import Generator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from ray import cloudpickle
from skimage.data import astronaut

from analysis.report import write_report
from ray_jobs import encode as job
from ray_jobs.actor_pools import PoolConfig
from ray_jobs.encode import EncodeConfig, encode
from ray_jobs.encode_stages import ContrastActor, EncodeActor, ReferenceActor, Work, run_stages
from ray_jobs.evaluate import EvaluateConfig, evaluate
from ray_jobs.job_cli import PartlyFailed
from s3pot.chain import ChainConfig
from s3pot.config import ConfigError
from s3pot.images import write_png
from s3pot.landmark_file import FIVE_POINTS
from s3pot.prefix import FrozenPrefix
from s3pot.store.compaction import maintenance
from s3pot.store.encoding import StoreWriting
from s3pot.store.manifest import list_parts
from s3pot.store.prompt_store import PromptStore
from tests.photo_files import write_every_kind
from tests.stand_ins import textured_face


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


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A manifest of files of every kind, and what is to come of each."""
    folder = tmp_path_factory.mktemp("kinds")
    kinds = write_every_kind(folder / "in")
    pd.DataFrame({"id": list(kinds), "path": [f"in/{name}" for name in kinds]}).to_csv(folder / "m.csv", index=False)
    return folder / "m.csv", kinds


@pytest.fixture(scope="module")
def fused(
    every_kind: tuple[Path, dict[str, str]], ray_cluster: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> PromptStore:
    """The store of them, encoded by one pool."""
    folder = tmp_path_factory.mktemp("fused")
    config = EncodeConfig(
        input=every_kind[0],
        store=folder / "store",
        chain=ChainConfig(alignment="none"),
        runs=folder / "runs",
        batch_size=4,
        actors=1,
    )
    with pytest.raises(PartlyFailed, match="6 of 13 images failed"):
        encode(config)
    return PromptStore(config.store)


def test_files_of_every_kind_are_rows(fused: PromptStore, every_kind: tuple[Path, dict[str, str]]) -> None:
    rows = fused.rows().set_index("id")
    failed = rows["status"] == "failed"
    assert failed.to_dict() == {name: status == "failed" for name, status in every_kind[1].items()}
    assert all(name in error for name, error in rows["error"][failed].items())
    assert not rows["error"][~failed].any()


def test_two_pools_give_the_same_rows(
    fused: PromptStore, every_kind: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    pool = PoolConfig(batch_size=3, actors=1, max_actors=2)
    config = EncodeConfig(
        input=every_kind[0],
        store=tmp_path / "store",
        chain=ChainConfig(alignment="none"),
        runs=tmp_path / "runs",
        stages="split",
        batch_size=2,
        actors=1,
        reference_pool=pool,
    )
    with pytest.raises(PartlyFailed, match="6 of 13 images failed"):
        encode(config)
    split = PromptStore(config.store)
    same = ["id", "path", "status", "error", "key", "image_sha256", "original_height", "to_original"]
    pd.testing.assert_frame_equal(split.rows(same), fused.rows(same))
    mine, theirs = split.records(), fused.records()
    for one, other in zip(mine, theirs, strict=True):
        # Batches differ, and with them the rounding [design 5.3].
        found, expected = set(one.occlusion_prompts.tolist()), set(other.occlusion_prompts.tolist())
        assert len(found & expected) >= 0.97 * len(found | expected)
        assert np.allclose(one.image_tokens.float(), other.image_tokens.float(), atol=0.02)


def test_what_changed_and_what_failed_is_done_again(
    ray_cluster: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    for number in range(3):
        write_png(photos / f"{number}.png", textured_face(number)[0])
    (photos / "3.png").write_bytes(b"no picture yet")
    chain = ChainConfig(alignment="none")
    config = EncodeConfig(input=photos, store=tmp_path / "store", chain=chain, runs=tmp_path / "runs", batch_size=1)
    encoded: list[list[str]] = []

    def only_note(items: pa.Table, work: Work) -> Generator[dict[str, Any], None, None]:
        encoded.append(items["id"].to_pylist())
        yield from run_stages(items, work)

    monkeypatch.setattr("ray_jobs.encode.run_stages", only_note)
    with pytest.raises(PartlyFailed, match="1 of 4 images failed"):
        encode(config)
    before = PromptStore(config.store).rows().set_index("id")
    write_png(photos / "1.png", textured_face(9)[0])
    write_png(photos / "4.png", textured_face(4)[0])
    with pytest.raises(PartlyFailed):
        encode(config)
    with pytest.raises(PartlyFailed):
        encode(replace(config, retry_failed=True))
    write_png(photos / "3.png", textured_face(3)[0])
    encode(config)
    assert encoded == [["0.png", "1.png", "2.png", "3.png"], ["1.png", "4.png"], ["3.png"], ["3.png"]]
    after = PromptStore(config.store).rows().set_index("id")
    assert after.loc["1.png", "image_sha256"] == sha256((photos / "1.png").read_bytes()).hexdigest()
    assert (after["key"] != before["key"].reindex(after.index)).to_dict() == {
        "0.png": False,
        "1.png": True,
        "2.png": False,
        "3.png": True,
        "4.png": True,
    }


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


def test_what_actors_are_told_is_small() -> None:
    chain = ChainConfig(alignment="none")
    store = Path("/somewhere/store")
    writing = StoreWriting(store=store)
    work = Work(chain=chain, store=store, writing=writing, pool=PoolConfig(), reference_pool=PoolConfig())
    for actor in (EncodeActor, ReferenceActor, ContrastActor):
        assert len(cloudpickle.dumps((actor, {"work": work, "threads": 1}))) < 10_000, "no weights among it"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"actors": 3, "max_actors": 2}, "max_actors"),
        ({"gpus_per_actor": 1.5}, "gpus_per_actor"),
        ({"reference_pool": PoolConfig(actors=2)}, "stages=split"),
    ],
)
def test_ranges(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EncodeConfig(input="photos", store=Path("store"), **values)


def test_many_manifest_parts_become_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PromptStore.create(tmp_path / "store", ChainConfig(alignment="none"))
    for number in range(4):
        store.append([{"id": str(number), "path": "gone.png", "status": "failed", "error": "gone"}])
    before = store.rows()
    monkeypatch.setattr(job, "_MOST_PARTS", 3)
    with maintenance(store.root):
        job._merge_parts(store)  # another process is at it: nothing is lost, nothing raised
    assert len(list_parts(store.manifest)) == 4
    job._merge_parts(store)
    assert len(list_parts(store.manifest)) == 1
    pd.testing.assert_frame_equal(store.rows(), before)

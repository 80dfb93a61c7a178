"""The segmenter as an MLflow model: logged, registered, loaded by alias, and the same as the segmenter itself."""

import base64
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from ray_jobs.pyfunc_saving import CODE, CONTENT, DESCRIPTION
from ray_jobs.registry import SEGMENTER, SegmenterConfig, log_segmenter
from ray_jobs.tracking import tracking_uri
from s3pot.chain import ChainConfig
from s3pot.embedded import file_hash
from s3pot.head.head_file import save_head
from s3pot.head.prefix_identity import prefix_description, prefix_identity
from s3pot.images import decode_png, encode_png, write_png
from s3pot.matching.selector import SelectorConfig
from s3pot.prefix import PrefixConfig
from s3pot.segmenter import OcclusionSegmenter
from tests.stand_ins import small_reweighter, textured_face, write_random_weights

CHAIN = ChainConfig(alignment="none", device="cpu")


@pytest.fixture(scope="module")
def weights(random_weight_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights whose head says which prefix it is for."""
    folder = tmp_path_factory.mktemp("weights")
    shutil.copytree(random_weight_files, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3POT_WEIGHTS", str(folder))
        save_head(small_reweighter(128, trained_looking=True), folder / "reweighter.safetensors", CHAIN, {})
    return folder


@pytest.fixture(scope="module")
def runs(weights: Path, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with the segmenter in it, alias `best`."""
    runs = tmp_path_factory.mktemp("runs")
    shutil.copy(empty_database, runs / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3POT_WEIGHTS", str(weights))
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        version = log_segmenter(SegmenterConfig(chain=CHAIN, alias="best", runs=runs))
        assert list(Path.cwd().iterdir()) == [], "some part of MLflow went to its default place"
    assert version.tags["prefix_identity"] != ""
    return runs


@pytest.fixture
def artifacts(runs: Path) -> Path:
    """The model as it lies in the registry."""
    [found] = runs.rglob("MLmodel")
    return found.parent


@pytest.fixture
def copied(artifacts: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(artifacts, tmp_path / "model"))


def _by_alias(runs: Path, **options: object) -> mlflow.pyfunc.PyFuncModel:
    mlflow.set_tracking_uri(tracking_uri(runs))
    try:
        return mlflow.pyfunc.load_model(f"models:/{SEGMENTER}@best", **options)
    finally:
        mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def model(runs: Path, random_weight_files: Path) -> mlflow.pyfunc.PyFuncModel:
    """Loaded by alias, while the installed weights are others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("S3POT_WEIGHTS", str(random_weight_files.parent / "nothing-here"))
        return _by_alias(runs)


@pytest.fixture
def segmenter(weights: Path, monkeypatch: pytest.MonkeyPatch) -> OcclusionSegmenter:
    monkeypatch.setenv("S3POT_WEIGHTS", str(weights))
    return OcclusionSegmenter.load(CHAIN)


def test_by_alias_it_predicts_what_the_segmenter_does(
    model: mlflow.pyfunc.PyFuncModel, segmenter: OcclusionSegmenter, tmp_path: Path
) -> None:
    pictures = [textured_face(seed)[0] for seed in range(3)]
    places = [tmp_path / f"{number}.png" for number in range(3)]
    for place, picture in zip(places, pictures, strict=True):
        write_png(place, picture)
    from_paths = model.predict(pd.DataFrame({"path": [str(place) for place in places]}, index=[7, 5, 3]))
    assert from_paths.index.tolist() == [7, 5, 3]
    expected = [segmenter.predict(picture) for picture in pictures]
    assert len({result.score for result in expected}) == 3
    for (_, row), result in zip(from_paths.iterrows(), expected, strict=True):
        assert (row["status"], row["abstained"]) == (result.status, result.abstained)
        assert row["score"] == pytest.approx(result.score, abs=1e-6)
        np.testing.assert_array_equal(decode_png(row["occlusion"]) > 127, result.occlusion)
    assert any(result.occlusion.any() for result in expected)
    files = [place.read_bytes() for place in places]
    for images in (files, [base64.b64encode(data).decode() for data in files]):
        again = model.predict(pd.DataFrame({"image": images}))
        assert again["occlusion"].tolist() == from_paths["occlusion"].tolist()


def test_a_picture_that_cannot_be_read_costs_no_other(model: mlflow.pyfunc.PyFuncModel, tmp_path: Path) -> None:
    good = encode_png(textured_face(1)[0])
    table = model.predict(pd.DataFrame({"image": [good, b"no picture", "no base64!", good]}))
    assert table["status"].tolist()[1:3] == ["failed", "failed"]
    assert table["status"].tolist()[0] == table["status"].tolist()[3] != "failed"
    assert "no image" in table["error"][1]
    assert table["occlusion"][0] == table["occlusion"][3]
    missing = model.predict(pd.DataFrame({"path": [str(tmp_path / "missing.jpg")]}))
    assert missing["status"].tolist() == ["failed"]
    assert "missing.jpg" in missing["error"][0]


def test_one_column_is_needed(model: mlflow.pyfunc.PyFuncModel) -> None:
    inner = model.unwrap_python_model()
    for frame in (pd.DataFrame({"path": ["a"], "image": [b"b"]}), pd.DataFrame({"picture": ["a"]})):
        with pytest.raises(ValueError, match="expected a column `path` or a column `image`"):
            inner.predict(None, frame)


def test_what_lies_in_the_registry_is_our_file_and_no_pickle(artifacts: Path, weights: Path) -> None:
    assert (artifacts / CODE.name).read_bytes() == CODE.read_bytes()
    files = {path.name: path for path in artifacts.rglob("*") if path.is_file()}
    assert [name for name in files if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".bin"))] == []
    assert [name for name in files if name.endswith(".py")] == [CODE.name]
    assert files["reweighter.safetensors"].read_bytes() == (weights / "reweighter.safetensors").read_bytes()
    assert "WEIGHTS_LICENSE" in files
    described = json.loads(files[DESCRIPTION].read_text())
    assert described["files"]["nano_sam.safetensors"] == file_hash(weights / "nano_sam.safetensors")


def test_signature_and_example_go_together(artifacts: Path, model: mlflow.pyfunc.PyFuncModel) -> None:
    assert model.metadata.get_input_schema().input_names() == ["path", "image"]
    example = mlflow.models.Model.load(str(artifacts)).load_input_example(str(artifacts))
    [image] = example["image"]
    data = image if isinstance(image, bytes) else base64.b64decode(image)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.size == (512, 512)
    assert set(model.predict(example).columns) == set(model.metadata.get_output_schema().input_names())


def test_a_device_can_be_chosen(runs: Path) -> None:
    loaded = _by_alias(runs, model_config={"device": "cpu"})
    assert loaded.unwrap_python_model().segmenter.prefix.sam.device.type == "cpu"
    with pytest.raises(ValueError, match="PyTorch sees no CUDA device"):
        _by_alias(runs, model_config={"device": "cuda"})


def test_other_weights_are_refused(copied: Path, tmp_path: Path) -> None:
    other = write_random_weights(tmp_path / "other") / "face_locator.safetensors"
    place = copied / "artifacts" / CONTENT / "face_parser.safetensors"
    place.write_bytes(other.read_bytes())
    with pytest.raises(Exception, match=r"face_parser\.safetensors: not the file that was logged"):
        mlflow.pyfunc.load_model(str(copied))
    place.unlink()
    with pytest.raises(Exception, match=r"face_parser\.safetensors: not the file that was logged \(missing"):
        mlflow.pyfunc.load_model(str(copied))


def test_another_prefix_is_refused(copied: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3POT_WEIGHTS", str(weights))
    place = copied / "artifacts" / CONTENT / DESCRIPTION
    described = json.loads(place.read_text())
    logged = prefix_identity(prefix_description(CHAIN))
    assert described["prefix_identity"] == logged
    described["chain"]["prefix"]["selector"]["kind"] = "otsu"
    place.write_text(json.dumps(described))
    other = prefix_identity(
        prefix_description(replace(CHAIN, prefix=PrefixConfig(selector=SelectorConfig(kind="otsu"))))
    )
    with pytest.raises(Exception, match=f"logged with the frozen prefix {logged} .*; here it is {other} "):
        mlflow.pyfunc.load_model(str(copied))
    # One that lies about its identity still has the head, which names what it was trained for.
    place.write_text(json.dumps(described | {"prefix_identity": other}))
    with pytest.raises(
        Exception, match=r"trained for another frozen prefix .*selector\.kind greedy there and otsu here"
    ):
        mlflow.pyfunc.load_model(str(copied))


def test_a_chain_of_a_later_version_is_refused(copied: Path) -> None:
    place = copied / "artifacts" / CONTENT / DESCRIPTION
    described = json.loads(place.read_text())
    described["chain"]["new_stage"] = True
    place.write_text(json.dumps(described | {"s3pot": "9.0.0"}))
    with pytest.raises(Exception, match=r"new_stage: unknown key.*: install s3pot 9\.0\.0, which logged it"):
        mlflow.pyfunc.load_model(str(copied))


def test_an_alias_that_is_not_there(runs: Path) -> None:
    mlflow.set_tracking_uri(tracking_uri(runs))
    try:
        with pytest.raises(MlflowException, match="worst"):
            mlflow.pyfunc.load_model(f"models:/{SEGMENTER}@worst")
    finally:
        mlflow.set_tracking_uri(None)

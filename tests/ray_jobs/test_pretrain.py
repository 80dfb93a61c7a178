"""Training of the embedded models on a drawn data set: a few steps of each, resumable, logged."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ray_jobs import pretrain
from s3pot.data.folds import fold_of_face
from s3pot.embedded import load_generator, load_nano_sam, load_parser
from tests.faces import draw_face
from tests.ray_jobs.test_data import SKIN_TO_CELEBAMASK


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces of fold `prefix`, cut-outs of two kinds and a natural picture, all drawn."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("celebamask/train/images", "celebamask/train/labels", "natural/train/images"):
        (root / folder).mkdir(parents=True)
    stems = [stem for stem in (f"face{index}" for index in range(20)) if fold_of_face(stem) == "prefix"][:3]
    for index, stem in enumerate(stems):
        face, parsing = draw_face(256, seed=index)
        Image.fromarray(face).save(root / "celebamask/train/images" / f"{stem}.jpg")
        Image.fromarray(SKIN_TO_CELEBAMASK[parsing]).save(root / "celebamask/train/labels" / f"{stem}.png")
    for kind in ("objects", "emoji"):
        (root / "occluders/train" / kind).mkdir(parents=True)
        for number in range(4):
            color = (60 * number, 40, 90, 255)
            Image.new("RGBA", (60, 50), color).save(root / "occluders/train" / kind / f"thing{number}.png")
    (root / "natural/train/segments").mkdir()
    (root / "celeba_hq").mkdir()
    Image.fromarray(draw_face(256, seed=7)[0]).save(root / "celeba_hq" / "0001.jpg")
    halves = np.zeros((120, 160), dtype=np.uint8)
    halves[:, 80:] = 1
    Image.fromarray(np.dstack([halves * 200] * 3)).save(root / "natural/train/images/one.jpg")
    Image.fromarray(halves).save(root / "natural/train/segments/one_0.png")
    (root / "exclude.txt").write_text("# none\n")
    return root


def _run(data: Path, out: Path, model: str) -> None:
    arguments = [model, "--data", str(data), "--out", str(out), "--runs", str(out), "--smoke"]
    app = pretrain.typer.Typer()
    app.command()(pretrain.main)
    result = CliRunner().invoke(app, [*arguments, "--exclude", str(data / "exclude.txt")])
    if result.exception is not None:
        raise result.exception


def test_all_three_models_are_trained_and_load(data: Path, tmp_path: Path) -> None:
    for model in ("parser", "nano_sam", "generator"):
        _run(data, tmp_path, model)
        assert (tmp_path / "pretrain" / f"{model}-smoke" / "checkpoint.pt").is_file()
    load_parser(tmp_path / "face_parser.safetensors")
    load_nano_sam(tmp_path / "nano_sam.safetensors")
    load_generator(tmp_path / "reference_generator.safetensors")
    assert (tmp_path / "mlflow.db").is_file()

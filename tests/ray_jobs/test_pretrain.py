"""Training of the embedded models on a drawn data set: a few steps of each, resumable, logged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut
from typer.testing import CliRunner, Result

from ray_jobs import pretrain
from ray_jobs.ladder import LadderConfig, ladder
from s3pot.baselines.supervised import SupervisedSegmenter
from s3pot.chain import ChainConfig, chain_identity
from s3pot.checkpoints.reading import WeightsError
from s3pot.composite import Cutout
from s3pot.data.folds import fold_of_face
from s3pot.embedded import (
    WEIGHT_FILES,
    file_hash,
    load_generator,
    load_landmark_detector,
    load_locator,
    load_nano_sam,
    load_parser,
    load_weights,
    read_metadata,
)
from s3pot.pretrain.faces import FaceBank
from s3pot.pretrain.loop import BatchMaker, Phase, PretrainConfig
from s3pot.pretrain.parser_training import ParserBatches
from tests.faces import draw_face
from tests.ray_jobs.test_data_composite import SKIN_TO_CELEBAMASK


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces of fold `prefix` and one of `dev`, cut-outs of two kinds and a natural picture, all drawn."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("celebamask/train/images", "celebamask/train/labels", "natural/train/images"):
        (root / folder).mkdir(parents=True)
    named = [f"face{index}" for index in range(20)]
    stems = [stem for stem in named if fold_of_face(stem) == "prefix"][:3]
    stems += [stem for stem in named if fold_of_face(stem) == "dev"][:1]
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
    (root / "portraits").mkdir()
    Image.fromarray(astronaut()).save(root / "portraits" / "anybody.jpg")
    (root / "exclude.txt").write_text("# none\n")
    return root


def _run(data: Path, out: Path, model: str) -> None:
    result = _invoke(data, out, model, "--out", str(out))
    if result.exception is not None:
        raise result.exception


def _invoke(data: Path, runs: Path, model: str, *options: str) -> Result:
    app = pretrain.typer.Typer()
    app.command()(pretrain.main)
    arguments = [model, "--data", str(data), "--runs", str(runs), "--exclude", str(data / "exclude.txt"), "--smoke"]
    return CliRunner().invoke(app, [*arguments, *options])


def test_all_three_models_are_trained_and_load(data: Path, tmp_path: Path) -> None:
    for model in ("parser", "nano_sam", "generator"):
        _run(data, tmp_path, model)
        assert (tmp_path / "pretrain" / f"{model}-smoke" / "checkpoint.pt").is_file()
    load_parser(tmp_path / "face_parser.safetensors")
    load_nano_sam(tmp_path / "nano_sam.safetensors")
    load_generator(tmp_path / "reference_generator.safetensors")
    assert (tmp_path / "mlflow.db").is_file()


def test_the_landmark_detector_and_the_baseline_are_trained_and_load(data: Path, tmp_path: Path) -> None:
    for model in ("landmarks", "supervised"):
        _run(data, tmp_path, model)
    load_landmark_detector(tmp_path / "face_landmarks.safetensors")
    load_weights(SupervisedSegmenter(), tmp_path / "supervised_segmenter.safetensors")
    written = read_metadata(tmp_path / "face_landmarks.safetensors")
    assert written == {
        "model": "landmarks",
        "steps": "3",
        "fold": "prefix",
        "left_out": "none",
        "scale": "1",
        "seed": "0",
    }


def test_the_locator_is_trained_and_loads(data: Path, tmp_path: Path) -> None:
    _run(data, tmp_path, "locator")
    load_locator(tmp_path / "face_locator.safetensors")


def test_a_kind_that_is_left_out_is_never_drawn(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []

    def spy(faces: FaceBank, cutouts: list[Cutout], seed: int) -> ParserBatches:
        seen.append({cutout.kind for cutout in cutouts})
        return ParserBatches(faces, cutouts, seed)

    monkeypatch.setattr(pretrain, "ParserBatches", spy)
    for options in ((), ("--leave-out", "objects")):
        assert _invoke(data, tmp_path, "parser", *options).exit_code == 0
    assert seen[0] - seen[1] == {"objects"}
    assert seen[1] == seen[0] - {"objects"}


def test_a_student_sees_the_unlabelled_faces_too_and_names_its_teacher(
    data: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []

    def spy(faces: FaceBank, cutouts: list[Cutout], seed: int) -> ParserBatches:
        seen.append(faces.ids)
        return ParserBatches(faces, cutouts, seed)

    monkeypatch.setattr(pretrain, "ParserBatches", spy)
    teacher = random_weights / "face_parser.safetensors"
    for runs, options in ((tmp_path / "alone", ()), (tmp_path / "taught", ("--teacher", str(teacher)))):
        assert _invoke(data, runs, "parser", *options).exit_code == 0
    assert seen[1] == (*seen[0], "0001")
    assert read_metadata(tmp_path / "taught/weights/face_parser.safetensors")["teacher"] == file_hash(teacher)
    assert "teacher" not in read_metadata(tmp_path / "alone/weights/face_parser.safetensors")


def test_fine_tuning_starts_from_the_weights_given_and_sees_other_samples(
    data: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[dict[str, torch.Tensor], torch.Tensor]] = []
    whole = pretrain.pretrain

    def spy(network: torch.nn.Module, batches: BatchMaker, *others: Any) -> torch.nn.Module:
        weights = {name: weight.clone() for name, weight in network.state_dict().items()}
        started.append((weights, batches(0, Phase(size=64, steps=1, batch=2))["image"]))
        return whole(network, batches, *others)

    monkeypatch.setattr(pretrain, "pretrain", spy)
    start = random_weights / "face_parser.safetensors"
    for options in ((), ("--start-from", str(start)), ("--start-from", str(start), "--seed", "1")):
        assert _invoke(data, tmp_path, "parser", *options).exit_code == 0
    given = load_parser(start).state_dict()
    for weights, _ in started[1:]:
        assert all(torch.equal(weights[name], given[name]) for name in given)
    assert any(not torch.equal(started[0][0][name], given[name]) for name in given)
    assert torch.equal(started[0][1], started[1][1])
    assert not torch.equal(started[1][1], started[2][1])
    written = read_metadata(tmp_path / "weights/face_parser.safetensors")
    assert (written["start_from"], written["seed"]) == (file_hash(start), "1")
    assert len(list((tmp_path / "pretrain").iterdir())) == 3, "a checkpoint folder each"


def test_only_a_parser_has_a_teacher(data: Path, random_weights: Path, tmp_path: Path) -> None:
    teacher = str(random_weights / "face_parser.safetensors")
    result = _invoke(data, tmp_path, "nano_sam", "--teacher", teacher)
    assert result.exit_code == 2
    assert "only a parser learns" in " ".join(result.output.split())


def test_a_variant_keeps_to_its_own_folders_and_says_what_it_is(data: Path, tmp_path: Path) -> None:
    result = _invoke(data, tmp_path, "parser", "--leave-out", "objects", "--scale", "0.5")
    assert result.exit_code == 0, result.output
    name = "-without-objects-scale-0.5"
    written = read_metadata(tmp_path / f"weights{name}" / "face_parser.safetensors")
    assert (written["left_out"], written["scale"]) == ("objects", "0.5")
    assert (tmp_path / f"pretrain{name}" / "parser-smoke" / "checkpoint.pt").is_file()
    assert not (tmp_path / "weights").exists()
    assert not (tmp_path / "pretrain").exists()


def test_a_variant_is_used_through_the_variable(
    data: Path, tmp_path: Path, astronaut_manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in ("parser", "nano_sam", "generator"):
        assert _invoke(data, tmp_path, model, "--leave-out", "objects").exit_code == 0
    shipped = chain_identity(ChainConfig(alignment="none"))
    monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path / "weights-without-objects"))
    assert chain_identity(ChainConfig(alignment="none")) != shipped, "stores of the two are not mixed"
    means = ladder(LadderConfig(manifest=astronaut_manifest, head="none", limit=2, runs=tmp_path))
    assert set(means["head"]) == {"none"}
    # A variant has no head of its own: falling back to the shipped one would mix what saw the kind with what did not.
    with pytest.raises(WeightsError, match=r"weights-without-objects.*reweighter"):
        ladder(LadderConfig(manifest=astronaut_manifest, limit=2, runs=tmp_path))


def test_names_of_variants() -> None:
    assert pretrain.variant_name([], 1.0) == ""
    assert pretrain.variant_name(["hands"], 1.0) == "-without-hands"
    assert pretrain.variant_name([], 0.3) == "-scale-0.3"
    assert pretrain.variant_name(["hands", "sunglasses"], 0.25) == "-without-hands-without-sunglasses-scale-0.25"


def test_a_misspelt_kind_is_refused_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    result = _invoke(data, tmp_path, "parser", "--leave-out", "object")
    assert result.exit_code == 2
    assert "objects" in result.output
    assert list(tmp_path.iterdir()) == []


def test_scaled_shortens_every_phase_and_nothing_else() -> None:
    phases = (
        Phase(size=128, steps=1000, batch=16),
        Phase(size=256, steps=5, batch=12),
        Phase(size=256, steps=1, batch=2),
    )
    config = PretrainConfig(phases=phases, learning_rate=2e-3, decay_share=0.3)
    shorter = pretrain.scaled(config, 0.3)
    assert [phase.steps for phase in shorter.phases] == [300, 2, 1]
    assert [(phase.size, phase.batch) for phase in shorter.phases] == [(128, 16), (256, 12), (256, 2)]
    assert (shorter.learning_rate, shorter.decay_share) == (2e-3, 0.3)
    assert pretrain.scaled(config, 1.0) == config


@pytest.mark.parametrize(
    ("model", "row"),
    [
        ("parser", "face-mask IoU, clean"),
        ("generator", "L1 inside"),
        ("landmarks", "landmark's peak within 12 px of 256"),
        ("locator", "faces located, with occluders"),
    ],
)
def test_measured_numbers_go_into_the_card(
    data: Path, random_weights: Path, astronaut_manifest: Path, tmp_path: Path, model: str, row: str
) -> None:
    for file in random_weights.glob("*.safetensors"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    name = Path(WEIGHT_FILES[model]).stem
    (tmp_path / f"{name}.md").write_text("# Card\n\nWords that stay.\n")
    result = _invoke(data, tmp_path, model, "--out", str(tmp_path), "--measure-on", str(astronaut_manifest))
    assert result.exception is None
    card = (tmp_path / f"{name}.md").read_text()
    assert card.startswith("# Card\n\nWords that stay.\n")
    assert row in card
    what = "2 x 4 scenes of fold dev" if model == "locator" else f"5 pictures of {astronaut_manifest}"
    assert f"{what}, weights {file_hash(tmp_path / f'{name}.safetensors')}" in card


def test_a_finished_training_is_only_measured(
    data: Path, random_weights: Path, astronaut_manifest: Path, tmp_path: Path
) -> None:
    out = ("--out", str(tmp_path))
    assert _invoke(data, tmp_path, "landmarks", *out).exit_code == 0
    weights, card = tmp_path / "face_landmarks.safetensors", tmp_path / "face_landmarks.md"
    card.write_text("# Card\n")
    trained, checkpoint = file_hash(weights), tmp_path / "pretrain" / "landmarks-smoke" / "checkpoint.pt"
    saved = checkpoint.stat().st_mtime_ns
    result = _invoke(data, tmp_path, "landmarks", *out, "--measure-on", str(astronaut_manifest))
    assert result.exit_code == 0, result.output
    assert (file_hash(weights), checkpoint.stat().st_mtime_ns) == (trained, saved)
    assert f"weights {trained}" in card.read_text()


def test_a_model_without_rows_cannot_be_measured(data: Path, tmp_path: Path, astronaut_manifest: Path) -> None:
    result = _invoke(data, tmp_path, "supervised", "--measure-on", str(astronaut_manifest))
    assert result.exit_code == 2
    assert "no rows for supervised" in " ".join(result.output.split())
    assert not (tmp_path / "pretrain").exists(), "said before anything is trained"

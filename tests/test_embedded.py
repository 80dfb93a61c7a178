import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from s3pot import embedded
from s3pot.checkpoints.catalogue import describe_checkpoint, find_checkpoint
from s3pot.checkpoints.reading import WeightsError
from s3pot.embedded import (
    LICENCE_SHOWN,
    WEIGHT_FILES,
    device_of,
    embedded_folder,
    file_hash,
    load_generator,
    load_landmark_detector,
    load_locator,
    load_nano_sam,
    load_parser,
    load_weights,
    read_metadata,
    save_weights,
    show_licence,
    weights_folder,
    weights_path,
)
from s3pot.locator import FaceLocator
from s3pot.machine_cache import cache_folder
from s3pot.parsing.network import FaceParser
from s3pot.reference.generator import ReferenceGenerator
from s3pot.reference.landmarks import LandmarkDetector
from s3pot.sam.sizes import build_sam


class Small(nn.Module):
    """Floats, a float buffer and an integer buffer."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(4, width)
        self.register_buffer("mean", torch.rand(2))
        self.register_buffer("count", torch.tensor(70_000))  # more than fp16 can hold


@pytest.fixture
def small() -> Small:
    torch.manual_seed(0)
    return Small()


@pytest.fixture(autouse=True)
def _licence_not_yet_shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(LICENCE_SHOWN, raising=False)
    show_licence.cache_clear()
    yield
    show_licence.cache_clear()


def test_round_trip_through_half_precision(small: Small, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "small.safetensors"
    save_weights(small, path, {"model": "small"})
    loaded = Small()
    assert load_weights(loaded, path) is loaded
    for name, tensor in small.state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype == tensor.dtype
        expected = tensor.half().float() if tensor.dtype.is_floating_point else tensor
        assert torch.equal(found, expected), name
    assert not torch.equal(loaded.linear.weight, small.linear.weight), "nothing was rounded: is this fp16?"


def test_others_can_read_what_was_written(tmp_path: Path) -> None:
    save_weights(nn.Linear(2, 2), tmp_path / "linear.safetensors", {"model": "linear"})
    assert (tmp_path / "linear.safetensors").stat().st_mode & 0o777 == 0o644


def test_what_is_loaded_is_frozen_and_in_eval_mode(small: Small, tmp_path: Path) -> None:
    save_weights(small, tmp_path / "a.safetensors", {})
    loaded = load_weights(Small(), tmp_path / "a.safetensors")
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert small.linear.weight.requires_grad, "saving leaves the model as it was"


def test_the_file_holds_fp16_and_metadata_and_nothing_else_is_left(small: Small, tmp_path: Path) -> None:
    save_weights(small, tmp_path / "a.safetensors", {"steps": "12"})
    with safe_open(tmp_path / "a.safetensors", framework="pt") as opened:
        assert opened.metadata() == {"s3pot": '{"steps": "12"}'}
        assert opened.get_tensor("linear.weight").dtype == torch.float16
        assert opened.get_tensor("count").dtype == torch.int64
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_full_precision_is_kept_when_asked_for(small: Small, tmp_path: Path) -> None:
    save_weights(small, tmp_path / "a.safetensors", {}, half=False)
    loaded = load_weights(Small(), tmp_path / "a.safetensors")
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in small.state_dict().items())


def test_the_same_weights_give_the_same_file(small: Small, tmp_path: Path) -> None:
    metadata = {f"key{number}": str(number) for number in range(8)}
    for turn in range(4):
        metadata = dict(reversed(metadata.items()))
        save_weights(small, tmp_path / f"{turn}.safetensors", metadata)
    assert len({(tmp_path / f"{turn}.safetensors").read_bytes() for turn in range(4)}) == 1


def test_metadata_written_entry_by_entry_is_read(small: Small, tmp_path: Path) -> None:
    save_file(dict(small.state_dict()), tmp_path / "old.safetensors", metadata={"steps": "12", "fold": "prefix"})
    assert read_metadata(tmp_path / "old.safetensors") == {"steps": "12", "fold": "prefix"}


def test_metadata_comes_back_as_written(small: Small, tmp_path: Path) -> None:
    save_weights(small, tmp_path / "a.safetensors", {"steps": "12", "fold": "prefix"})
    assert read_metadata(tmp_path / "a.safetensors") == {"steps": "12", "fold": "prefix"}


@pytest.mark.parametrize("content", [None, b"", b"PK zip, not safetensors"], ids=["missing", "empty", "other"])
def test_metadata_of_an_unreadable_file_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"broken\.safetensors: not a readable"):
        read_metadata(path)


def test_a_file_without_metadata_is_an_error(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match=r"bare\.safetensors: carries no metadata"):
        read_metadata(tmp_path / "bare.safetensors")


def test_channels_last_weights_keep_their_values(tmp_path: Path) -> None:
    convolution = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
    save_weights(convolution, tmp_path / "c.safetensors", {})
    loaded = load_weights(nn.Conv2d(4, 6, 3), tmp_path / "c.safetensors")
    assert torch.equal(loaded.weight, convolution.weight.half().float())


def test_saving_replaces_an_older_file(small: Small, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"older")
    save_weights(small, path, {})
    load_weights(Small(), path)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.safetensors"):
        load_weights(Small(), tmp_path / "absent.safetensors")


@pytest.mark.parametrize("kept", [0, 4, 40, -1])
def test_a_truncated_file_is_an_error_that_names_it(small: Small, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "cut.safetensors"
    save_weights(small, path, {})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"cut\.safetensors: not a readable"):
        load_weights(Small(), path)


def test_other_shapes_are_an_error_that_names_the_weights(small: Small, tmp_path: Path) -> None:
    save_weights(small, tmp_path / "a.safetensors", {})
    wider = Small(width=5)
    before = wider.linear.weight.clone()
    with pytest.raises(WeightsError, match=r"does not fit Small: 2 of another shape \(linear\.bias: .*linear\.w"):
        load_weights(wider, tmp_path / "a.safetensors")
    assert torch.equal(wider.linear.weight, before), "a file that does not fit changes nothing"


def test_missing_and_unexpected_names_are_an_error(small: Small, tmp_path: Path) -> None:
    save_weights(small.linear, tmp_path / "a.safetensors", {})
    with pytest.raises(WeightsError, match=r"4 missing \(.*linear\.bias.*2 unexpected \(bias, weight\)"):
        load_weights(small, tmp_path / "a.safetensors")


def test_the_variable_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("S3POT_WEIGHTS", raising=False)
    assert weights_folder() == Path(embedded.__file__).parent / "weights"
    monkeypatch.setenv("S3POT_WEIGHTS", "")
    assert weights_folder() == Path(embedded.__file__).parent / "weights"
    monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
    assert weights_folder() == tmp_path
    (tmp_path / "face_parser.safetensors").touch()
    assert weights_path("parser") == tmp_path / "face_parser.safetensors"


@pytest.mark.parametrize(
    ("part", "file"),
    [
        ("locator", "face_locator.safetensors"),
        ("parser", "face_parser.safetensors"),
        ("nano_sam", "nano_sam.safetensors"),
        ("generator", "reference_generator.safetensors"),
        ("landmarks", "face_landmarks.safetensors"),
        ("reweighter", "reweighter.safetensors"),
    ],
)
def test_weights_that_are_not_there_are_an_error_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: embedded.Part, file: str
) -> None:
    monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
    (tmp_path / "supervised_segmenter.safetensors").touch()
    with pytest.raises(WeightsError, match="S3POT_WEIGHTS") as caught:
        weights_path(part)
    assert str(tmp_path / file) in str(caught.value)


def test_a_folder_of_checkpoints_alone_hides_no_embedded_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
    (tmp_path / "sam_vit_b_01ec64.pth").touch()
    assert weights_folder() == tmp_path
    assert embedded_folder() == Path(embedded.__file__).parent / "weights"
    (tmp_path / "nano_sam.safetensors").touch()
    assert embedded_folder() == tmp_path, "models of two trainings are never mixed"


def test_the_three_models_load_from_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.manual_seed(0)
    parser, generator, sam = FaceParser(), ReferenceGenerator(), build_sam("nano", seed=6)
    save_weights(parser, tmp_path / "face_parser.safetensors", {})
    save_weights(generator, tmp_path / "reference_generator.safetensors", {})
    save_weights(sam, tmp_path / "nano_sam.safetensors", {})
    monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
    promptable = load_nano_sam()
    for trained, loaded in ((parser, load_parser()), (generator, load_generator()), (sam, promptable.sam)):
        assert not any(weight.requires_grad for weight in loaded.parameters())
        for name, tensor in trained.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor.half().float()), name
    assert promptable.token_grid == (32, 32)
    assert not promptable.enhance_point_only
    assert load_nano_sam(tmp_path / "nano_sam.safetensors", enhance_point_only=True).enhance_point_only


def test_the_landmark_detector_loads_from_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trained = LandmarkDetector()
    save_weights(trained, tmp_path / "face_landmarks.safetensors", {})
    monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
    loaded = load_landmark_detector()
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert torch.equal(loaded.head.weight, trained.head.weight.half().float())


def test_the_locator_loads_from_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trained = FaceLocator()
    save_weights(trained, tmp_path / "face_locator.safetensors", {})
    monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
    loaded = load_locator()
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert torch.equal(loaded.head.weight, trained.head.weight.half().float())


def test_a_path_of_ones_own_wins_over_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path / "nowhere"))
    save_weights(FaceParser(), tmp_path / "mine.safetensors", {})
    load_parser(tmp_path / "mine.safetensors")


def test_the_licence_is_shown_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_weights(FaceParser(), tmp_path / "mine.safetensors", {})
    with caplog.at_level(logging.WARNING, logger="s3pot"):
        for _ in range(2):
            load_parser(tmp_path / "mine.safetensors")
    shown = [record.getMessage() for record in caplog.records if "WEIGHTS_LICENSE" in record.getMessage()]
    assert len(shown) == 1


def test_a_process_that_was_told_so_stays_silent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(LICENCE_SHOWN, "1")
    with caplog.at_level(logging.WARNING, logger="s3pot"):
        show_licence()
    assert caplog.records == []


def test_the_hash_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"weights")
    assert file_hash(path) == hashlib.sha256(b"weights").hexdigest()[:16]


def test_the_hash_follows_a_file_that_is_trained_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"first training")
    first = file_hash(path)
    path.write_bytes(b"second, longer training")
    assert file_hash(path) != first


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto") == device_of("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"'cuda'.*device=cpu or auto"):
        device_of("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto") == device_of("cuda") == torch.device("cuda")


class TestWeightsBelowAUri:
    @pytest.fixture
    def uri(self, random_weight_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        uri = f"file://{random_weight_files}"
        monkeypatch.setenv("S3POT_CACHE", str(tmp_path))
        monkeypatch.setenv("S3POT_WEIGHTS", uri)
        return uri

    def test_are_kept_by_the_machine(self, uri: str, random_weight_files: Path) -> None:
        path = weights_path("parser")
        assert path == cache_folder(uri) / WEIGHT_FILES["parser"]
        assert path.read_bytes() == (random_weight_files / WEIGHT_FILES["parser"]).read_bytes()

    def test_checkpoints_too_and_only_those_that_are_asked_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        there = tmp_path / "there"
        there.mkdir()
        for name in ("vit_b", "vit_h"):
            (there / describe_checkpoint(name).file).write_bytes(name.encode())
        monkeypatch.setenv("S3POT_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("S3POT_WEIGHTS", f"file://{there}")
        assert find_checkpoint("vit_b").read_bytes() == b"vit_b"
        assert not (weights_folder() / describe_checkpoint("vit_h").file).exists()
        with pytest.raises(WeightsError, match=r"79999_iter\.pth: no such file"):
            find_checkpoint("bisenet")
        assert weights_path("parser").parent == Path(embedded.__file__).parent / "weights", "it holds no embedded model"

    def test_that_cannot_be_read_are_one_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("S3POT_WEIGHTS", "nosuch://bucket/weights")
        with pytest.raises(WeightsError, match=r"S3POT_WEIGHTS: sam_vit_b.* cannot be fetched: nosuch://bucket"):
            find_checkpoint("vit_b")

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from s3pot import chain
from s3pot.chain import (
    ChainConfig,
    chain_identity,
    load_aligner,
    load_prefix,
    load_sam,
)
from s3pot.checkpoints.reading import WeightsError
from s3pot.config import ConfigError, parse, to_mapping
from s3pot.embedded import save_weights
from s3pot.images import ImageError, write_png
from s3pot.landmark_file import FIVE_POINTS
from s3pot.locator import FaceLocator
from s3pot.matching.selector import SelectorConfig
from s3pot.parsing.bisenet import BiSeNet
from s3pot.prefix import PrefixConfig
from s3pot.reference.e4s.checkpoint import load_e4s
from s3pot.reference.e4s.model import E4S, E4SConfig
from tests.stand_ins import small_reweighter, textured_face, tiny_stock_sam, write_reweighter


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint as segment_anything publishes them, and `vit_b` of a size that fits into a test."""

    def tiny(name: str) -> Sam:
        assert name == "vit_b"
        return tiny_stock_sam(seed=1)

    monkeypatch.setattr(chain, "build_sam", tiny)
    path = tmp_path / "sam_vit_b.pth"
    torch.save(tiny_stock_sam(seed=2).state_dict(), path)
    return path


class TestConfig:
    def test_is_read_back_from_plain_values(self) -> None:
        config = ChainConfig(
            sam="vit_b",
            sam_checkpoint=Path("sam.pth"),
            alignment="none",
            prefix=PrefixConfig(selector=SelectorConfig(kind="otsu"), seed=3),
        )
        assert parse(ChainConfig, to_mapping(config), where="test") == config

    @pytest.mark.parametrize(
        ("key", "meant_for"),
        [
            ("sam_checkpoint", "vit_b, vit_l and vit_h"),
            ("parser_checkpoint", "parser=bisenet"),
            ("generator_checkpoint", "generator=e4s"),
        ],
    )
    def test_embedded_models_take_no_checkpoint(self, key: str, meant_for: str) -> None:
        with pytest.raises(ConfigError, match=f"{key} is for {meant_for}"):
            parse(ChainConfig, {key: "weights.pth"}, where="test")

    @pytest.mark.parametrize("given", [{"alignment": "landmarks"}, {"landmarks": "landmarks.csv"}])
    def test_alignment_by_landmarks_and_their_file_belong_together(self, given: dict[str, str]) -> None:
        with pytest.raises(ConfigError, match=r"alignment=landmarks and landmarks=FILE belong together"):
            parse(ChainConfig, given, where="test")

    def test_an_aligned_picture_has_one_face(self) -> None:
        with pytest.raises(ConfigError, match=r"faces=all needs alignment detect or landmarks"):
            parse(ChainConfig, {"alignment": "none", "faces": "all"}, where="test")

    @pytest.mark.parametrize("given", [{"generator": "precomputed"}, {"references": "folder"}])
    def test_precomputed_references_and_their_folder_belong_together(self, given: dict[str, str]) -> None:
        with pytest.raises(ConfigError, match=r"generator=precomputed and references=FOLDER belong together"):
            parse(ChainConfig, given, where="test")

    @pytest.mark.parametrize(
        ("given", "size", "completion"),
        [
            ({}, 256, "parser"),
            ({"sam": "vit_h"}, 256, "parser"),
            ({"parser": "bisenet"}, 1024, "hull"),
            ({"generator": "e4s"}, 1024, "parser"),
            ({"generator": "precomputed", "references": "folder"}, 256, "parser"),
            ({"parser": "bisenet", "size": 512, "prefix": {"face_completion": "none"}}, 512, "none"),
        ],
    )
    def test_size_and_completion_follow_the_models_unless_given(
        self, given: dict[str, Any], size: int, completion: str
    ) -> None:
        config = parse(ChainConfig, given, where="test")
        assert (config.size, config.prefix.face_completion) == (size, completion)
        assert parse(ChainConfig, to_mapping(config), where="test") == config

    @pytest.mark.parametrize("size", [0, 128, 8192])
    def test_sizes_no_model_is_made_for(self, size: int) -> None:
        with pytest.raises(ValueError, match=rf"size must lie in \[256, 4096\] pixels, got {size}"):
            ChainConfig(size=size)


class TestFeatureEnhancement:
    def test_by_default_it_is_what_suits_the_sam_and_is_written_down(self) -> None:
        assert ChainConfig().prefix.feature_enhancement is False
        official = ChainConfig(sam="vit_h", sam_checkpoint=Path("sam.pth"))
        assert official.prefix.feature_enhancement is True
        assert to_mapping(ChainConfig())["prefix"]["feature_enhancement"] is False

    @pytest.mark.parametrize("chosen", [True, False])
    def test_what_was_asked_for_stays(self, chosen: bool) -> None:
        asked = PrefixConfig(feature_enhancement=chosen, seed=3)
        for config in (ChainConfig(prefix=asked), ChainConfig(sam="vit_b", sam_checkpoint=Path("b.pth"), prefix=asked)):
            assert config.prefix == replace(asked, face_completion="parser")
            assert config.prefix.enhances is chosen

    def test_a_prefix_by_itself_follows_the_paper(self) -> None:
        assert PrefixConfig().enhances


@pytest.mark.usefixtures("random_weights")
class TestLoading:
    def test_the_embedded_chain_runs(self) -> None:
        prefix = load_prefix(ChainConfig(alignment="none", device="cpu"))
        image, _ = textured_face()
        [result] = prefix.run([image], ["a"])
        assert result.image_tokens.shape == (128, 32, 32)
        for part in (prefix.parser, prefix.generator, prefix.sam):
            assert not part.training
            assert not any(parameter.requires_grad for parameter in part.parameters())

    def test_the_configuration_reaches_prefix_and_sam(self) -> None:
        config = ChainConfig(enhance_point_only=True, prefix=PrefixConfig(feature_enhancement=False))
        prefix = load_prefix(config)
        assert prefix.config is config.prefix
        assert prefix.sam.enhance_point_only

    def test_missing_weights_name_file_and_remedy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
        (tmp_path / "reweighter.safetensors").touch()  # one embedded model: the folder must hold all
        with pytest.raises(WeightsError, match=r"face_parser\.safetensors.*missing.*pretrain\.py parser"):
            load_prefix(ChainConfig())

    def test_faces_are_found_by_the_embedded_locator(self) -> None:
        aligner = load_aligner(ChainConfig(device="cpu"))
        assert aligner.mode == "detect"
        assert aligner.locator is not None
        assert not aligner.locator.training
        assert not any(parameter.requires_grad for parameter in aligner.locator.parameters())

    def test_missing_locator_weights_matter_where_faces_are_looked_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
        (tmp_path / "reweighter.safetensors").touch()
        with pytest.raises(WeightsError, match=r"face_locator\.safetensors.*missing.*pretrain\.py locator"):
            load_aligner(ChainConfig())
        assert load_aligner(ChainConfig(alignment="none")).locator is None

    def test_faces_of_a_landmark_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
        (tmp_path / "reweighter.safetensors").touch()  # a folder of embedded models without the locator
        path = tmp_path / "landmarks.csv"
        path.write_text(f"id,{','.join(FIVE_POINTS)}\na,100,100,160,100,110,170,150,170\n")
        aligner = load_aligner(ChainConfig(alignment="landmarks", landmarks=path))
        assert aligner.mode == "landmarks"
        assert aligner.landmarks is not None
        assert aligner.landmarks.ids == ["a"]
        with pytest.raises(ConfigError, match=r"gone\.csv: cannot be read"):
            load_aligner(ChainConfig(alignment="landmarks", landmarks=tmp_path / "gone.csv"))

    def test_a_device_that_is_not_there(self) -> None:
        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device")
        with pytest.raises(ValueError, match="sees no CUDA device"):
            load_prefix(ChainConfig(device="cuda"))


def write_face_models(folder: Path) -> dict[str, Path]:
    """BiSeNet with random weights, and E4S small enough for a test, as their authors publish them."""
    torch.manual_seed(0)
    torch.save(BiSeNet().state_dict(), folder / "79999_iter.pth")
    state = {f"module.{name}": value for name, value in E4S(SMALL_E4S).state_dict().items()}
    average = torch.randn(SMALL_E4S.layers, SMALL_E4S.code)
    torch.save({"state_dict": state, "latent_avg": average}, folder / "iteration_300000.pt")
    return {"parser_checkpoint": folder / "79999_iter.pth", "generator_checkpoint": folder / "iteration_300000.pt"}


SMALL_E4S = E4SConfig(
    size=64, regional_layers=7, code=16, encoder_width=64, encoder_units=(1, 1, 1, 1), mapping_layers=1
)


@pytest.mark.usefixtures("random_weights")
class TestFaceModels:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def load_small(path: Path) -> E4S:
            return load_e4s(path, SMALL_E4S)

        monkeypatch.setattr(chain, "load_e4s", load_small)

    def test_the_official_ones_run_at_their_own_size(self, tmp_path: Path) -> None:
        files = write_face_models(tmp_path)
        config = ChainConfig(parser="bisenet", generator="e4s", **files, alignment="none", device="cpu")
        prefix = load_prefix(config)
        assert prefix.size == 1024
        assert isinstance(prefix.parser, BiSeNet)
        assert isinstance(prefix.generator, E4S)
        image = np.random.default_rng(0).integers(0, 256, (1024, 800, 3), dtype=np.uint8)
        [result] = prefix.run([image], ["a"])
        assert result.parsing.shape == (1024, 800)
        assert result.reference.shape == (1024, 800, 3)
        assert result.reference.std() > 0
        assert result.image_tokens.shape == (128, 32, 32)

    def test_they_are_found_in_the_weights_folder(
        self, random_weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for file in random_weights.iterdir():
            (tmp_path / file.name).symlink_to(file)
        named = write_face_models(tmp_path)
        monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
        config = ChainConfig(parser="bisenet", generator="e4s", device="cpu")
        assert isinstance(load_prefix(config).generator, E4S)
        assert chain_identity(config) == chain_identity(replace(config, **named))

    def test_a_missing_one_is_named(self) -> None:
        with pytest.raises(WeightsError, match=r"79999_iter\.pth"):
            load_prefix(ChainConfig(parser="bisenet"))
        with pytest.raises(WeightsError, match=r"iteration_300000\.pt"):
            load_prefix(ChainConfig(generator="e4s"))

    def test_references_from_a_folder(self, tmp_path: Path) -> None:
        image, _ = textured_face()
        reference = np.ascontiguousarray(image[::-1])
        write_png(tmp_path / "a.png", reference)
        prefix = load_prefix(ChainConfig(generator="precomputed", references=tmp_path, alignment="none", device="cpu"))
        [result] = prefix.run([image], ["a.jpg"])
        np.testing.assert_array_equal(result.reference, reference)
        with pytest.raises(ImageError, match="b: no reference in"):
            prefix.run([image], ["b"])

    def test_without_the_generator_its_weights_are_not_needed(
        self, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for file in random_weights.iterdir():
            if file.name != "reference_generator.safetensors":
                (tmp_path / file.name).symlink_to(file)
        monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
        config = ChainConfig(generator="precomputed", references=tmp_path)
        load_prefix(config)
        chain_identity(config)


class TestOfficialCheckpoint:
    def test_is_loaded_frozen(self, official: Path) -> None:
        sam = load_sam(ChainConfig(sam="vit_b", sam_checkpoint=official, enhance_point_only=True, device="cpu"))
        expected = tiny_stock_sam(seed=2).state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in sam.sam.state_dict().items())
        assert not any(parameter.requires_grad for parameter in sam.parameters())
        assert not sam.training
        assert sam.enhance_point_only

    def test_missing(self, official: Path) -> None:
        with pytest.raises(WeightsError, match="no such file; the checkpoint vit_b"):
            load_sam(ChainConfig(sam="vit_b", sam_checkpoint=official.with_name("gone.pth")))

    def test_of_another_size(self, official: Path) -> None:
        torch.save({"image_encoder.pos_embed": torch.zeros(1)}, official)
        with pytest.raises(WeightsError, match="does not fit Sam"):
            load_sam(ChainConfig(sam="vit_b", sam_checkpoint=official))

    def test_runs_no_code(self, official: Path) -> None:
        torch.save({"pixel_mean": Trap()}, official)
        with pytest.raises(Exception, match=r"[Ww]eights.only"):
            load_sam(ChainConfig(sam="vit_b", sam_checkpoint=official))


class Trap:
    """Unpickling it would raise."""

    def __reduce__(self) -> Any:
        return _sprung, ()


def _sprung() -> None:
    raise AssertionError("code of a checkpoint was run")


class TestIdentity:
    def test_every_stage_of_the_prefix_counts(self, random_weights: Path) -> None:
        base = ChainConfig()
        others = [
            replace(base, alignment="none"),
            replace(base, enhance_point_only=True),
            replace(base, prefix=PrefixConfig(face_completion="hull")),
            replace(base, prefix=PrefixConfig(feature_enhancement=True)),
            replace(base, prefix=PrefixConfig(selector=SelectorConfig(kind="otsu"))),
            replace(base, prefix=PrefixConfig(seed=1)),
            replace(base, faces="all"),
            replace(base, size=512),
            replace(base, sam_precision="bf16"),
        ]
        identities = {chain_identity(config) for config in (base, *others)}
        assert len(identities) == 1 + len(others)
        assert chain_identity(ChainConfig()) == chain_identity(base)

    def test_neither_device_nor_head_counts(
        self, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = chain_identity(ChainConfig())
        assert chain_identity(ChainConfig(device="cuda", sam_compile=True)) == before
        for file in random_weights.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        write_reweighter(small_reweighter(128, seed=5), tmp_path / "reweighter.safetensors")
        monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
        assert chain_identity(ChainConfig()) == before

    def test_of_references_names_and_sizes_count_and_not_the_place(self, random_weights: Path, tmp_path: Path) -> None:
        def identity(folder: Path) -> str:
            return chain_identity(ChainConfig(generator="precomputed", references=folder))

        here, there = tmp_path / "here", tmp_path / "there"
        for folder in (here, there):
            write_png(folder / "a.png", np.zeros((4, 4, 3), np.uint8))
        assert identity(here) == identity(there)
        write_png(there / "b.png", np.zeros((4, 4, 3), np.uint8))
        assert identity(here) != identity(there)

    def test_of_landmarks_the_content_counts_and_not_the_place(self, random_weights: Path, tmp_path: Path) -> None:
        def identity(name: str, content: str) -> str:
            (tmp_path / name).write_text(content)
            return chain_identity(ChainConfig(alignment="landmarks", landmarks=tmp_path / name))

        assert identity("here.csv", "a") == identity("there.csv", "a")
        assert identity("here.csv", "a") != identity("there.csv", "bb")
        with pytest.raises(FileNotFoundError, match=r"gone\.csv: the landmark file is gone"):
            chain_identity(ChainConfig(alignment="landmarks", landmarks=tmp_path / "gone.csv"))

    def test_the_locator_counts_where_it_is_used(
        self, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        detect, none = ChainConfig(), ChainConfig(alignment="none")
        before = chain_identity(detect), chain_identity(none)
        for file in random_weights.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        torch.manual_seed(7)
        save_weights(FaceLocator(), tmp_path / "face_locator.safetensors", {"model": "locator"})
        monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
        assert chain_identity(detect) != before[0]
        assert chain_identity(none) == before[1]
        (tmp_path / "face_locator.safetensors").unlink()
        assert chain_identity(none) == before[1]

    def test_of_a_checkpoint_the_content_counts_and_not_the_place(
        self, random_weights: Path, official: Path, tmp_path: Path
    ) -> None:
        def identity(path: Path) -> str:
            return chain_identity(ChainConfig(sam="vit_b", sam_checkpoint=path))

        moved, other = tmp_path / "moved.pth", tmp_path / "other.pth"
        moved.write_bytes(official.read_bytes())
        other.write_bytes(official.read_bytes() + b" ")
        assert identity(official) == identity(moved)
        assert identity(official) != identity(other)
        assert identity(official) != chain_identity(ChainConfig())

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from segment_anything.modeling import Sam

from s3pot import chain
from s3pot.chain import (
    ChainConfig,
    chain_identity,
    load_aligner,
    load_prefix,
    load_reweighter,
    load_sam,
    read_reweighter_config,
)
from s3pot.config import ConfigError, parse, to_mapping
from s3pot.embedded import save_weights
from s3pot.head.reweighter import PromptReweighter, ReweighterConfig
from s3pot.locator import FaceLocator
from s3pot.matching.selector import SelectorConfig
from s3pot.prefix import PrefixConfig
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

    def test_official_sams_need_a_checkpoint(self) -> None:
        with pytest.raises(ValueError, match="sam_checkpoint must name the official checkpoint of vit_l"):
            ChainConfig(sam="vit_l")

    def test_the_nano_sam_takes_none(self) -> None:
        with pytest.raises(ConfigError, match="sam_checkpoint is for vit_b, vit_l and vit_h"):
            parse(ChainConfig, {"sam_checkpoint": "sam.pth"}, where="test")


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
            assert config.prefix == asked
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
        with pytest.raises(WeightsError, match=r"face_locator\.safetensors.*missing.*pretrain\.py locator"):
            load_aligner(ChainConfig())
        assert load_aligner(ChainConfig(alignment="none")).locator is None

    def test_a_device_that_is_not_there(self) -> None:
        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device")
        with pytest.raises(ValueError, match="sees no CUDA device"):
            load_prefix(ChainConfig(device="cuda"))


class TestOfficialCheckpoint:
    def test_is_loaded_frozen(self, official: Path) -> None:
        sam = load_sam(ChainConfig(sam="vit_b", sam_checkpoint=official, enhance_point_only=True, device="cpu"))
        expected = tiny_stock_sam(seed=2).state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in sam.sam.state_dict().items())
        assert not any(parameter.requires_grad for parameter in sam.parameters())
        assert not sam.training
        assert sam.enhance_point_only

    def test_missing(self, official: Path) -> None:
        with pytest.raises(WeightsError, match="no such checkpoint"):
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


class TestReweighter:
    def test_form_and_weights_come_back(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        config = ReweighterConfig(embed_dim=24, variant="released", num_heads=3, num_layers=2)
        path = write_reweighter(PromptReweighter(config), tmp_path / "head.safetensors")
        assert read_reweighter_config(path) == config
        loaded = load_reweighter(path)
        torch.manual_seed(0)
        for name, tensor in PromptReweighter(config).state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor.half().float()), name
        assert not loaded.training

    def test_another_model_is_refused(self, random_weights: Path) -> None:
        with pytest.raises(WeightsError, match=r"face_parser\.safetensors: holds no reweighter"):
            load_reweighter(random_weights / "face_parser.safetensors")

    def test_missing_or_unreadable(self, tmp_path: Path) -> None:
        (tmp_path / "text.safetensors").write_text("no weights")
        for name in ("gone.safetensors", "text.safetensors"):
            with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
                load_reweighter(tmp_path / name)


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
        ]
        identities = {chain_identity(config) for config in (base, *others)}
        assert len(identities) == 1 + len(others)
        assert chain_identity(ChainConfig()) == chain_identity(base)

    def test_neither_device_nor_head_counts(
        self, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = chain_identity(ChainConfig())
        assert chain_identity(ChainConfig(device="cuda")) == before
        for file in random_weights.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        write_reweighter(small_reweighter(128, seed=5), tmp_path / "reweighter.safetensors")
        monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
        assert chain_identity(ChainConfig()) == before

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

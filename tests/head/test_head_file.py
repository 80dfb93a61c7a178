"""Heads and the frozen prefixes they are for."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from s3pot.chain import ChainConfig
from s3pot.checkpoints.reading import WeightsError
from s3pot.embedded import read_metadata, save_weights, weights_path
from s3pot.head.head_file import (
    ABSTAIN_BELOW,
    load_reweighter,
    read_abstention_threshold,
    read_prefix,
    read_reweighter_config,
    save_head,
)
from s3pot.head.prefix_identity import prefix_description, prefix_identity
from s3pot.head.reweighter import PromptReweighter, ReweighterConfig
from s3pot.matching.selector import SelectorConfig
from s3pot.prefix import PrefixConfig
from s3pot.sam.sizes import build_sam
from s3pot.segmenter import OcclusionSegmenter
from tests.stand_ins import small_reweighter, write_reweighter

OTHER = ChainConfig(prefix=PrefixConfig(selector=SelectorConfig(kind="otsu")))


@pytest.fixture
def head(random_weights: Path, tmp_path: Path) -> Path:
    """A head for the embedded chain with random weights."""
    path = tmp_path / "head.safetensors"
    save_head(small_reweighter(128, trained_looking=True), path, ChainConfig(), {"store": "abc"})
    return path


class TestForm:
    def test_form_and_weights_come_back(self, random_weights: Path, tmp_path: Path) -> None:
        torch.manual_seed(0)
        config = ReweighterConfig(embed_dim=24, variant="released", num_heads=3, num_layers=2)
        written = PromptReweighter(config)
        path = tmp_path / "head.safetensors"
        save_head(written, path, ChainConfig(), {"store": "abc"})
        assert read_reweighter_config(path) == config
        loaded = load_reweighter(path)
        for name, tensor in written.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor), name
        assert not loaded.training
        assert read_metadata(path)["store"] == "abc"

    def test_another_model_is_refused(self, random_weights: Path) -> None:
        with pytest.raises(WeightsError, match=r"face_parser\.safetensors: holds no reweighter"):
            load_reweighter(random_weights / "face_parser.safetensors")

    def test_missing_or_unreadable(self, tmp_path: Path) -> None:
        (tmp_path / "text.safetensors").write_text("no weights")
        for name in ("gone.safetensors", "text.safetensors"):
            with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
                load_reweighter(tmp_path / name)


class TestPrefix:
    @pytest.mark.parametrize(
        "chain",
        [
            ChainConfig(),
            ChainConfig(alignment="none"),
            ChainConfig(faces="all", size=512, sam_precision="bf16"),
            ChainConfig(prefix=PrefixConfig(seed=7)),
        ],
    )
    def test_a_head_fits_its_prefix_however_faces_are_cropped(self, head: Path, chain: ChainConfig) -> None:
        assert load_reweighter(head, chain=chain).config.embed_dim == 128

    def test_another_prefix_is_refused_with_both_identities_and_the_way_out(self, head: Path) -> None:
        with pytest.raises(WeightsError) as raised:
            load_reweighter(head, chain=OTHER)
        message = str(raised.value)
        for chain in (ChainConfig(), OTHER):
            assert prefix_identity(prefix_description(chain)) in message
        assert "selector.kind greedy there and otsu here" in message
        assert message.count(" there and ") == 1
        assert "s3pot train store=" in message
        assert str(head) in message

    def test_other_weights_are_another_prefix(
        self, head: Path, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for file in random_weights.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
        load_reweighter(head, chain=ChainConfig())
        save_weights(build_sam("nano", seed=1), tmp_path / "nano_sam.safetensors", {"model": "nano_sam"})
        with pytest.raises(WeightsError, match=r"weights\.sam \w+ there and \w+ here\)"):
            load_reweighter(head, chain=ChainConfig())

    def test_to_look_at_a_head_no_chain_is_needed(self, head: Path) -> None:
        assert read_prefix(head) == prefix_description(ChainConfig())
        assert load_reweighter(head).config.embed_dim == 128

    def test_a_head_that_says_nothing_passes_with_a_warning(
        self, random_weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = write_reweighter(small_reweighter(128), tmp_path / "old.safetensors")
        with caplog.at_level(logging.WARNING):
            load_reweighter(path, chain=OTHER)
        assert "does not say which frozen prefix it was trained for" in caplog.text

    def test_the_segmenter_refuses_it_too(self, head: Path) -> None:
        OcclusionSegmenter.load(ChainConfig(alignment="none"), head=head)
        with pytest.raises(WeightsError, match="trained for another frozen prefix"):
            OcclusionSegmenter.load(replace(OTHER, alignment="none"), head=head)

    @pytest.mark.parametrize("alignment", ["none", "detect"])
    def test_the_shipped_head_is_for_the_shipped_prefix(self, alignment: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """When this fails, the prefix is no longer the one the head was trained on: see s3pot/weights/reweighter.md."""
        monkeypatch.delenv("S3POT_WEIGHTS", raising=False)
        shipped = weights_path("reweighter")
        assert read_prefix(shipped) is not None
        load_reweighter(shipped, chain=ChainConfig(alignment=alignment))


class TestAbstention:
    def test_the_threshold_comes_back(self, head: Path, tmp_path: Path) -> None:
        assert read_abstention_threshold(head) == -float("inf")
        other = tmp_path / "other.safetensors"
        save_head(small_reweighter(128), other, ChainConfig(), {ABSTAIN_BELOW: "0.0625"})
        assert read_abstention_threshold(other) == 0.0625

    def test_a_threshold_that_is_no_number(self, head: Path) -> None:
        save_head(small_reweighter(128), head, ChainConfig(), {ABSTAIN_BELOW: "low"})
        with pytest.raises(WeightsError, match="abstain_below is no number: 'low'"):
            read_abstention_threshold(head)

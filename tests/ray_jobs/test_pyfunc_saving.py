"""What a logged segmenter consists of."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import s3pot
from ray_jobs import pyfunc_model, pyfunc_saving
from ray_jobs.pyfunc_saving import HEAD_FILE, collect_segmenter, requirements
from s3pot.chain import ChainConfig
from s3pot.checkpoints.reading import WeightsError
from s3pot.embedded import file_hash
from s3pot.head.head_file import save_head
from s3pot.parsing.bisenet import BiSeNet
from tests.stand_ins import small_reweighter

pytestmark = pytest.mark.usefixtures("random_weights")


def _head(folder: Path, chain: ChainConfig) -> Path:
    save_head(small_reweighter(128), folder / "head.safetensors", chain, {})
    return folder / "head.safetensors"


def test_everything_is_gathered_and_described(tmp_path: Path, random_weights: Path) -> None:
    described = collect_segmenter(ChainConfig(), _head(tmp_path, ChainConfig()), tmp_path / "out")
    assert described == json.loads((tmp_path / "out" / "segmenter.json").read_text())
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {*described["files"], "segmenter.json", "WEIGHTS_LICENSE"}
    assert set(described["files"]) == {
        "face_locator.safetensors",
        "face_parser.safetensors",
        "reference_generator.safetensors",
        "nano_sam.safetensors",
        "reweighter.safetensors",
    }
    assert described["files"][HEAD_FILE] == file_hash(tmp_path / "head.safetensors"), "not the head that was named"
    assert (described["s3pot"], described["chain"]["device"]) == (s3pot.__version__, "auto")


def test_checkpoints_are_found_in_the_folder_again(tmp_path: Path) -> None:
    torch.save(BiSeNet(19).state_dict(), tmp_path / "79999_iter.pth")
    chain = ChainConfig(parser="bisenet", parser_checkpoint=tmp_path / "79999_iter.pth", alignment="none")
    described = collect_segmenter(chain, _head(tmp_path, chain), tmp_path / "out")
    assert str(tmp_path) not in json.dumps(described)
    assert "face_locator.safetensors" not in described["files"]
    found = pyfunc_model.chain_of(described, tmp_path / "out")
    assert found.parser_checkpoint == tmp_path / "out" / "79999_iter.pth"
    assert found.parser_checkpoint.read_bytes() == (tmp_path / "79999_iter.pth").read_bytes()
    assert (found.parser, found.size, found.sam_checkpoint) == ("bisenet", 1024, None)


def test_a_head_for_another_chain_is_not_gathered(tmp_path: Path) -> None:
    head = _head(tmp_path, ChainConfig(enhance_point_only=True))
    with pytest.raises(WeightsError, match="enhance_point_only True there and False here"):
        collect_segmenter(ChainConfig(), head, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_versions_are_pinned(tmp_path: Path) -> None:
    pins = dict(requirement.split("==") for requirement in requirements())
    assert pins["s3pot"] == s3pot.__version__
    assert version("torch").startswith(pins["torch"])
    assert "+" not in "".join(pins.values())


def test_model_and_writer_agree_on_names() -> None:
    # The model's file stands alone when it is loaded; it cannot import the writer.
    assert (pyfunc_model.CONTENT, pyfunc_model.DESCRIPTION) == (pyfunc_saving.CONTENT, pyfunc_saving.DESCRIPTION)

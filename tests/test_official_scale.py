"""The chain at official scale from end to end on the CPU: SAM vit_b, BiSeNet and E4S at 1024 px, weights at random.

No checkpoint can be had where this is tested. What the networks compute is held against the released ones elsewhere
(tests/parsing/test_bisenet.py, tests/reference/e4s, tests/sam); here files are read, a store is written, a mask is
decoded, and memory is measured, in a process of its own.
"""

import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage.data import astronaut

from s3pot.chain import ChainConfig, load_aligner, load_prefix
from s3pot.checkpoints.catalogue import describe_checkpoint
from s3pot.config import load_yaml, parse
from s3pot.head.head_file import load_reweighter
from s3pot.head.reweighter import PromptReweighter, ReweighterConfig
from s3pot.images import write_png
from s3pot.parsing.bisenet import BiSeNet
from s3pot.parsing.classes import face_mask
from s3pot.prediction import predict_occlusion
from s3pot.reference.e4s.model import E4S
from s3pot.sam.sizes import build_sam
from s3pot.store.encoding import encode_images
from s3pot.store.prompt_store import PromptStore, stored_parsing, stored_reference
from tests.stand_ins import write_reweighter

MOST_MEMORY = 4e9
"""Bytes of one process that encodes one picture after the other, as experiments/official.yaml says."""


def write_checkpoints(folder: Path) -> None:
    """Write the three files as their authors publish them; the seed is one whose parser sees parts of a face."""
    torch.manual_seed(3)
    parser = BiSeNet()
    generator = E4S()
    torch.save(parser.state_dict(), folder / describe_checkpoint("bisenet").file)
    state = {f"module.{name}": value for name, value in generator.state_dict().items()}
    average = 0.5 * torch.randn(generator.config.layers, generator.config.code)
    torch.save({"state_dict": state, "latent_avg": average}, folder / describe_checkpoint("e4s").file)
    torch.save(build_sam("vit_b").state_dict(), folder / describe_checkpoint("vit_b").file)


def write_pictures(folder: Path) -> list[dict[str, str]]:
    """A square face of another resolution, and one that is not square."""
    face = astronaut()[30:186, 145:301]
    write_png(folder / "square.png", cv2.resize(face, (700, 700)))
    write_png(folder / "wide.png", cv2.resize(face, (1024, 1024))[:768])
    return [{"id": path.name, "path": str(path)} for path in sorted(folder.glob("*.png"))]


def encode_alone(config: ChainConfig, items: list[dict[str, str]], root: Path) -> float:
    """Encode one picture after the other; returns the most memory this process ever held, in bytes."""
    torch.set_num_threads(2)
    store = PromptStore.create(root, config)
    prefix, aligner = load_prefix(config), load_aligner(config)
    for item in items:
        store.append(encode_images(prefix, [item], root, aligner))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


@pytest.mark.slow
def test_from_checkpoints_to_a_mask(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoints(tmp_path)
    monkeypatch.setenv("S3POT_WEIGHTS", str(tmp_path))
    experiment = load_yaml(repository / "experiments" / "official.yaml")["chain"]
    config = parse(ChainConfig, {**experiment, "sam": "vit_b", "alignment": "none", "device": "cpu"}, where="test")
    (tmp_path / "photos").mkdir()
    items = write_pictures(tmp_path / "photos")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        peak = process.submit(encode_alone, config, items, tmp_path / "store").result()
    assert peak < MOST_MEMORY

    store = PromptStore(tmp_path / "store")
    rows = {row.id: row for row in store.rows().itertuples()}
    assert {row.status for row in rows.values()} <= {"ok", "no_occlusion_prompts", "no_face_prompts"}
    for name, height in (("square.png", 1024), ("wide.png", 768)):
        row = rows[name]
        assert (stored_parsing(row).shape, stored_parsing(row).dtype) == ((height, 1024), np.uint8)
        assert stored_reference(row).shape == (height, 1024, 3)
        assert stored_reference(row).std() > 5
        prompts = [*row.occlusion_prompts, *row.face_prompts]
        assert len(prompts) == len(set(prompts)) > 0
        assert max(prompts) < 64 * 64 * height // 1024
    records = store.records()
    assert records[0].image_tokens.shape == (256, 64, 64)
    assert records[0].image_tokens.dtype == torch.float16
    assert store.description["chain"]["prefix"]["face_completion"] == "hull"

    head = write_reweighter(PromptReweighter(ReweighterConfig(embed_dim=256)), tmp_path / "head.safetensors")
    prompted = [record for record in (records[0], records[1]) if record.occlusion_prompts.numel()]
    faces = [face_mask(stored_parsing(rows[record.id])) for record in prompted]
    predictions = predict_occlusion(store.load_sam("cpu"), load_reweighter(head, chain=store.chain), prompted, faces)
    assert [prediction.occlusion.shape for prediction in predictions] == [face.shape for face in faces] != []
    assert all(np.isfinite(prediction.probability).all() for prediction in predictions)

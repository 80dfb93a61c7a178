"""Hand-made composites and a SAM whose answer is known."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from s3pot.evaluation import ImageTruth
from s3pot.ladder import LadderImage
from s3pot.parsing.classes import CLASSES
from s3pot.sam.promptable import PromptableSam
from tests.stand_ins import tiny_stock_sam

SIDE = 64


class KnownSam(PromptableSam):
    """Answers every prompt with the red of the picture, at the decoder's 32 x 32; keeps the points it was given."""

    def __init__(self) -> None:
        super().__init__(tiny_stock_sam())
        self.asked: list[tuple[Tensor, Tensor]] = []

    def encode(self, images):  # type: ignore[no-untyped-def]
        tokens, valid = super().encode(images)
        tokens = torch.zeros_like(tokens)
        for row, image in enumerate(images):
            red = torch.from_numpy(image[..., 0] > 127).float()[None, None]
            small = torch.nn.functional.interpolate(red, (32, 32), mode="area")
            tokens[row].flatten()[: 32 * 32] = small.flatten()
        return tokens, valid

    def embed_points(self, points_xy, polarity):  # type: ignore[no-untyped-def]
        self.asked.append((points_xy, polarity))
        return super().embed_points(points_xy, polarity)

    def decode(self, image_tokens, prompt_embeddings, prompt_valid):  # type: ignore[no-untyped-def]
        return image_tokens.flatten(1)[:, : 32 * 32].reshape(-1, 32, 32) - 0.5


@pytest.fixture
def known_sam() -> KnownSam:
    return KnownSam()


@pytest.fixture
def make_composite() -> Callable[..., LadderImage]:
    """A 64 px face: skin in [8:56, 8:56] with a nose in [24:48, 24:44]; a red occluder in [8:24, 8:40]."""

    def make(name: str = "a", occluder: bool = True, occluder_path: Path | None = None) -> LadderImage:
        parsing = np.zeros((SIDE, SIDE), dtype=np.uint8)
        parsing[8:56, 8:56] = CLASSES.index("skin")
        parsing[24:48, 24:44] = CLASSES.index("nose")
        clean = np.full((SIDE, SIDE, 3), 60, dtype=np.uint8)
        image, occlusion = clean.copy(), np.zeros((SIDE, SIDE), dtype=bool)
        if occluder:
            occlusion[8:24, 8:40] = True
            image[occlusion] = (255, 0, 0)
        row = {"id": name, "kind": "objects" if occluder else "clean", "face_id": f"face-{name}", "cutout_id": "c"}
        if occluder_path is not None:
            row["occluder_path"] = str(occluder_path)
        truth = ImageTruth(occlusion=occlusion, region=parsing > 0)
        return LadderImage(row=SimpleNamespace(**row), image=image, clean=clean, parsing=parsing, truth=truth)

    return make

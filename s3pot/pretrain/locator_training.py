"""Training of the face locator: a scene in, score, centre, side and roll of every crop out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from s3pot.locator import LOCATOR_SIZE, STRIDE, FaceLocator, LocatedFace
from s3pot.parsing.network import FaceParser
from s3pot.pretrain.faces import pictures
from s3pot.pretrain.locator_scenes import SceneMaterial, draw_scene
from s3pot.pretrain.loop import Batch, Phase, PretrainConfig

LOCATOR_SCHEDULE = PretrainConfig(
    phases=(Phase(size=96, steps=700, batch=16), Phase(size=LOCATOR_SIZE, steps=150, batch=16)),
    learning_rate=1.5e-3,
    # An average would still hold the weights of the smaller pictures, which take crops for larger than they are.
    average=0.0,
    checkpoint_minutes=2.0,
)
CENTER_WEIGHT, SIDE_WEIGHT, TURN_WEIGHT = 8.0, 2.0, 1.0
# Cells where the target score is higher than this also say where and how large the crop is.
_NEAR = 0.5


def start_from_parser(locator: FaceLocator, parser: FaceParser) -> FaceLocator:
    """Copy the first three stages, which know parts of faces already, from a trained face parser."""
    for stage in ("stage2", "stage4", "stage8"):
        locator.get_submodule(stage).load_state_dict(parser.get_submodule(stage).state_dict())
    return locator


@dataclass(frozen=True)
class LocatorBatches:
    """Makes batches of scenes and target maps."""

    material: SceneMaterial
    seed: int = 0

    def __call__(self, step: int, phase: Phase) -> Batch:
        """Return image (B, 3, S, S) float32 in [0, 1] and the maps of `target_maps`, stacked."""
        scenes = [
            draw_scene(
                self.material, size=phase.size, seed=self.seed, stage="pretrain/locator", index=step * 1024 + place
            )
            for place in range(phase.batch)
        ]
        targets = [target_maps(scene.faces, phase.size) for scene in scenes]
        stacked = {name: torch.stack([target[name] for target in targets]) for name in targets[0]}
        return {"image": pictures([scene.image for scene in scenes])} | stacked


def target_maps(faces: Sequence[LocatedFace], size: int) -> dict[str, Tensor]:
    """Describe the faces of one scene per cell, n = size / 8 cells a side.

    Returns:
        heat (n, n): 1 at the cell of a centre, falling off around it; offset (2, n, n), log_side (n, n) and
        turn (2, n, n) as in `FaceMaps`, of the face whose heat is highest; near (n, n): where they count.
    """
    cells = size // STRIDE
    heat, log_side = np.zeros((cells, cells), np.float32), np.zeros((cells, cells), np.float32)
    offset, turn = np.zeros((2, cells, cells), np.float32), np.zeros((2, cells, cells), np.float32)
    rows, cols = np.mgrid[:cells, :cells]
    for face in faces:
        x, y = (face.x + 0.5) / STRIDE - 0.5, (face.y + 0.5) / STRIDE - 0.5
        col, row = (min(max(round(place), 0), cells - 1) for place in (x, y))
        sigma = max(0.8, 0.06 * face.side / STRIDE)
        own = np.exp(-((cols - col) ** 2 + (rows - row) ** 2) / (2 * sigma**2)).astype(np.float32)
        mine = own > heat
        heat = np.maximum(heat, own)
        offset = np.where(mine, np.stack([x - cols, y - rows]), offset)
        log_side = np.where(mine, math.log(face.side / size), log_side)
        turn = np.where(mine, np.array([math.sin(face.roll), math.cos(face.roll)])[:, None, None], turn)
    maps = {"heat": heat, "offset": offset, "log_side": log_side, "turn": turn, "near": heat * (heat > _NEAR)}
    return {name: torch.from_numpy(np.asarray(values, dtype=np.float32)) for name, values in maps.items()}


def locator_loss(locator: FaceLocator, batch: Batch) -> dict[str, Tensor]:
    """Focal loss of the score (CornerNet, as CenterNet uses it), absolute errors of centre, side and turn.

    The error of a centre is a share of the crop's side, that of a side its logarithm: a face is worth the same at any
    size.
    """
    maps = locator(batch["image"].contiguous(memory_format=torch.channels_last))
    near = batch["near"]
    total = near.sum().clamp(min=1.0)
    side_in_cells = batch["log_side"].exp() * near.shape[-1]
    off = (maps.offset.float() - batch["offset"]).abs().sum(dim=1) / side_in_cells
    center = (near * off).sum() / total
    side = (near * (maps.log_side.float() - batch["log_side"]).abs()).sum() / total
    turn = (near * (maps.turn.float() - batch["turn"]).abs().sum(dim=1)).sum() / total
    score = focal_loss(maps.score.float(), batch["heat"])
    loss = score + CENTER_WEIGHT * center + SIDE_WEIGHT * side + TURN_WEIGHT * turn
    terms = {"score": score, "center": center, "side": side, "turn": turn}
    return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Return the focal loss per face: near a centre (heat below 1), a high score is hardly a mistake."""
    probability = logits.sigmoid()
    at_center = heat >= 1.0
    hit = (1 - probability) ** 2 * functional.logsigmoid(logits)
    miss = (1 - heat) ** 4 * probability**2 * functional.logsigmoid(-logits)
    return -torch.where(at_center, hit, miss).sum() / at_center.sum().clamp(min=1)

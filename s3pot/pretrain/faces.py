"""Labelled faces in memory, ready to be composited on.

A base is a face with nothing on it: faces whose labels name glasses or a hat are left out, and so is whatever the
caller excludes by id (real occlusions kept aside, faces somebody looked at and rejected).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from s3pot.data.folds import Fold, fold_of_face
from s3pot.images import read_image, read_labels
from s3pot.parsing.classes import CELEBAMASK_GLASSES, CELEBAMASK_HAT, celebamask_to_12
from s3pot.parsing.network import PARSER_SIZE, FaceParser, parse_faces

# More than this share of the picture labelled as glasses or hat means that the face wears one.
_WORN_SHARE = 0.001


@dataclass(frozen=True, kw_only=True)
class FaceBank:
    """Faces of one fold.

    Attributes:
        ids: file stems.
        images: (N, S, S, 3) uint8 RGB.
        parsings: (N, S, S) uint8, 12 classes.
    """

    ids: tuple[str, ...]
    images: UInt8[np.ndarray, "n s s 3"]
    parsings: UInt8[np.ndarray, "n s s"]

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.ids)


def list_faces(root: Path, fold: Fold | None, exclude: Collection[str] = ()) -> list[str]:
    """List the ids of usable bases below `root/{images,labels}`.

    Args:
        root: a CelebAMask-HQ split with merged label maps.
        fold: keep only this fold; None keeps all (`val`).
        exclude: ids to leave out.

    Raises:
        FileNotFoundError: if nothing remains.
    """
    stems = sorted(path.stem for path in (root / "images").glob("*.jpg"))
    wanted = [stem for stem in stems if stem not in exclude and (fold is None or fold_of_face(stem) == fold)]
    usable = [stem for stem in wanted if not _wears_something(root / "labels" / f"{stem}.png")]
    if not usable:
        raise FileNotFoundError(f"no usable faces of fold {fold} in {root}/images/*.jpg with {root}/labels/*.png")
    return usable


def load_faces(root: Path, ids: list[str], size: int = 256) -> FaceBank:
    """Read faces and labels, shrunk to `size` by area averaging (labels: nearest)."""
    images = np.empty((len(ids), size, size, 3), dtype=np.uint8)
    parsings = np.empty((len(ids), size, size), dtype=np.uint8)
    for row, stem in enumerate(ids):
        image = read_image(root / "images" / f"{stem}.jpg")
        images[row] = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
        labels = celebamask_to_12(read_labels(root / "labels" / f"{stem}.png"))
        parsings[row] = cv2.resize(labels, (size, size), interpolation=cv2.INTER_NEAREST_EXACT)
    return FaceBank(ids=tuple(ids), images=images, parsings=parsings)


def load_unlabelled_faces(root: Path, parser: FaceParser, exclude: Collection[str] = ()) -> FaceBank:
    """Read aligned faces that nobody labelled, below `root/*.jpg`, with the parser's labels.

    Good enough for what a face is drawn from, and for more faces to learn beside labelled ones; never to measure by.

    Raises:
        FileNotFoundError: if nothing remains.
    """
    paths = [path for path in sorted(root.glob("*.jpg")) if path.stem not in exclude]
    if not paths:
        raise FileNotFoundError(f"no usable faces in {root}/*.jpg")
    images = np.stack(
        [cv2.resize(read_image(path), (PARSER_SIZE, PARSER_SIZE), interpolation=cv2.INTER_AREA) for path in paths]
    )
    batches = [pictures(list(images[row : row + 16])) for row in range(0, len(images), 16)]
    parsings = [parse_faces(parser, batch).numpy() for batch in batches]
    return FaceBank(ids=tuple(path.stem for path in paths), images=images, parsings=np.concatenate(parsings))


def join_faces(first: FaceBank, second: FaceBank) -> FaceBank:
    """Put two banks of pictures of one size together."""
    return FaceBank(
        ids=first.ids + second.ids,
        images=np.concatenate([first.images, second.images]),
        parsings=np.concatenate([first.parsings, second.parsings]),
    )


def pictures(images: Sequence[np.ndarray]) -> Float[Tensor, "b 3 h w"]:
    """Stack (H, W, 3) uint8 pictures into (B, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255.0


def _wears_something(path: Path) -> bool:
    return bool(np.isin(read_labels(path), (CELEBAMASK_GLASSES, CELEBAMASK_HAT)).mean() > _WORN_SHARE)

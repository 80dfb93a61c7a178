"""Faces of a manifest as bases of composites: aligned square crops with a parsing, and nothing on them.

Labelled faces bring their parsing along. Others are parsed by the embedded parser, which was trained to parse through
occluders and makes mistakes: good enough to lay an occluder on a face, and said in the manifest, for the region R of
such composites is only as good.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pandas as pd
from jaxtyping import UInt8

from s3pot.data.folds import Fold, fold_of_face
from s3pot.images import ImageError, read_image, read_labels
from s3pot.metrics.face_region import face_region
from s3pot.parsing.classes import CELEBAMASK_GLASSES, CELEBAMASK_HAT, CLASSES, celebamask_to_12
from s3pot.parsing.network import FaceParser, parse_faces
from s3pot.pretrain.faces import FaceBank, pictures
from s3pot.seeding import derive_seed

ParsingSource = Literal["labels", "embedded"]
# More than this share of the picture labelled as glasses or hat means that the face wears one.
_WORN_SHARE = 0.001
_GLASSES = CLASSES.index("eye_glass")


def load_clean_faces(
    manifest: pd.DataFrame,
    parser: FaceParser | None,
    *,
    most: int,
    size: int,
    fold: Fold | None = None,
    exclude: Collection[str] = (),
    seed: int = 0,
) -> tuple[FaceBank, list[str]]:
    """Read usable faces, in an order drawn by hash, until there are enough.

    Args:
        manifest: rows to choose from, with `id`, `path` and, for labels, `labels_path`.
        parser: parses the faces; None takes their labels.
        most: how many faces there is use for.
        size: side in pixels they are brought to.
        fold: only faces of this fold.
        exclude: ids to leave out.
        seed: of the order.

    Returns:
        The faces, and a sentence for each that is no base: glasses or a hat worn, not square, unreadable, no face.

    Raises:
        ValueError: if a face has no labels and there is no parser, or if no face is usable.
    """
    wanted = [name not in exclude and (fold is None or fold_of_face(name) == fold) for name in manifest["id"]]
    rows = manifest[np.array(wanted, dtype=bool)]
    if parser is None and rows["labels_path"].isna().any():
        name = rows["id"][rows["labels_path"].isna()].iloc[0]
        raise ValueError(f"the face {name!r} has no labels (labels_path): parsing=embedded parses it instead")
    ordered = sorted(rows.itertuples(index=False), key=lambda row: derive_seed(seed, "clean_faces", str(row.id)))
    ids: list[str] = []
    images, parsings, unusable = [], [], []
    for row in ordered:
        if len(ids) == most:
            break
        try:
            image, parsing = _load(str(row.path), None if parser is not None else str(row.labels_path), parser, size)
        except ImageError as error:
            unusable.append(f"{row.id}: {error}")
            continue
        ids.append(str(row.id))
        images.append(image)
        parsings.append(parsing)
    if not ids:
        first = f", first: {unusable[0]}" if unusable else ""
        raise ValueError(f"no usable face among {len(rows)} (fold {fold}){first}")
    return FaceBank(ids=tuple(ids), images=np.stack(images), parsings=np.stack(parsings)), unusable


def _load(
    path: str, labels_path: str | None, parser: FaceParser | None, size: int
) -> tuple[UInt8[np.ndarray, "s s 3"], UInt8[np.ndarray, "s s"]]:
    image = read_image(path)
    if abs(image.shape[0] - image.shape[1]) > 1:
        raise ImageError(f"{path}: is no aligned crop: {image.shape[1]} x {image.shape[0]} pixels, not square")
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    if parser is None:
        assert labels_path is not None
        labels = read_labels(Path(labels_path))
        worn = np.isin(labels, (CELEBAMASK_GLASSES, CELEBAMASK_HAT)).mean() > _WORN_SHARE
        parsing = cv2.resize(celebamask_to_12(labels), (size, size), interpolation=cv2.INTER_NEAREST_EXACT)
    else:
        parsing = parse_faces(parser, pictures([image]))[0].numpy()
        worn = (parsing == _GLASSES).mean() > _WORN_SHARE
    if worn:
        raise ImageError(f"{path}: wears glasses or a hat")
    if not face_region(parsing).any():
        raise ImageError(f"{path}: no face is seen in it")
    return image, parsing

"""Cut-outs: occluders with an alpha channel, cropped to what is visible."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from s3pot.data.folds import Fold, fold_of_cutouts

# A full-size photograph of a hand is shrunk once at load: no composite is rendered larger than this.
MAX_SIDE = 400


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """One occluder.

    Attributes:
        id: "kind/stem", unique in a collection.
        kind: hands, sunglasses, spectacles, scarves, objects, masks, emoji ...
        rgba: (H, W, 4) uint8, straight (not premultiplied) alpha, cropped to its visible part.
    """

    id: str
    kind: str
    rgba: UInt8[np.ndarray, "h w 4"]


def list_cutouts(root: Path, fold: Fold | None = None) -> list[tuple[str, Path]]:
    """List (kind, path) of the cut-outs below `root/<kind>/`, in a stable order.

    Args:
        root: folder with one sub-folder per kind.
        fold: keep only the cut-outs of this fold; None keeps all (a `val` folder is not split).

    Raises:
        FileNotFoundError: if there is no cut-out.
    """
    found: list[tuple[str, Path]] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".png", ".webp"})
        folds = fold_of_cutouts(folder.name, [path.stem for path in paths]) if paths else {}
        found += [(folder.name, path) for path in paths if fold is None or folds[path.stem] == fold]
    if not found:
        raise FileNotFoundError(f"no cut-outs (.png, .webp with alpha) of fold {fold} below {root}/<kind>/")
    return found


def load_cutout(kind: str, path: Path) -> Cutout:
    """Read one cut-out, cropped to alpha > 8 and at most `MAX_SIDE` pixels on its long side.

    Raises:
        ValueError: if nothing of it is visible.
    """
    with Image.open(path) as opened:
        image = opened.convert("RGBA")
    box = image.getchannel("A").point(lambda alpha: 255 if alpha > 8 else 0).getbbox()
    if box is None:
        raise ValueError(f"{path}: nothing is visible (alpha is nowhere above 8 of 255)")
    image = image.crop(box)
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return Cutout(id=f"{kind}/{path.stem}", kind=kind, rgba=np.asarray(image, dtype=np.uint8).copy())

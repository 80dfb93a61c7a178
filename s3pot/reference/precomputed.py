"""References that somebody else made: a folder of pictures instead of a generator.

The reference of image `album/anna.jpg` is `album/anna.png` (or .jpg, .jpeg, .webp) in the folder, in the aligned frame:
the face it shows lies where it lies in the aligned picture.
"""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from s3pot.images import IMAGE_SUFFIXES, ImageError, read_image

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
# Sides rounded to whole pixels may shift the shape of a picture by so much.
_SHAPE_TOLERANCE = 0.02


class PrecomputedReferences:
    """A folder of references.

    Args:
        folder: holds one picture per image id.

    Raises:
        FileNotFoundError: if there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder of precomputed references")
        self.folder = folder

    def listing(self) -> str:
        """Hash names and sizes of all files: what these references are, without reading a million pictures."""
        files = sorted((path.relative_to(self.folder).as_posix(), path) for path in self.folder.rglob("*"))
        sizes = [(name, path.stat().st_size) for name, path in files if path.is_file()]
        return hashlib.sha256(json.dumps(sizes).encode()).hexdigest()[:16]

    def find(self, image_id: str) -> Path:
        """Return the file of an image's reference.

        Raises:
            ImageError: if there is none, or the id leads out of the folder.
        """
        named = Path(image_id)
        if not named.name or named.is_absolute() or ".." in named.parts:
            raise ImageError(f"{image_id}: leads out of the folder of references {self.folder}")
        # The id may be a file name or not: "v1.5" must not lose its "5".
        stems = [named, named.with_suffix("")] if named.suffix.lower() in IMAGE_SUFFIXES else [named]
        for stem in stems:
            for suffix in ("", *_SUFFIXES):
                path = self.folder / stem.with_name(stem.name + suffix)
                if path.is_file():
                    return path
        raise ImageError(
            f"{image_id}: no reference in {self.folder} (looked for {named.stem} with {', '.join(_SUFFIXES)})"
        )

    def read(self, image_id: str, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
        """Read the reference of an image.

        Args:
            image_id: id of the image.
            size: (height, width) of its aligned picture; a reference of another resolution is resized.

        Returns:
            (height, width, 3) uint8 RGB.

        Raises:
            ImageError: if there is none, or it is unreadable or of another shape than the picture.
        """
        path = self.find(image_id)
        reference = read_image(path)
        height, width = size
        if reference.shape[:2] == size:
            return reference
        if abs(reference.shape[0] / reference.shape[1] / (height / width) - 1.0) > _SHAPE_TOLERANCE:
            raise ImageError(
                f"{path}: a reference lies over its aligned picture, which is {height} x {width} (height x width), got "
                f"{reference.shape[0]} x {reference.shape[1]}"
            )
        smaller = width < reference.shape[1]
        return cv2.resize(reference, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)

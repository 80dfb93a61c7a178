"""The full face that a segmented visible face is taken from: occlusion = full face minus visible face [S3POT §4.1].

The paper converts "using full face mask" and does not say which. Three can be had, and results say which was taken:

    stored   the completed parsing of the store, which a system has in life; the same for every method
    region   R of the clean labels: truth, an upper bound
    FOLDER   masks <id>.png of the original frame, 255 = face
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from s3pot.evaluation import read_truth, stored_face
from s3pot.images import decode_png

STORED, REGION = "stored", "region"


@dataclass(frozen=True, kw_only=True)
class FullFace:
    """Where full faces come from.

    Attributes:
        source: `stored`, `region`, or a folder.
    """

    source: str = STORED

    def __post_init__(self) -> None:
        """Check the folder."""
        if self.source not in (STORED, REGION) and not Path(self.source).is_dir():
            raise ValueError(f"full_face must be {STORED}, {REGION} or a folder of <id>.png, got {self.source}")

    def of(self, row: Any) -> Bool[np.ndarray, "h w"]:
        """Return the full face of a manifest row, original frame.

        Raises:
            ValueError: if the row names no region, or the mask is of another size than the image.
            OSError: if a file cannot be read.
        """
        if self.source == STORED:
            return stored_face(row)
        if self.source == REGION:
            region = read_truth(row).region
            if region is None:
                raise ValueError(f"{row.id}: full_face=region needs a region_path, and its manifest names none")
            return region
        path = Path(self.source) / f"{row.id}.png"
        face: Bool[np.ndarray, "h w"] = decode_png(path.read_bytes(), str(path)) > 127
        if face.shape != (row.original_height, row.original_width):
            raise ValueError(f"{path}: is {face.shape}, the image {row.original_height} x {row.original_width}")
        return face

"""One prediction of a method for one image: a file, what its values mean, and which pixels it lies over.

Nothing is guessed. A wrong label order or frame gives plausible masks and wrong numbers, so each is named.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from s3pot.parsing.classes import CLASSES, LABEL_ORDERS, face_mask, table_to_12

Encoding = Literal["nonzero", "above-127", "above", "labels", "color", "logits"]
Frame = Literal["original", "stretched", "aligned", "model", "crop"]
Target = Literal["occlusion", "visible_face", "parts"]
OURS = "s3pot"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a file holds.

    Attributes:
        path: PNG or another image file, or .npy for logits.
        encoding: which values mean the target: `nonzero`; `above-127`; `above` the `threshold` (grey values of a lossy
            file); `labels` = ids of classes; `color` = pixels of one colour; `logits` = numbers of a .npy file, (H, W)
            above the `threshold`, or (C, H, W) one per class, the largest of which is the label.
        frame: pixels it lies over: `original` = those of the image; `stretched` = the whole image, resized to whatever
            size the file has; `aligned` = the face crop of the store, at any size; `model` = that crop in the upper
            left of a padded square, as SAM sees it, at any size; `crop` = the part of the image that `crop` says.
        target: `occlusion`; `visible_face`, from which follows occlusion = full face minus visible face; `parts` = a
            label map of face parts, whose counted classes are the visible face.
        label_order: of labels: one of the known orders (celebamask_hq, face_parsing_pytorch, segface; s3pot = our 12
            classes), or the names of the classes by id.
        classes: names that count as the target; empty = the face parts of a known order.
        color: (red, green, blue) of encoding `color`.
        threshold: of `above`, and of (H, W) logits.
        crop: of frame `crop`: left, top, width, height of the crop in pixels of the image; or the 6 numbers, row by
            row, of the (2, 3) map from pixels (x, y) of the file to pixels of the image.
    """

    path: Path
    encoding: Encoding = "above-127"
    frame: Frame = "original"
    target: Target = "occlusion"
    label_order: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    color: tuple[int, int, int] | None = None
    threshold: float = 0.0
    crop: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check that what is said fits together."""
        if self.target == "parts" and not self.is_label_map:
            raise ValueError("target=parts needs labels: encoding=labels or logits, and a label_order")
        if self.encoding == "labels" and not self.label_order:
            raise ValueError(f"encoding=labels needs a label_order: {', '.join([*LABEL_ORDERS, OURS])}, or the names")
        if (self.encoding == "color") != (self.color is not None):
            raise ValueError("encoding=color and a color belong together, such as #ff0000")
        if (self.frame == "crop") != bool(self.crop) or len(self.crop) not in (0, 4, 6):
            raise ValueError(f"frame=crop needs crop: left top width height, or 6 numbers of a map; got {self.crop}")
        if self.is_label_map:
            self.counted_ids()

    @property
    def is_label_map(self) -> bool:
        """Whether the file says classes."""
        return bool(self.label_order)

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes by id."""
        if len(self.label_order) > 1:
            return self.label_order
        name = self.label_order[0]
        if name == OURS:
            return CLASSES
        if name not in LABEL_ORDERS:
            raise ValueError(
                f"unknown label_order {name!r}: choose one of {', '.join([*LABEL_ORDERS, OURS])}, or name every class"
            )
        return LABEL_ORDERS[name]

    def counted_ids(self) -> tuple[int, ...]:
        """Return the ids of the classes that count as the target.

        Raises:
            ValueError: if a class is none of the order, or none is named where none can be assumed.
        """
        names = self.class_names()
        unknown = sorted(set(self.classes) - set(names))
        if unknown:
            raise ValueError(f"the label order knows no class {unknown[0]!r}: it has {', '.join(names)}")
        if self.classes:
            return tuple(names.index(name) for name in self.classes)
        if self.target == "occlusion" or len(self.label_order) > 1:
            raise ValueError(f"classes must name what counts as the {self.target}: some of {', '.join(names)}")
        ours = np.arange(len(names)) if names is CLASSES else table_to_12(self.label_order[0])  # type: ignore[arg-type]
        return tuple(np.flatnonzero(face_mask(ours.astype(np.uint8)[None])[0]).tolist())

"""Composites that need no data set: the astronaut photograph of scikit-image under drawn occluders.

For the demo and the tests. There are no labels of this face: its region R is what the embedded parser sees on the clean
crop, so truth is exact up to the outline of the face.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from skimage import data

from s3pot.alignment import crop_face
from s3pot.cascade import find_with_cascade
from s3pot.composite.compositor import compose, unoccluded
from s3pot.composite.drawn import drawn_cutouts
from s3pot.composite.rendering import NamedComposite
from s3pot.embedded import load_parser
from s3pot.parsing.network import PARSER_SIZE, parse_faces
from s3pot.seeding import generator

# Occluders that no training on these composites sees.
HELD_OUT_CUTOUTS = frozenset({"sunglasses/aviator", "masks/surgical", "objects/microphone"})


def astronaut_crops(number: int) -> list[UInt8[np.ndarray, "s s 3"]]:
    """Return aligned crops of the astronaut, each moved, turned, mirrored and lit a little differently.

    Raises:
        ValueError: if no face is found in the photograph.
    """
    photograph = data.astronaut()
    located = find_with_cascade(photograph)
    if located is None:
        raise ValueError("no face was found in scikit-image's astronaut photograph: is scikit-image intact?")
    face = crop_face(photograph, located, PARSER_SIZE)
    crops = []
    for index in range(number):
        rng = generator(0, "astronaut/crop", str(index))
        middle = PARSER_SIZE / 2
        matrix = cv2.getRotationMatrix2D((middle, middle), rng.normal(0, 4), rng.uniform(0.92, 1.12))
        matrix[:, 2] = matrix[:, 2] + rng.normal(0, 5, size=2)
        crop = cv2.warpAffine(face.image, matrix, (PARSER_SIZE, PARSER_SIZE), borderMode=cv2.BORDER_REFLECT_101)
        crop = crop[:, ::-1] if rng.random() < 0.5 else crop
        light = np.clip(crop * rng.uniform(0.8, 1.15) * (1 + rng.normal(0, 0.03, size=3)), 0, 255)
        crops.append(np.ascontiguousarray(light.astype(np.uint8)))
    return crops


def astronaut_composites(
    crops: Sequence[UInt8[np.ndarray, "s s 3"]], *, held_out: bool, clean: int = 0
) -> list[NamedComposite]:
    """Lay one drawn occluder over every crop.

    Args:
        crops: aligned crops.
        held_out: use the occluders in `HELD_OUT_CUTOUTS`, otherwise the others.
        clean: leave the first crops as they are.
    """
    cutouts = [cutout for cutout in drawn_cutouts() if (cutout.id in HELD_OUT_CUTOUTS) == held_out]
    name = "held-out" if held_out else "train"
    pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255.0
    parsings = parse_faces(load_parser(), pixels).numpy()
    named = []
    for index, (crop, parsing) in enumerate(zip(crops, parsings, strict=True)):
        if index < clean:
            composite = unoccluded(crop, parsing)
        else:
            rng = generator(0, f"astronaut/{name}", str(index))
            composite = compose(crop, parsing, [cutouts[index % len(cutouts)]], rng)
        named.append(
            NamedComposite(id=f"{name}-{index:02d}", face_id="astronaut", composite=composite, parsing=parsing)
        )
    return named

"""Face parser hole: what the completed face has and the parser's own face has not [S3POT Tab. 1, "face parsing"].

The published face parsers stand in the paper's table this way: the parts they name are the visible face, the rest of a
complete face mask is called occluded. Here the parser is that of the chain (BiSeNet, or the embedded one) with its
labels as they come, before completion.

The embedded parser was trained to parse *through* occluders: it calls a hand over the cheek skin on purpose, and leaves
holes for glasses alone. Its score says nothing about parsers that were not trained so; BiSeNet's does.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, UInt8

from s3pot.parsing.bisenet import BiSeNet, parse_faces_bisenet
from s3pot.parsing.classes import face_mask
from s3pot.parsing.network import FaceParser, parse_faces


def parser_holes(
    parser: FaceParser | BiSeNet,
    pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    full_faces: Sequence[Bool[np.ndarray, "_ _"]],
) -> list[Bool[np.ndarray, "_ _"]]:
    """Mark the full face where the parser sees no part of a face.

    Args:
        parser: of the chain, in eval mode.
        pictures: aligned pictures of one long side.
        full_faces: the completed faces.
    """
    holes = []
    for picture, full_face in zip(pictures, full_faces, strict=True):
        parsing = _parse(parser, picture)
        holes.append(full_face & ~face_mask(parsing))
    return holes


def _parse(parser: FaceParser | BiSeNet, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    height, width = picture.shape[:2]
    side = max(height, width)
    square = np.pad(picture, ((0, side - height), (0, side - width), (0, 0)))
    device = next(parser.parameters()).device
    pixels = torch.from_numpy(square).permute(2, 0, 1)[None].to(device).float() / 255.0
    seen = parse_faces_bisenet(parser, pixels) if isinstance(parser, BiSeNet) else parse_faces(parser, pixels)
    return seen[0, :height, :width].cpu().numpy()

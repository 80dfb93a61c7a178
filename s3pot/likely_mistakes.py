"""The ways to ask a network: as the chain does it, and as if a likely mistake had been made in feeding it.

A network whose answer is only good the other way round was trained to be fed so. Every function gives a dictionary from
the name of a way to a call that returns the answer; the first is the chain's own.
"""

from collections.abc import Callable
from typing import TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from s3pot.known_face import NOSE_TIP, KnownFace, middle_of
from s3pot.parsing.bisenet import BISENET_ORDER, BISENET_SIZE, BiSeNet, bisenet_input, parse_faces_bisenet
from s3pot.parsing.classes import LabelOrder, labels_to_12
from s3pot.parsing.network import FaceParser, parse_faces
from s3pot.reference.e4s.model import E4S
from s3pot.reference.e4s.references import generate_references_e4s
from s3pot.reference.generator import ReferenceGenerator, generate_references
from s3pot.resampling import resample
from s3pot.sam.preprocess import mask_to_picture
from s3pot.sam.promptable import PromptableSam

AS_THE_CHAIN, BGR = "as the chain does", "channels in the order BGR"

Parsing: TypeAlias = UInt8[np.ndarray, "s s"]
Picture: TypeAlias = UInt8[np.ndarray, "s s 3"]
Masks: TypeAlias = tuple[Bool[np.ndarray, "s s"], Bool[np.ndarray, "s s"]]


def ways_to_parse(
    parser: FaceParser | BiSeNet, face: KnownFace, device: torch.device
) -> dict[str, Callable[[], Parsing]]:
    """Parse the clean picture, (S, S) uint8 12 classes."""
    pixels = _pixels(face.clean, device)
    if not isinstance(parser, BiSeNet):
        return {
            AS_THE_CHAIN: lambda: _first(parse_faces(parser, pixels)),
            BGR: lambda: _first(parse_faces(parser, pixels.flip(1))),
        }

    def plain(shown: Tensor, order: LabelOrder = BISENET_ORDER) -> Parsing:
        with torch.no_grad():
            labels = resample(parser.main_logits(shown), face.clean.shape[:2]).argmax(dim=1)
        return labels_to_12(_first(labels.to(torch.uint8)), order)

    def in_order(order: LabelOrder) -> Callable[[], Parsing]:
        return lambda: plain(bisenet_input(pixels), order)

    small = resample(pixels, (BISENET_SIZE, BISENET_SIZE))
    return {
        AS_THE_CHAIN: lambda: _first(parse_faces_bisenet(parser, pixels)),
        BGR: lambda: plain(bisenet_input(pixels.flip(1))),
        "pictures in [-1, 1] rather than ImageNet normalisation": lambda: plain(small * 2.0 - 1.0),
        **{f"labels in the order {order}": in_order(order) for order in get_args(LabelOrder) if order != BISENET_ORDER},
    }


def ways_to_generate(
    generator: ReferenceGenerator | E4S, face: KnownFace, parsing: Parsing, device: torch.device
) -> dict[str, Callable[[], Picture]]:
    """Generate the reference of the occluded picture, (S, S, 3) uint8 RGB, along a parsing of the clean one."""
    pixels = _pixels(face.occluded, device)
    target = torch.from_numpy(parsing)[None].to(device)
    if not isinstance(generator, E4S):
        return {
            AS_THE_CHAIN: lambda: _first(generate_references(generator, pixels, target)),
            BGR: lambda: _swapped(_first(generate_references(generator, pixels.flip(1), target))),
        }
    bare = torch.from_numpy(~face.scarf)[None].to(device)

    def draw(shown: Tensor) -> Picture:
        # What the scarf hides describes no region, as where a parser sees that something lies there.
        return _first(generate_references_e4s(generator, shown, target, target, bare))

    return {
        AS_THE_CHAIN: lambda: draw(pixels),
        BGR: lambda: _swapped(draw(pixels.flip(1))),
        # This undoes, before and after, what `generate_references_e4s` does about [-1, 1].
        "pictures in [0, 1] rather than [-1, 1]": lambda: _without_offset(draw((pixels + 1.0) / 2.0)),
    }


def ways_to_prompt(sam: PromptableSam, face: KnownFace) -> dict[str, Callable[[], Masks]]:
    """Ask SAM for the thing at one point: the nose tip of the clean picture, and the middle of the scarf.

    The answers are two masks, (S, S) bool.
    """
    side = len(face.clean)
    nose, scarf = (int(NOSE_TIP[0] * side), int(NOSE_TIP[1] * side)), middle_of(face.scarf)

    def both(change: Callable[[Picture], Picture]) -> Masks:
        return _mask_of_point(sam, change(face.clean), nose), _mask_of_point(sam, change(face.occluded), scarf)

    return {AS_THE_CHAIN: lambda: both(lambda picture: picture), BGR: lambda: both(_swapped)}


@torch.no_grad()
def _mask_of_point(sam: PromptableSam, picture: Picture, point_xy: tuple[int, int]) -> Bool[np.ndarray, "s s"]:
    tokens, _ = sam.encode([picture])
    side = len(picture)
    model_xy = (torch.tensor([[point_xy]], device=sam.device) + 0.5) * (sam.image_size / side) - 0.5
    one = torch.ones(1, 1, dtype=torch.long, device=sam.device)
    logits = sam.decode(tokens, sam.embed_points(model_xy, one), one.bool())
    return _first(mask_to_picture(logits, (side, side), sam.image_size) > 0)


def _pixels(picture: Picture, device: torch.device) -> Float[Tensor, "1 3 s s"]:
    # The same layout in memory as in the chain, and with it the same rounding.
    return torch.from_numpy(picture[None]).permute(0, 3, 1, 2).to(device).float() / 255.0


def _first(batch: Tensor) -> np.ndarray:
    return batch[0].cpu().numpy()


def _swapped(picture: Picture) -> Picture:
    return np.ascontiguousarray(picture[..., ::-1])


def _without_offset(picture: Picture) -> Picture:
    return np.clip(2.0 * picture - 255.0, 0, 255).astype(np.uint8)

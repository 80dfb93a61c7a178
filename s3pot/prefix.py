"""The frozen prefix: everything before the reweighter, computed once per image [design 3].

    aligned picture -> parsing -> completed parsing -> reference
                    -> image tokens, reference tokens -> initial prompt -> enhanced tokens -> occlusion and face prompts

Frames: an aligned picture has its long side equal to the working size; parsing, reference and masks share its frame. It
is padded at the bottom and right for the networks, and tokens in padding take no part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from s3pot.head.records import PromptRecord
from s3pot.padding import crop_back, stack_padded, to_pixels
from s3pot.parsing.bisenet import BiSeNet, parse_faces_bisenet
from s3pot.parsing.classes import face_mask
from s3pot.parsing.completion import complete_parsing
from s3pot.parsing.network import PARSER_SIZE, FaceParser, parse_faces
from s3pot.prefix_config import PrefixConfig
from s3pot.prompt_drawing import DrawnPrompts, Status, draw_prompts
from s3pot.reference.degradation import degrade_reference
from s3pot.reference.e4s.model import E4S
from s3pot.reference.e4s.references import generate_references_e4s
from s3pot.reference.generator import ReferenceGenerator, generate_references
from s3pot.reference.precomputed import PrecomputedReferences
from s3pot.sam.promptable import PromptableSam
from s3pot.seeding import torch_generator

__all__ = [
    "DrawnPrompts",
    "FrozenPrefix",
    "PrefixConfig",
    "PrefixResult",
    "ReferenceStage",
    "Status",
    "contrast",
    "draw_prompts",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class PrefixResult:
    """All stages of one image.

    Attributes:
        id: image id.
        status: "ok", or what is missing; an empty prompt set is a result, not an error [design 5.13].
        parsing: (H, W) uint8 completed parsing.
        face_mask: (H, W) bool, M_f.
        reference: (H, W, 3) uint8.
        image_tokens: (C, h, w) float32.
        reference_tokens: (C, h, w) float32.
        similarity: (h*w,) float32 cosine of the contrasted tokens, place by place.
        initial_prompt: id of p_i; None without a face.
        occlusion_prompts: ids, positive.
        face_prompts: ids, negative.
    """

    id: str
    status: Status
    parsing: UInt8[np.ndarray, "h w"]
    face_mask: Bool[np.ndarray, "h w"]
    reference: UInt8[np.ndarray, "h w 3"]
    image_tokens: Float[Tensor, "c th tw"]
    reference_tokens: Float[Tensor, "c th tw"]
    similarity: Float[Tensor, " t"]
    initial_prompt: int | None
    occlusion_prompts: Int64[Tensor, " o"]
    face_prompts: Int64[Tensor, " n"]

    def record(self) -> PromptRecord:
        """Return what the head needs."""
        return PromptRecord(
            id=self.id,
            image_tokens=self.image_tokens,
            occlusion_prompts=self.occlusion_prompts,
            face_prompts=self.face_prompts,
        )


class ReferenceStage:
    """Parser and reference generator: the half of the prefix that needs no SAM.

    Args:
        parser: face parser, the embedded one or BiSeNet.
        generator: the embedded reference generator, E4S, or a folder of precomputed references.
        config: what to do.
        device: where the networks are.
        size: working size, the long side of aligned pictures in pixels. Every network brings them to its own size.
    """

    def __init__(
        self,
        parser: FaceParser | BiSeNet,
        generator: ReferenceGenerator | E4S | PrecomputedReferences,
        config: PrefixConfig,
        device: torch.device,
        *,
        size: int = PARSER_SIZE,
    ) -> None:
        self.parser, self.generator, self.config, self.device, self.size = parser, generator, config, device, size

    def imagine(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], ids: Sequence[str]
    ) -> tuple[list[UInt8[np.ndarray, "_ _"]], list[UInt8[np.ndarray, "_ _ 3"]]]:
        """Return the completed parsings of aligned pictures and their references.

        Args:
            images: (H, W, 3) uint8 RGB, long side equal to the working size.
            ids: image ids.

        Raises:
            ValueError: if a picture has another size.
            ImageError: if a precomputed reference is missing or cannot be read.
        """
        _check_size(images, ids, self.size)
        with torch.no_grad():
            seen = self._parse(images)
            parsings = self._complete(seen)
            return parsings, self._generate(images, ids, seen, parsings)

    def _complete(self, seen: Sequence[np.ndarray]) -> list[UInt8[np.ndarray, "_ _"]]:
        return [complete_parsing(row, self.config.completion) for row in seen]

    def _parse(self, images: Sequence[np.ndarray]) -> list[UInt8[np.ndarray, "_ _"]]:
        pixels = to_pixels(images, self.size, self.device)
        if isinstance(self.parser, BiSeNet):
            return crop_back(parse_faces_bisenet(self.parser, pixels), images)
        return crop_back(parse_faces(self.parser, pixels), images)

    def _generate(
        self,
        images: Sequence[np.ndarray],
        ids: Sequence[str],
        seen: Sequence[np.ndarray],
        completed: Sequence[np.ndarray],
    ) -> list[UInt8[np.ndarray, "_ _ 3"]]:
        generator = self.generator
        if isinstance(generator, PrecomputedReferences):
            return [generator.read(name, image.shape[:2]) for name, image in zip(ids, images, strict=True)]
        pixels, target = to_pixels(images, self.size, self.device), stack_padded(completed, self.size, self.device)
        if not isinstance(generator, E4S):
            return crop_back(generate_references(generator, pixels, target), images)
        valid = stack_padded([np.ones(image.shape[:2], dtype=bool) for image in images], self.size, self.device)
        noise = None
        if self.config.fresh_noise:
            noise = [torch_generator(self.config.seed, "fresh_noise", image_id, self.device) for image_id in ids]
        drawn = generate_references_e4s(
            generator, pixels, stack_padded(seen, self.size, self.device), target, valid, noise
        )
        return crop_back(drawn, images)


class FrozenPrefix(ReferenceStage):
    """Parser, reference generator and SAM, run as one batch.

    Args:
        parser: face parser, the embedded one or BiSeNet.
        generator: the embedded reference generator, E4S, or a folder of precomputed references.
        sam: promptable SAM, on the same device.
        config: what to do.
        size: working size, the long side of aligned pictures in pixels. Every network brings them to its own size.
    """

    def __init__(
        self,
        parser: FaceParser | BiSeNet,
        generator: ReferenceGenerator | E4S | PrecomputedReferences,
        sam: PromptableSam,
        config: PrefixConfig,
        *,
        size: int = PARSER_SIZE,
    ) -> None:
        super().__init__(parser, generator, config, sam.device, size=size)
        self.sam = sam

    def run(
        self,
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        ids: Sequence[str],
        *,
        parsings: Sequence[UInt8[np.ndarray, "_ _"]] | None = None,
        references: Sequence[UInt8[np.ndarray, "_ _ 3"]] | None = None,
    ) -> list[PrefixResult]:
        """Run the prefix over aligned pictures.

        Args:
            images: (H, W, 3) uint8 RGB, long side equal to the working size.
            ids: image ids.
            parsings: completed parsings to use instead of the parser's (a label, an oracle).
            references: references to use instead of the generator's (precomputed, or the clean image as an oracle).

        Raises:
            ValueError: if a picture has another size, or a parsing or reference that of another picture.
            ImageError: if a precomputed reference is missing or cannot be read.
        """
        _check_size(images, ids, self.size)
        with torch.no_grad():
            seen = self._parse(images) if parsings is None else parsings
            _check_frames("parsing", seen, images, ids)
            if parsings is None:
                parsings = self._complete(seen)
            if references is None:
                references = self._generate(images, ids, seen, parsings)
            return contrast(self.sam, self.config, images, ids, parsings, references)


@torch.no_grad()
def contrast(
    sam: PromptableSam,
    config: PrefixConfig,
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    ids: Sequence[str],
    parsings: Sequence[UInt8[np.ndarray, "_ _"]],
    references: Sequence[UInt8[np.ndarray, "_ _ 3"]],
) -> list[PrefixResult]:
    """Encode aligned pictures and their references and draw the prompts: the half of the prefix that needs only SAM.

    Args:
        sam: promptable SAM.
        config: what to do.
        images: (H, W, 3) uint8 RGB of one long side.
        ids: image ids.
        parsings: completed parsings.
        references: references.

    Raises:
        ValueError: if a parsing or reference lies over another picture.
    """
    _check_frames("parsing", parsings, images, ids)
    _check_frames("reference", references, images, ids)
    references = [degrade_reference(reference, config.reference_degradation) for reference in references]
    image_tokens, valid = sam.encode(images)
    reference_tokens, _ = sam.encode(references)
    masks = [face_mask(parsing) for parsing in parsings]
    drawn = draw_prompts(sam, config, ids, masks, image_tokens, reference_tokens, valid)
    return [
        PrefixResult(
            id=image_id,
            status=prompts.status,
            parsing=parsings[row],
            face_mask=masks[row],
            reference=references[row],
            image_tokens=image_tokens[row].cpu(),
            reference_tokens=reference_tokens[row].cpu(),
            similarity=prompts.similarity,
            initial_prompt=prompts.initial_prompt,
            occlusion_prompts=prompts.occlusion_prompts,
            face_prompts=prompts.face_prompts,
        )
        for row, (image_id, prompts) in enumerate(zip(ids, drawn, strict=True))
    ]


def _check_size(images: Sequence[np.ndarray], ids: Sequence[str], size: int) -> None:
    for image, image_id in zip(images, ids, strict=True):
        if max(image.shape[:2]) != size:
            raise ValueError(f"{image_id}: an aligned picture has a long side of {size}, got {image.shape}")


def _check_frames(what: str, given: Sequence[np.ndarray], images: Sequence[np.ndarray], ids: Sequence[str]) -> None:
    """Refuse what does not lie over its picture pixel for pixel: other places would be compared without a word."""
    for array, image, image_id in zip(given, images, ids, strict=True):
        if array.shape[:2] != image.shape[:2]:
            raise ValueError(f"{image_id}: the {what} is {array.shape[:2]}, the aligned picture {image.shape[:2]}")
